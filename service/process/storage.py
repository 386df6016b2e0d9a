"""Whether results can be kept: a write to the data directory, and the database's file behind its open handle.

A file that is moved or removed under a running service goes on being read and
written through its handle, and its contents are lost to later processes. So its name
is looked up, and must still lead to the file that was there at the start.
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
"""One block of the usual file systems."""

_LOOK_S = 5.0


class Storage:
    """Data directory and database of a service, as they are when this is made.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir
        self._database = settings.database if isinstance(settings.database, Path) else None
        self._identity = None if self._database is None else _identity(self._database)

    def check(self) -> None:
        """Write a block, and look for the database's file.

        Raises
        ------
        StoreError
            When nothing can be kept.
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
                "Free some space, or correct its permissions; the service goes on by itself then.",
            ) from error
        if self._database is not None and (now := _identity(self._database)) != self._identity:
            what = "is not there any more" if now is None else "is another file than at the start"
            raise StoreError(
                f"The database {self._database} {what}.",
                "Put it back with its -wal and -shm files, then restart Bathyscope.",
            )


class StorageWatch(WorkerThread):
    """Looks every few seconds, and tells when nothing can be kept any more, and when it can again.

    Parameters
    ----------
    storage : Storage
    ending : threading.Event
        Ends it.
    tell : callable
        Gets kind and text of an event.
    """

    def __init__(self, storage: Storage, ending: threading.Event, tell: Callable[[str, str], None]) -> None:
        super().__init__("storage", failed=lambda error: tell("storage_unwatched", f"Storage is not watched: {error}."))
        self._storage = storage
        self._ending = ending
        self._tell = tell

    def work(self) -> None:
        """Look until the end."""
        told = False
        while not self._ending.wait(_LOOK_S):
            try:
                self._storage.check()
            except StoreError as error:
                if not told:
                    self._tell("storage_away", f"{error.problem} {error.remedy}")
                told = True
            else:
                if told:
                    self._tell("storage_back", "The data directory can be written again.")
                told = False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
