"""Access keys with roles: made, listed and revoked by a command, and kept as hashes in the data directory.

A key is 32 random bytes, so its SHA-256 needs neither salt nor many rounds:
nobody can guess it from the hash. The key itself is shown once, when it is
made. The file can be read while the database is locked, so the stop command
works then too.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from models.errors import DataError
from service.files.descriptions import FolderUnreadable, parse_description, read_description
from service.files.outputs import write_json

__all__ = ["ROLES", "AccessKeys", "KeyRecord", "Role", "hashed"]

Role = Literal["view", "operate", "administer"]
"""``view`` reads, ``operate`` also moves the microscope and starts runs and jobs, ``administer`` also deletes."""

ROLES: tuple[Role, ...] = get_args(Role)

_FILE = "access-keys.json"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z ._@-]{0,63}")
_KEY_BYTES = 32
_LOCK_S = 10.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key, without the key.

    Attributes
    ----------
    name : of its owner or use; audit lines have it
    role : what it allows
    made_at : ISO 8601, UTC
    sha256 : hash of the key, in hexadecimal digits
    """

    name: str
    role: Role
    made_at: str
    sha256: str


class _KeyEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Role
    made_at: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["bathyscope access keys"]
    keys: list[_KeyEntry]


class AccessKeys:
    """The keys of one data directory.

    Parameters
    ----------
    data_dir : Path
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _FILE
        self._lock = data_dir / ".access-keys.lock"

    def records(self) -> list[KeyRecord]:
        """All keys, oldest first; empty when there is no file.

        Raises
        ------
        DataError
            When the file is damaged or cannot be read: no key may be taken as absent then.
        """
        try:
            file = parse_description(self._path.parent, self._path.name, read_description(self._path), _KeyFile)
        except FileNotFoundError:
            return []
        except FolderUnreadable as error:
            raise DataError(
                f"The access keys in {self._path} cannot be read: {error.problem}",
                "Restore the file from a copy, or delete it and make new keys with bathyscope key add.",
            ) from error
        return [KeyRecord(**entry.model_dump()) for entry in file.keys]

    def state(self) -> tuple[int, int, int] | None:
        """What changes when the file changes; None when there is no file."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def add(self, name: str, role: Role) -> str:
        """Make a key and return it; it cannot be shown again.

        Raises
        ------
        DataError
            When the name is taken or has other characters, or the file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise DataError(
                f"{name[:80]!r} is no name of a key.",
                "Use up to 64 letters, digits, blanks and . _ @ -, with a letter or digit first.",
            )
        key = secrets.token_urlsafe(_KEY_BYTES)
        with self._changing() as keys:
            if any(record.name == name for record in keys):
                raise DataError(f"There is a key {name!r} already.", "Choose another name, or revoke that key first.")
            made_at = datetime.now(UTC).isoformat(timespec="seconds")
            keys.append(KeyRecord(name, role, made_at, hashed(key)))
        return key

    def revoke(self, name: str) -> None:
        """Delete a key; a running service refuses it within a second.

        Raises
        ------
        DataError
            When there is no such key, or the file cannot be read or written.
        """
        with self._changing() as keys:
            kept = [record for record in keys if record.name != name]
            if len(kept) == len(keys):
                names = ", ".join(record.name for record in keys) or "none"
                raise DataError(f"There is no key {name[:80]!r}.", f"The keys are: {names}.")
            keys[:] = kept

    @contextmanager
    def _changing(self) -> Iterator[list[KeyRecord]]:
        """The list of keys, which is written when the block succeeds; one process at a time changes it."""
        import filelock

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self._lock, timeout=_LOCK_S):
                keys = self.records()
                yield keys
                values: dict[str, Any] = {"kind": "bathyscope access keys", "keys": [asdict(record) for record in keys]}
                mask = os.umask(0o077)  # hashes are nobody else's business either
                try:
                    write_json(self._path, values)
                finally:
                    os.umask(mask)
        except filelock.Timeout as error:
            raise DataError("Another program changes the access keys.", "Try again when it has ended.") from error
        except OSError as error:
            raise DataError(
                f"The access keys in {self._path} cannot be changed ({error.strerror}).",
                "Correct the permissions of the data directory, or run the command as its owner.",
            ) from error


def hashed(key: str) -> str:
    """SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
