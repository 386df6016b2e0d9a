"""Read the JSON description files of jobs, calibrations and models.

Users may copy, edit, partly delete or restore these folders by hand. A folder
that cannot be read must not hide the others and must not end a process. Lists
name it, with the reason. All descriptions are therefore read here, and every
fault in one raises the same type of error, `FolderUnreadable`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from models.errors import DataError
from service.store.pages import Page

__all__ = [
    "FolderUnreadable",
    "Listing",
    "Unreadable",
    "entries_of",
    "parse_description",
    "read_bytes",
    "read_description",
    "shown_name",
    "unreadable",
]

_MOST_BYTES = 64 * 2**20
"""Largest file that is read. The largest real description, of a model with its training log, has about 100 kB."""

_DEEPEST = 64
"""Most levels of nesting. Descriptions have fewer than 10; the JSON encoder of HTTP responses fails at about 250."""

_REMEDY = "Restore the folder from a copy, or move it away."

Item = TypeVar("Item")
Description = TypeVar("Description", bound=BaseModel)


class FolderUnreadable(DataError):
    """A folder of the data directory exists but cannot be read as a job, calibration or model."""

    kind = "folder-unreadable"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder that is not in a list because it cannot be read.

    Attributes
    ----------
    folder : path in the data directory: ``calibrations/beads``
    problem, remedy : the fault, and how to correct it
    """

    folder: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Listing(Page[Item], Generic[Item]):
    """A page of a list of folders, and the folders that cannot be read."""

    unreadable: list[Unreadable]


def unreadable(folder: Path, reason: str) -> FolderUnreadable:
    """The error for `folder`, which is two levels below the data directory. The message names these two levels."""
    place = f"{shown_name(folder.parent.name)}/{shown_name(folder.name)}"
    return FolderUnreadable(f"{place} cannot be read: {reason}.", _REMEDY)


def shown_name(name: str) -> str:
    """The name of a file with characters that are not printable replaced by their codes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def entries_of(root: Path) -> list[Path]:
    """Entries of the folder `root`, sorted, without names that begin with a dot; empty when the folder is missing.

    Raises
    ------
    FolderUnreadable
        When `root` itself cannot be listed.
    """
    try:
        return sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FolderUnreadable(
            f"The folder {shown_name(str(root))} cannot be listed ({error.strerror}).",
            "It must be a folder that the service may read; correct its permissions, or move the file that is there.",
        ) from error


def read_bytes(path: Path, most: int, *, tail: bool = False) -> bytes:
    """The content of a regular file. Other files are refused, because reading a named pipe would wait.

    Parameters
    ----------
    path : Path
    most : int
        Largest size, bytes. A longer file is refused, or only its end is read.
    tail : bool
        Whether to read the end of a longer file.

    Raises
    ------
    OSError
        When it cannot be read, is not a regular file, or is too long.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if about.st_size > most:
            if not tail:
                raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, and {most:,} are the most")
            file.seek(about.st_size - most)
        return file.read(most)


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`, which can be sent as JSON again. NaN and infinite numbers become None.

    Raises
    ------
    FileNotFoundError
        When there is no such file, in a folder that can be read.
    FolderUnreadable
        When it cannot be read, is too large, is not a regular file or not a JSON object, is nested too deeply, or
        contains a string that is not valid Unicode.
    """
    folder, name = path.parent, path.name
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")  # editors on Windows write a byte order mark
        values = json.loads(text, parse_constant=lambda _: None)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(folder, f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise unreadable(folder, f"{name} is not UTF-8 text") from error
    except RecursionError as error:
        raise unreadable(folder, f"{name} is nested too deeply") from error
    except ValueError as error:
        raise unreadable(folder, f"{name} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise unreadable(folder, f"{name} is no JSON object")
    if fault := _fault(values):
        raise unreadable(folder, f"{name} {fault}")
    return values


def parse_description(folder: Path, name: str, values: dict[str, Any], kind: type[Description]) -> Description:
    """Check `values`, which were read from the file `name` in `folder`, against the schema `kind`.

    Raises
    ------
    FolderUnreadable
        When a value is missing, has another type, or is out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        given = "" if fault["type"] == "missing" else f" is {shown_name(repr(fault['input'])[:60])}"
        raise unreadable(folder, f"in {name}, {shown_name(where)}{given}: {fault['msg']}") from error


def _fault(values: dict[str, Any]) -> str | None:
    """Why `values` cannot be sent as JSON, or None. Replaces NaN and infinite numbers by None, in place."""
    waiting: list[tuple[Any, int]] = [(values, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _DEEPEST:
            return "is nested too deeply"
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(value, dict | list):
                waiting.append((value, depth + 1))
            elif isinstance(value, float) and not math.isfinite(value):
                part[key] = None
            for text in (key, value):
                if isinstance(text, str) and not _is_text(text):
                    return f"holds {shown_name(text)[:60]!r}, which is no text"
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
