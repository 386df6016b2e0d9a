"""Reading the JSON descriptions in folders that anybody may have touched.

Jobs, calibrations and models are folders: copied by hand, half deleted,
edited, restored from a tape. One folder that cannot be read must neither hide
the others nor end a process, and must not vanish either: a listing names it,
with the reason. So every description is read here, and whatever is odd about
it becomes one kind of error.
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
"""The largest description, a model's with the log of its training, has about 100 kB."""

_DEEPEST = 64
"""Levels of nesting; descriptions have fewer than 10, and what writes answers stops at about 250."""

_REMEDY = "Restore the folder from a copy, or move it away."

Item = TypeVar("Item")
Description = TypeVar("Description", bound=BaseModel)


class FolderUnreadable(DataError):
    """A folder of the data directory is there and cannot be read as what it should be."""

    kind = "folder-unreadable"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder that a list leaves out, and why.

    Attributes
    ----------
    folder : in the data directory: ``calibrations/beads``
    problem, remedy : what is wrong with it, and what to do about it
    """

    folder: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Listing(Page[Item], Generic[Item]):
    """A page of a list of folders, and the folders that cannot be read."""

    unreadable: list[Unreadable]


def unreadable(folder: Path, reason: str) -> FolderUnreadable:
    """The error for `folder`, which is two levels below the data directory: its kind and its name are told."""
    place = f"{shown_name(folder.parent.name)}/{shown_name(folder.name)}"
    return FolderUnreadable(f"{place} cannot be read: {reason}.", _REMEDY)


def shown_name(name: str) -> str:
    """A file's name as text that can be shown and sent: what is no printable character is written as its code."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def entries_of(root: Path) -> list[Path]:
    """What lies in the folder `root`, sorted, without what begins with a dot; empty when there is no such folder.

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
            "It must be a folder that the service may read; mend its permissions, or move what is there away.",
        ) from error


def read_bytes(path: Path, most: int, *, tail: bool = False) -> bytes:
    """The content of a regular file; never waits, as reading a named pipe would.

    Parameters
    ----------
    path : Path
    most : int
        Bytes; a longer file is refused, or only its end is read.
    tail : bool
        Whether the end of a longer file is wanted.

    Raises
    ------
    OSError
        When it cannot be read, is no regular file, or is too long.
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
    """The JSON object in the file `path`, as plain data that can be sent on; an undefined number is None.

    Raises
    ------
    FileNotFoundError
        When there is no such file, in a folder that can be read.
    FolderUnreadable
        When it cannot be read, is too large or no regular file, is no JSON object, is nested too deeply, or holds
        what is no text.
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
    """`values`, read from the file `name` in `folder`, as `kind`.

    Raises
    ------
    FolderUnreadable
        When a value is missing, of another type, or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        given = "" if fault["type"] == "missing" else f" is {shown_name(repr(fault['input'])[:60])}"
        raise unreadable(folder, f"in {name}, {shown_name(where)}{given}: {fault['msg']}") from error


def _fault(values: dict[str, Any]) -> str | None:
    """What of `values` could not be sent on as JSON; infinite numbers become None in place."""
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
