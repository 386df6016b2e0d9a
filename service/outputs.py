"""Outputs that appear only when they are complete.

A file or folder is written beside its destination and renamed at the end, so
that a cancelled or failed command leaves what was there before. A disk that
is full or must not be written to is named as such, whichever library met it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import DataError

__all__ = ["check_destination", "complete_output", "explain_full_disk", "write_json"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EIO}
_REMOVAL_TRIES = 30
_REMOVAL_PAUSE_S = 0.1


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
        When `destination` exists and is something else, cannot be written, or does not fit on the disk.
    """
    check_destination(destination, is_ours)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise _refusal(destination, error) from error
    before, written = aside / f"{destination.name}.before", aside / destination.name
    try:
        with explain_full_disk(destination):
            yield written
            if destination.is_dir():
                os.replace(destination, before)
            try:
                os.replace(written, destination)
            except OSError:
                if before.exists():
                    os.replace(before, destination)
                raise
    finally:
        _remove(aside)


def check_destination(destination: Path, is_ours: Callable[[Path], bool]) -> None:
    """Refuse a destination that `complete_output` would refuse, for work that takes long before it writes.

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


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, complete or not at all; NaN is refused.

    Raises
    ------
    DataError
        When `path` cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        # Where the folder cannot be written, there is nothing aside either.
        if aside.exists():
            aside.unlink()


def _remove(folder: Path) -> None:
    """Remove a folder that threads of a library may still write into: Zarr's do for a while after one has failed."""
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)


@contextmanager
def explain_full_disk(destination: Path) -> Iterator[None]:
    """Turn what a library raises on a disk that takes no more into a refusal; everything else passes."""
    try:
        yield
    except Exception as error:
        if _disk_trouble(error) is None:
            raise
        raise _refusal(destination, error) from error


def _disk_trouble(error: Exception) -> int | None:
    """Error number of a full or unwritable disk; None for any other trouble."""
    if isinstance(error, OSError) and error.errno in _FULL | _UNWRITABLE:
        return error.errno
    # Libraries that are written in Rust or C++ keep the system's words, but not its number.
    said = str(error)
    return next((number for number in _FULL if os.strerror(number) in said), None)


def _refusal(destination: Path, error: Exception) -> DataError:
    number = _disk_trouble(error)
    if number in _FULL:
        return DataError(
            f"There is no room for {destination}: the disk is full, or a quota is used up.",
            "Nothing was written. Free some space, or choose a place on another disk.",
        )
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    return DataError(
        f"{destination} cannot be written ({said}); its folder must exist or can be made, and be writable.",
        "Nothing was written. Choose another place, or change the permissions.",
    )
