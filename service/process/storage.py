"""Check that results can be stored: the data directory is writable, and the database file is still in its place.

A process can read and write a file that was moved or removed, through its
open handle, but later processes do not find the data. The check therefore
looks up the path of the database, which must still lead to the file that was
there at the start.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from service.settings import Settings
from service.store.errors import StoreError
from service.worker_thread import WorkerThread

__all__ = ["Storage", "StorageWatch"]

_TRIAL_BYTES = 4096
"""One block of common file systems."""

_PERIOD_S = 5.0


class Storage:
    """Data directory and database of a service, in their state when this object is created.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir
        self._database = settings.database if isinstance(settings.database, Path) else None
        self._identity = None if self._database is None else _identity(self._database)

    def check(self) -> None:
        """Write a block, and look up the database file.

        Raises
        ------
        StoreError
            When results cannot be stored.
        """
        if not self._folder.is_dir():
            raise StoreError(
                f"The data directory {self._folder} is not there any more.",
                "Mount it or put it back, then restart Bathyscope.",
            )
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as trial:
                trial.write(bytes(_TRIAL_BYTES))
        except OSError as error:
            raise StoreError(
                f"Nothing can be written to the data directory {self._folder} ({error.strerror}).",
                "Free some space, or correct its permissions; the service then continues by itself.",
            ) from error
        if self._database is not None and (now := _identity(self._database)) != self._identity:
            what = "is not there any more" if now is None else "is another file than at the start"
            raise StoreError(
                f"The database {self._database} {what}.",
                "Put it back with its -wal and -shm files, then restart Bathyscope.",
            )


class StorageWatch(WorkerThread):
    """Checks the storage every few seconds, and reports when it fails and when it works again.

    Parameters
    ----------
    storage : Storage
    ending : threading.Event
        Ends the thread.
    report : callable
        Receives kind and text of an event.
    """

    def __init__(self, storage: Storage, ending: threading.Event, report: Callable[[str, str], None]) -> None:
        super().__init__(
            "storage", failed=lambda error: report("storage_unwatched", f"Storage is not watched: {error}.")
        )
        self._storage = storage
        self._ending = ending
        self._report = report

    def work(self) -> None:
        """Check until the end."""
        reported = False
        while not self._ending.wait(_PERIOD_S):
            try:
                self._storage.check()
            except StoreError as error:
                if not reported:
                    self._report("storage_away", f"{error.problem} {error.remedy}")
                reported = True
            else:
                if reported:
                    self._report("storage_back", "The data directory can be written again.")
                reported = False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
