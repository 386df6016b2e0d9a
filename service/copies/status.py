"""The file in which the copies process states its figures, and which the metrics read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog

from models.errors import DataError
from service.copies.copier import COPIES, CopierFigures
from service.files.outputs import write_json
from service.store.errors import StoreError
from service.store.store import Store

__all__ = ["CopiesStatus", "read_status"]

_STATUS = "status.json"

_COUNTED_S = 10.0
"""Time between two looks at the states of all recordings."""

_log = structlog.get_logger(__name__)


class CopiesStatus:
    """Writes the figures of a copier, and how many recordings wait.

    Parameters
    ----------
    data_dir : Path
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / COPIES / _STATUS
        self._counted: dict[str, Any] = {}
        self._due_s = 0.0

    def write(self, figures: CopierFigures, store: Store) -> None:
        """Write them now. A full disk or a database that does not respond is left to the next call."""
        try:
            if time.monotonic() >= self._due_s:
                found = store.copies.counts()
                self._counted = {"recordings": dict(found.counts), "oldest_waiting_s": found.oldest_waiting_s}
                self._due_s = time.monotonic() + _COUNTED_S
            write_json(self._path, {**figures.values(), **self._counted})
        except (DataError, StoreError) as error:
            _log.debug("status_not_written", error=str(error))


def read_status(data_dir: Path) -> dict[str, Any]:
    """What the copies process wrote last; empty when it wrote nothing."""
    try:
        values = json.loads((data_dir / COPIES / _STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
