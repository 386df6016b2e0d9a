"""The commit record of a recording: the frames on disk, written to the database on a separate thread.

The recorder adds the frames of each shard and continues at once, so a locked
database delays neither recorder nor camera. The waiting entries (1 kB per
shard) are written before the run ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.engine.ledger import Ledger
from service.store.errors import StoreError
from service.store.frames import FrameTimes
from service.store.store import Store
from service.worker_thread import WorkerThread

__all__ = ["FrameLog"]

_PAUSE_S = 0.25
"""Between attempts; each also waits for the database's busy timeout."""

_END_PATIENCE_S = 30.0
"""Longest wait for a locked database at the end of a run: the same as for the results."""

_AT_ONCE = 256
"""Entries in one transaction: milliseconds, also after a long wait."""


class FrameLog(WorkerThread):
    """Stores which frames can be read, until it is closed and all entries are written.

    Parameters
    ----------
    store : Store
    run_id : str
    ledger : Ledger
        Counts frames as recorded once the database has them.
    failed : callable
        Receives the exception that ended the thread; waiting and later frames count as unrecorded.
    """

    def __init__(self, store: Store, run_id: str, ledger: Ledger, failed: Callable[[Exception], None]) -> None:
        super().__init__("frame log", failed)
        self._store = store
        self._run_id = run_id
        self._ledger = ledger
        self._waiting: list[tuple[int, FrameTimes]] = []
        self._changed = threading.Condition()
        self._deadline_s: float | None = None
        self._unconfirmed = 0
        self._reason = ""

    @property
    def problem(self) -> str | None:
        """Number of written frames that are missing in the commit record, and the reason; None: none."""
        if not self._unconfirmed:
            return None
        return f"The last {self._unconfirmed} frames of the recording are not confirmed in the database: {self._reason}"

    def add(self, first_plane: int, frames: FrameTimes) -> None:
        """Add frames that can be read, the first of them at this plane; returns at once."""
        with self._changed:
            self._waiting.append((first_plane, frames))
            self._changed.notify()

    def close(self) -> None:
        """Accept no more entries; the waiting ones are tried for another 30 s."""
        with self._changed:
            self._deadline_s = time.monotonic() + _END_PATIENCE_S
            self._changed.notify()

    def work(self) -> None:
        """Write until the end."""
        while entries := self._next():
            try:
                self._store.frames.commit(self._run_id, entries)
            except StoreError as error:
                if self._deadline_s is not None and time.monotonic() > self._deadline_s:
                    self._give_up(str(error))
                    return
                time.sleep(_PAUSE_S)
            else:
                with self._changed:
                    del self._waiting[: len(entries)]
                for _, frames in entries:
                    self._ledger.record(frames.numbers.tolist())

    def drain(self) -> None:
        """Give up the waiting and all later entries."""
        while self._next():
            self._give_up(f"{type(self.failure).__name__}: {self.failure}")

    def _next(self) -> list[tuple[int, FrameTimes]]:
        """The entries to write next; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline_s is not None)
            return self._waiting[:_AT_ONCE]

    def _give_up(self, reason: str) -> None:
        with self._changed:
            left, self._waiting = self._waiting, []
        for _, frames in left:
            self._ledger.leave_unrecorded(frames.numbers.tolist())
        self._unconfirmed += sum(len(frames) for _, frames in left)
        self._reason = reason
