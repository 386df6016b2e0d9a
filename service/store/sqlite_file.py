"""The file of a SQLite database: made once, and after that only opened while it is the same file.

SQLite keeps committed data in a log beside the file until it is copied in,
and finds the log by its name. A new connection to another file of the same
name uses the log as its own, and empties it or copies it into the wrong file
(https://sqlite.org/howtocorrupt.html, 1.4 and 2.4). So only the migration makes
a file, each connection is compared with the file and the log that are in use,
and a record beside the file names these for new processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

from service.store.errors import StoreError

__all__ = ["SqliteFile"]

_PUT_BACK = "Put it back where it was: nothing is lost, and the service goes on by itself."

Identity = tuple[int, int]
"""Device and number of a file, which stay the same when it is renamed."""


class SqliteFile:
    """One database file and its log.

    Parameters
    ----------
    path : Path
        Of the file; the log and its index lie beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._log = self._path.with_name(f"{self._path.name}-wal")
        self._index = self._path.with_name(f"{self._path.name}-shm")
        self._record = self._path.with_name(f"{self._path.name}-files")
        self._known: Identity | None = None

    def make(self) -> None:
        """Make an empty database where there is none.

        Raises
        ------
        StoreError
            When the file cannot be made, or a log is there whose database is away.
        """
        if _identity(self._path) is not None:
            return
        if _size(self._log):
            raise StoreError(
                f"The database {self._path} is missing, and its log {self._log.name} has results that are only there.",
                f"Put the database back beside the log; if it is lost for good, remove {self._log.name} as well.",
            )
        try:
            self._path.touch()
        except OSError as error:
            raise StoreError(
                f"The database {self._path} cannot be made ({error.strerror}).",
                "Check that its folder exists, is writable, and is on a local disk with free space.",
            ) from error

    def connect(self, busy_timeout_s: float) -> sqlite3.Connection:
        """A new connection to the file that is in use; never to another file of the same name.

        Raises
        ------
        StoreError
            When the file is missing, is no file, cannot be read, or is not the one in use.
        """
        found = self._checked()
        if self._known is None:
            self._refuse_log_of_another(found)
        address = f"{self._path.as_uri()}?mode=rw"
        connection = sqlite3.connect(address, busy_timeout_s, uri=True, check_same_thread=False, isolation_level=None)
        try:
            # It is compared before the first statement, because that is when SQLite reads the log.
            if _identity(self._path) != found:
                raise self._replaced()
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}").close()
            # The first read opens log and index, which makes them files that `files` can name.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").close()
        except BaseException:
            connection.close()
            raise
        self._known = found
        return connection

    def files(self) -> tuple[Identity | None, ...]:
        """The files behind the names of database, log and index now; equal as long as a connection is open."""
        return tuple(_identity(path) for path in (self._path, self._log, self._index))

    def check(self, used: tuple[Identity | None, ...]) -> None:
        """Compare with the `files` of a connection.

        Raises
        ------
        StoreError
            When one of them was moved, removed or replaced since.
        """
        if self.files() == used:
            return
        self._checked()
        raise StoreError(
            f"The log {self._log.name} or {self._index.name} of the database {self._path} was moved or replaced "
            "while the database is in use.",
            "Stop the service: as it ends, it writes what it has into the database. Then remove the two files that "
            "are there now, and start it again.",
        )

    def remember(self) -> None:
        """Record which files are in use, for processes that start later; called while a connection is open."""
        with contextlib.suppress(OSError):  # without room on the disk there is no record, and all else works
            self._record.write_text(json.dumps(self.files()), encoding="utf-8")

    def forget(self) -> None:
        """Remove the record when the last connection has written the log into the database and removed it."""
        if _identity(self._log) is None and _identity(self._path) is not None:
            with contextlib.suppress(OSError):
                self._record.unlink()

    def _checked(self) -> Identity:
        found = _identity(self._path)
        if found is None and _may_look(self._path):
            raise self._missing()
        if found is not None and self._known is not None and found != self._known:
            raise self._replaced()
        if found is not None and self._path.is_dir():
            raise StoreError(
                f"The database {self._path} is a folder.", "Give the path of a file, or choose another data directory."
            )
        if found is None or not os.access(self._path, os.R_OK):
            raise StoreError(
                f"The database {self._path} cannot be read: this user has no permission.",
                "Correct owner or permissions of its folder, and of the files whose names begin like it.",
            )
        return found

    def _missing(self) -> StoreError:
        if self._known is not None:
            return StoreError(f"The database {self._path} was moved or removed while it is in use.", _PUT_BACK)
        return StoreError(
            f"There is no database {self._path}.",
            "Start the service on this data directory once, which makes it; if it was moved, put it back.",
        )

    def _replaced(self) -> StoreError:
        return StoreError(
            f"The database {self._path} was replaced by another file while it is in use.",
            f"{_PUT_BACK} To use the other file, stop the service before you exchange them.",
        )

    def _refuse_log_of_another(self, found: Identity) -> None:
        """In a process that has no connection yet: the log must be that of the file."""
        try:
            database, log, index = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return
        log_now, index_now = _identity(self._log), _identity(self._index)
        kept = [list(now) == then for now, then in ((log_now, log), (index_now, index)) if now is not None]
        if list(found) != database and any(kept):
            raise StoreError(
                f"The database {self._path} is another file than the one that {self._log.name} belongs to.",
                f"Put the right file back. To use this one, stop the service, and move {self._log.name} and "
                f"{self._index.name} away first; what is in them belongs to the other file.",
            )
        if list(found) == database and log_now is not None and not all(kept):
            raise StoreError(
                f"The log {self._log.name} of the database {self._path} was exchanged.",
                f"Put the right one back. If it is lost, stop the service, and remove {self._log.name} and "
                f"{self._index.name}.",
            )


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _may_look(path: Path) -> bool:
    """Whether this user may see that a file is not there."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
