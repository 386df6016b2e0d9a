"""The supervisor's entries in the database: failures of children, interrupted runs, and the stop of the service.

The supervisor must not wait for the database. It restarts a child at once,
also while another program locks the database, and the service stops also
while the database server does not respond. A separate thread therefore writes
the entries, and repeats each write until it succeeds. The open runs are listed
before the next engine starts, because a run of that engine must not be marked
as interrupted.
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
"""Pause between two tries, s. Each try also waits for the time-out of the database."""

_CAPACITY = 1000
"""Most entries that wait for the database; the oldest are dropped. With the pauses between restarts this is hours."""

_LOOK_LIMIT_S = 5.0
"""Longest time that the restart of an engine waits for the list of open runs, s."""

_CLOSE_LIMIT_S = 5.0
"""Longest time that the end of the service waits for a database that does not respond, s."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event (none when `kind` is empty), and the runs to mark as interrupted (None: all open runs)."""

    occurred_at: float
    kind: str
    message: str
    runs: tuple[str, ...] | None
    problem: str


class FailureRecord(WorkerThread):
    """Writes entries into the database, in their order.

    Parameters
    ----------
    store : Store
        Must stay open until `close` has returned.
    """

    def __init__(self, store: Store) -> None:
        super().__init__("failures", failed=lambda _: None)
        self._store = store
        self._waiting: deque[_Entry] = deque(maxlen=_CAPACITY)
        self._wake = threading.Event()
        self._closing = False

    def add(self, kind: str, message: str, runs: tuple[str, ...] = (), problem: str = "") -> None:
        """Add an event, and mark `runs` as interrupted by `problem`; returns at once."""
        self._put(_Entry(time.time(), kind, message, runs, problem))

    def interrupt_all(self, problem: str) -> None:
        """Mark every open run as interrupted by `problem`; returns at once."""
        self._put(_Entry(time.time(), "", "", None, problem))

    def open_runs(self, known: str | None) -> tuple[str, ...]:
        """Runs in state ``running`` after the engine ended: those of the database, and the run of its last heartbeat.

        A locked database can still be read. When the database does not respond, the result is only the `known` run.

        Parameters
        ----------
        known : str or None
            Run in the last heartbeat of the engine.
        """
        found: list[str] = []
        lookup = _Lookup(self._store, found)
        with suppress(RuntimeError):  # the system has no free thread
            lookup.start()
            lookup.join(_LOOK_LIMIT_S)
        runs = [] if known is None else [known]
        return (*runs, *(run_id for run_id in tuple(found) if run_id != known))

    def close(self) -> None:
        """Try once more to write the waiting entries, then end. A database that does not respond is not waited for."""
        self._closing = True
        self._wake.set()
        self.join(_CLOSE_LIMIT_S)
        for entry in tuple(self._waiting):
            _log.warning("not_stored", message=entry.message or entry.problem)

    def work(self) -> None:
        """Write entries until `close` is called."""
        while True:
            self._wake.wait(_PAUSE_S if self._waiting else None)
            self._wake.clear()
            last = self._closing
            try:
                self._write()
            except Exception:  # noqa: BLE001  the next try may succeed, and later entries must be written too
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
    """Lists the open runs, on a thread that may wait for the database."""

    def __init__(self, store: Store, found: list[str]) -> None:
        super().__init__("open-runs", failed=lambda _: None)
        self._store = store
        self._found = found

    def work(self) -> None:
        """List once."""
        self._found += [run.id for run in self._store.runs.list().items if run.state == "running"]
