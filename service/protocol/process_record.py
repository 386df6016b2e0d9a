"""The supervisor's record of its processes: a JSON file that the other processes read.

The API reads it to explain why the engine does not reply. It is a file because
it must be readable while no process but the reader is alive.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

__all__ = ["RECORD_ASIDE", "RECORD_FILE", "ProcessRecord"]

RECORD_FILE = "processes.json"
RECORD_ASIDE = "processes.new"
"""Name of the file while it is being written."""

_LIMIT_S = 15.0
"""The supervisor writes its record every second; when it is older than this, it cannot be written, or it hangs."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """The record at `path`, in the private folder of the sockets."""

    path: Path

    def write(self, processes: Mapping[str, Any]) -> None:
        """Replace the record, complete or not at all.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        aside = self.path.with_name(RECORD_ASIDE)
        text = json.dumps({"written_s": time.monotonic(), "processes": processes})
        try:
            aside.write_text(text, encoding="utf-8")
        except FileNotFoundError:
            os.mkdir(self.path.parent, mode=0o700)
            aside.write_text(text, encoding="utf-8")
        os.replace(aside, self.path)

    def processes(self) -> dict[str, Any]:
        """State of each process, ``{name: {state, pid, restarts, problem}}``; empty when there is no record."""
        return cast(dict[str, Any], self._read().get("processes", {}))

    def trouble(self) -> str | None:
        """A sentence when the record is too old; None when it is new, or there is none."""
        written_s = self._read().get("written_s")
        # The clock counts from the start of the machine, so it is the same for all processes.
        age_s = None if written_s is None else time.monotonic() - written_s
        if age_s is not None and age_s > _LIMIT_S:
            return f"The supervisor has not written its record ({self.path}) for {age_s:.0f} s."
        return None

    def _read(self) -> dict[str, Any]:
        try:
            return cast(dict[str, Any], json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}
