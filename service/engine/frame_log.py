"""The commit record of a recording: which frames are down, written to the database by a thread of its own.

The recorder says what can be read, and goes on; a database that is locked
holds up neither it nor the camera. What waits here is a kilobyte per shard,
and it is written before the run ends.
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
"""Between tries; each waits for the database's busy timeout besides."""

_END_PATIENCE_S = 30.0
"""How long the end of a run waits for a database that is locked: as long as for its results."""

_AT_ONCE = 256
"""Entries in one transaction: milliseconds, also after a long wait."""


class FrameLog(WorkerThread):
    """Writes down which frames can be read, until it is closed and nothing waits.

    Parameters
    ----------
    store : Store
    run_id : str
    ledger : Ledger
        Counts frames as recorded once the database has them.
    failed : callable
        Gets an exception that ends the thread; frames that wait or come later are unrecorded.
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
        """How many frames that were written are not in the commit record, and why."""
        if not self._unconfirmed:
            return None
        return f"The last {self._unconfirmed} frames of the recording are not confirmed in the database: {self._reason}"

    def add(self, first_plane: int, frames: FrameTimes) -> None:
        """These frames can be read, from this plane on; returns at once."""
        with self._changed:
            self._waiting.append((first_plane, frames))
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will come; what waits is tried for another 30 s."""
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
        """Give up what waits, and what comes until the end."""
        while self._next():
            self._give_up(f"{type(self.failure).__name__}: {self.failure}")

    def _next(self) -> list[tuple[int, FrameTimes]]:
        """What is to be written next; nothing at the end."""
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
