"""What the supervisor writes into the database about a child that failed.

It must not wait for the database: a child is started again at once, also
while another program holds the database locked. So a thread of its own
writes, and tries again until the database takes it. Which runs were open is
looked up before the next engine starts, because a run that this one begins
must not be marked.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass

import structlog

from service.store.errors import StoreError
from service.store.store import Store

__all__ = ["FailureRecord", "interrupted_runs"]

_PAUSE_S = 1.0
"""Between tries, each of which waits for the database's own time-out."""

_MOST = 1000
"""Failures that wait for the database; the oldest give way. With the pauses between restarts these are hours."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    occurred_at: float
    kind: str
    message: str
    runs: tuple[str, ...]
    problem: str


class FailureRecord(threading.Thread):
    """Writes failures down in their order, each as one event, and marks the runs that they interrupted.

    Parameters
    ----------
    store : Store
        Stays open until `close` has returned.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="failures", daemon=True)
        self._store = store
        self._waiting: deque[_Failure] = deque(maxlen=_MOST)
        self._wake = threading.Event()
        self._closing = False

    def add(self, kind: str, message: str, runs: tuple[str, ...] = (), problem: str = "") -> None:
        """Write an event, and mark `runs` as interrupted by `problem`; returns at once."""
        self._waiting.append(_Failure(time.time(), kind, message, runs, problem))
        self._wake.set()

    def close(self) -> None:
        """Try a last time to write what waits, then end."""
        self._closing = True
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Write until closed."""
        while True:
            self._wake.wait(_PAUSE_S if self._waiting else None)
            self._wake.clear()
            last = self._closing
            self._write()
            if last:
                return

    def _write(self) -> None:
        while self._waiting:
            failure = self._waiting[0]
            try:
                if failure.runs:
                    self._store.runs.interrupt_open(failure.problem, only=failure.runs)
                self._store.events.add(
                    failure.kind,
                    failure.message,
                    run_id=failure.runs[0] if failure.runs else None,
                    occurred_at=failure.occurred_at,
                )
            except StoreError as error:
                _log.warning("not_stored_yet", message=failure.message, error=str(error))
                return
            self._waiting.popleft()


def interrupted_runs(store: Store, known: str | None) -> tuple[str, ...]:
    """Runs that say they are on although no engine is: those of the database, and the last one that was `known`."""
    runs = [] if known is None else [known]
    # A database that is locked can still be read; one that is away is asked again when the run is marked.
    with contextlib.suppress(StoreError):
        runs += [run.id for run in store.runs.list().items if run.state == "running" and run.id != known]
    return tuple(runs)
