"""Outputs that appear only when they are complete.

A file or folder is written beside its destination and renamed at the end, so
that a cancelled or failed command leaves what was there before.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import DataError

__all__ = ["complete_output", "write_json"]


@contextmanager
def complete_output(destination: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a path to write to; rename it to `destination` when the block succeeds, remove it when it fails.

    Parameters
    ----------
    destination : Path
        Where the output is to be. Its folder is made when missing.
    is_ours : callable
        Tells whether an existing `destination` is a Bathyscope output of the same kind, which is replaced.

    Raises
    ------
    DataError
        When `destination` exists and is something else.
    """
    if destination.exists() and not (is_ours(destination) or (destination.is_dir() and not any(destination.iterdir()))):
        raise DataError(
            f"{destination} exists and is not an output of this kind; only such an output is replaced.",
            "Choose another --out, or move what is there away.",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        yield aside / destination.name
        if destination.is_dir():
            shutil.rmtree(destination)
        os.replace(aside / destination.name, destination)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, complete or not at all; NaN is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
