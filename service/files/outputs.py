"""Write files and folders so that they appear only when they are complete.

A file or folder is written beside its destination and renamed at the end. A
cancelled or failed command therefore leaves an earlier output unchanged. When
the destination is a link, its target is written. A full or read-only disk
gives the same message, whichever library raised the error.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import DataError

__all__ = ["check_destination", "check_json", "complete_output", "explain_full_disk", "write_json"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EIO}
# Names of open files, such as /dev/stdout, which the shell may redirect to any file.
_OPEN_FILES = re.compile(r"/dev/(?:std(?:in|out|err)|fd/.*)|/proc/[^/]+/fd/.*")
_LONG_NAME_BYTES = 200
_REMOVAL_TRIES = 30
_REMOVAL_PAUSE_S = 0.1


@contextmanager
def complete_output(destination: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a temporary path; rename it to `destination` when the block succeeds, remove it when it fails.

    Parameters
    ----------
    destination : Path
        Path of the output. Its folder is created when missing.
    is_ours : callable
        Whether an existing `destination` is a Bathyscope output of the same kind, which may be replaced.

    Raises
    ------
    DataError
        When `destination` exists and is something else, cannot be written, or does not fit on the disk.
    """
    check_destination(destination, is_ours)
    place = _place(destination)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # The name marks leftovers of a killed job, which are removed later. Very long names leave no room for it.
        prefix = f".{place.name}." if len(os.fsencode(place.name)) <= _LONG_NAME_BYTES else "."
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
    except OSError as error:
        raise _refusal(destination, error) from error
    # The name is kept, because some formats depend on its suffix.
    before, written = aside / "before", aside / "new" / place.name
    try:
        with explain_full_disk(destination):
            written.parent.mkdir()
            yield written
        try:
            if place.is_dir():
                os.replace(place, before)
            os.replace(written, place)
        except OSError as error:
            if before.exists():
                os.replace(before, place)
            raise _refusal(destination, error) from error
    finally:
        _remove(aside)


def check_destination(destination: Path, is_ours: Callable[[Path], bool]) -> None:
    """Refuse a destination that `complete_output` would refuse. For commands that work long before they write.

    Raises
    ------
    DataError
        When `destination` names no file or folder, or exists and is something else.
    """
    place = _place(destination)
    try:
        free = not place.exists() or is_ours(place) or (place.is_dir() and not any(place.iterdir()))
        above = next(folder for folder in place.parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refusal(destination, error) from error
    if not free:
        raise DataError(
            f"{destination} exists and is not an output of this kind; only such an output is replaced.",
            "Choose another place for the output, or move the existing file or folder.",
        )


def check_json(destination: Path | None) -> None:
    """Refuse a destination for JSON figures that is not a JSON file of figures. Called before the work.

    Raises
    ------
    DataError
        When `destination` is a folder, or a file without a JSON object.
    """
    if destination is not None:
        check_destination(destination, _is_json)
        if destination.is_dir():
            raise DataError(f"{destination} is a folder; figures are written to a file.", "Name a file in it.")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, completely or not at all. NaN is refused.

    Raises
    ------
    DataError
        When `path` cannot be written.
    """
    place = _place(path)
    aside = place.with_name(f".bathyscope-{os.getpid()}-{threading.get_ident()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(aside, place)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        # When the folder cannot be written, the temporary file does not exist.
        with contextlib.suppress(OSError):
            aside.unlink()


def _place(destination: Path) -> Path:
    """The file or folder that a path leads to, with links resolved.

    Raises
    ------
    DataError
        When it is a device, a pipe or a socket, which the renaming would replace by a file.
    """
    if not destination.name:
        raise DataError(f"{os.fspath(destination)!r} names no output.", "Give the name of a file or folder.")
    absolute = os.path.abspath(destination)
    place = Path(os.path.realpath(destination))
    try:
        ordinary = not _OPEN_FILES.fullmatch(absolute) and (place.is_file() or place.is_dir() or not place.exists())
    except OSError as error:
        raise _refusal(destination, error) from error
    if not ordinary:
        raise DataError(
            f"{destination} is no ordinary file; an output is written beside it first and then renamed.",
            "Give the name of a file or folder.",
        )
    return place


def _is_json(path: Path) -> bool:
    """Whether a file contains a JSON object, which is the form of figures."""
    try:
        return path.is_file() and isinstance(json.loads(path.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False


def _remove(folder: Path) -> None:
    """Remove a folder into which threads of a library may still write, as those of Zarr do after an error."""
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)


@contextmanager
def explain_full_disk(destination: Path) -> Iterator[None]:
    """Replace exceptions of a full or read-only disk by `DataError`. Other exceptions pass unchanged."""
    try:
        yield
    except Exception as error:
        if _disk_errno(error) is None:
            raise
        raise _refusal(destination, error) from error


def _disk_errno(error: Exception) -> int | None:
    """Error number of a full or read-only disk; None for any other error."""
    if isinstance(error, OSError) and error.errno in _FULL | _UNWRITABLE:
        return error.errno
    # Libraries in Rust or C++ keep the message of the system, but not its number.
    message = str(error)
    return next((number for number in _FULL if os.strerror(number) in message), None)


def _refusal(destination: Path, error: Exception) -> DataError:
    number = _disk_errno(error)
    if number in _FULL:
        return DataError(
            f"There is no room for {destination}: the disk is full, or a quota is used up.",
            "Nothing was written. Free some space, or choose a place on another disk.",
        )
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return DataError(
        f"{destination} cannot be written ({reason}); its folder must be writable, or must be possible to create.",
        "Nothing was written. Choose another place, or change the permissions.",
    )
