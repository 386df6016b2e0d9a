"""The process that copies finished recordings, a child of the supervisor with a low priority."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from multiprocessing.connection import Connection

import structlog

from service.copies.copier import Copier
from service.copies.status import CopiesStatus
from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.process.priority import lower_priority
from service.settings import Settings
from service.store.errors import StoreError
from service.store.store import Store
from service.worker_thread import Worker

__all__ = ["copies_process"]

_BEAT_S = 1.0
_DATABASE_PAUSE_S = 5.0

_SILENT_S = 300.0
"""A share whose server is gone does not return from reading. After this time without a file it counts as away."""

_END_S = 3.0
_NICENESS = 10
"""Not the lowest priority: on a busy machine the heartbeats would come too late, and the process would be restarted."""

_log = structlog.get_logger(__name__)


def copies_process(settings: Settings, parent: Connection) -> None:
    """Entry point of the child process: copy until the supervisor stops it or dies.

    A thread copies, so that heartbeats are sent while a server or a share does not respond. At the end it is left
    where it is: what it has verified is in its record.
    """
    ignore_signals()
    lower_priority(_NICENESS, idle_disk=True)
    configure_logs(settings.log_level)
    stop = threading.Event()
    follow_parent(parent, lambda _: stop.set())
    store = Store.open(settings.database)
    copier = Copier(store, settings.data_dir, str(settings.copy_off.url), stop.is_set)
    worker = Worker("copy", lambda: _work(copier, stop), lambda _: stop.set())
    worker.start()
    silence, status = _Silence(store, copier), CopiesStatus(settings.data_dir)
    while not stop.wait(_BEAT_S):
        with contextlib.suppress(OSError):
            parent.send({"state": "running"})
        silence.check()
        status.write(copier.figures, store)
    worker.join(_END_S)
    if worker.failure is not None:
        raise worker.failure  # ends the process, and the supervisor starts it again
    if worker.is_alive():
        os._exit(0)  # a server that does not respond would hold up the end of the interpreter


def _work(copier: Copier, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            pause_s = copier.copy_due()
        except StoreError as error:
            _log.warning("copies_wait", error=str(error))
            pause_s = _DATABASE_PAUSE_S
        stop.wait(pause_s)


class _Silence:
    """Reports a place that lets the copier wait without an error."""

    def __init__(self, store: Store, copier: Copier) -> None:
        self._store = store
        self._copier = copier
        self._reported = False

    def check(self) -> None:
        figures = self._copier.figures
        silent_s = time.time() - figures.progressed_s
        if figures.copying is None or silent_s < _SILENT_S:
            self._reported = False
        elif not self._reported:
            self._reported = True
            figures.place_up, figures.problem = False, f"No file was copied for {silent_s:.0f} s."
            message = f"Copying the recording of run {figures.copying} makes no progress: {figures.problem}"
            _log.warning("copy_place_away", message=message)
            with contextlib.suppress(StoreError):  # the log has it
                self._store.events.add("copy_place_away", message, run_id=figures.copying)
