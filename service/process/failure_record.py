"""What the supervisor writes into the database: which child failed, which runs that interrupted, why it stops.

It must not wait for the database: a child is started again at once, also
while another program holds the database locked, and the service stops also
while the database server stands still. So a thread of its own writes, and
tries again until the database takes it. Which runs were open is looked up
before the next engine starts, because a run that this one begins must not be
marked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import structlog

from service.store.errors import StoreError
from service.store.store import Store
from service.worker_thread import WorkerThread

__all__ = ["FailureRecord"]

_PAUSE_S = 1.0
"""Between tries, each of which waits for the database's own time-out."""

_MOST = 1000
"""Failures that wait for the database; the oldest give way. With the pauses between restarts these are hours."""

_LOOK_LIMIT_S = 5.0
"""Longest that the next start of an engine waits for a list of the open runs."""

_CLOSE_LIMIT_S = 5.0
"""Longest that the end of the service waits for a database that does not answer."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event, or none where `kind` is empty, and the runs to mark; None stands for all that are open."""

    occurred_at: float
    kind: str
    message: str
    runs: tuple[str, ...] | None
    problem: str


class FailureRecord(WorkerThread):
    """Writes entries down in their order.

    Parameters
    ----------
    store : Store
        Stays open until `close` has returned.
    """

    def __init__(self, store: Store) -> None:
        super().__init__("failures", failed=lambda _: None)
        self._store = store
        self._waiting: deque[_Entry] = deque(maxlen=_MOST)
        self._wake = threading.Event()
        self._closing = False

    def add(self, kind: str, message: str, runs: tuple[str, ...] = (), problem: str = "") -> None:
        """Write an event, and mark `runs` as interrupted by `problem`; returns at once."""
        self._put(_Entry(time.time(), kind, message, runs, problem))

    def interrupt_all(self, problem: str) -> None:
        """Mark every run that is still open as interrupted by `problem`; returns at once."""
        self._put(_Entry(time.time(), "", "", None, problem))

    def open_runs(self, known: str | None) -> tuple[str, ...]:
        """Runs that say they are on although no engine is: those of the database, and the last one that was `known`.

        A database that is locked can still be read. One that does not answer is not waited for; then it is the known
        one alone.
        """
        found: list[str] = []
        lookup = _Lookup(self._store, found)
        with suppress(RuntimeError):  # the system has no thread to spare
            lookup.start()
            lookup.join(_LOOK_LIMIT_S)
        runs = [] if known is None else [known]
        return (*runs, *(run_id for run_id in tuple(found) if run_id != known))

    def close(self) -> None:
        """Try a last time to write what waits, then end; a database that stands still is left alone."""
        self._closing = True
        self._wake.set()
        self.join(_CLOSE_LIMIT_S)
        for entry in tuple(self._waiting):
            _log.warning("not_stored", message=entry.message or entry.problem)

    def work(self) -> None:
        """Write until closed."""
        while True:
            self._wake.wait(_PAUSE_S if self._waiting else None)
            self._wake.clear()
            last = self._closing
            try:
                self._write()
            except Exception:  # noqa: BLE001  the next try may succeed, and the next failure must be written too
                _log.exception("not_stored_yet")
            if last:
                return

    def _put(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._wake.set()

    def _write(self) -> None:
        while self._waiting:
            entry = self._waiting[0]
            try:
                if entry.runs is None or entry.runs:
                    self._store.runs.interrupt_open(entry.problem, only=entry.runs)
                if entry.kind:
                    self._store.events.add(
                        entry.kind,
                        entry.message,
                        run_id=entry.runs[0] if entry.runs else None,
                        occurred_at=entry.occurred_at,
                    )
            except StoreError as error:
                _log.warning("not_stored_yet", message=entry.message or entry.problem, error=str(error))
                return
            self._waiting.popleft()


class _Lookup(WorkerThread):
    """Lists the runs that are open."""

    def __init__(self, store: Store, found: list[str]) -> None:
        super().__init__("open-runs", failed=lambda _: None)
        self._store = store
        self._found = found

    def work(self) -> None:
        """Ask once."""
        self._found += [run.id for run in self._store.runs.list().items if run.state == "running"]
