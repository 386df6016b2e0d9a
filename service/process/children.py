"""The common start of every child process of the supervisor.

A child ignores the signals of the terminal and of the service manager. The
supervisor handles them and stops its children in the right order. Each child
has a pipe to the supervisor: it sends heartbeats and receives a `Stop`. When
the pipe closes, the supervisor has died and the child ends itself.

A running child holds a lock in the data directory. When a supervisor was
killed, the next one waits for these locks, so that two engines never use the
same microscope, recording or port.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import filelock
import structlog

from service.process.signals import ignore_ending_signals
from service.worker_thread import WorkerThread

__all__ = [
    "ORPHAN_LIMIT_S",
    "STOP",
    "Stop",
    "follow_parent",
    "ignore_signals",
    "place_of",
    "run_child",
    "wait_for_orphans",
]

ORPHAN_LIMIT_S = 40.0
"""Longest time that a child runs after its supervisor died. It first writes the queues of a run to disk and database.
No other process would kill a child whose driver hangs, so it then ends itself."""

_LOST = "The supervisor of the service was killed."
_ORPHAN_STATUS = 4
_PLACES = ".bathyscope-{}.lock"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    """What the supervisor sends down the pipe.

    Attributes
    ----------
    interruption : str or None
        Why a run is interrupted, as a sentence; None when a user requested the end.
    """

    interruption: str | None = None


STOP = Stop()
"""A stop that a user requested."""


def place_of(data_dir: Path, name: str) -> Path:
    """Path of the lock that the child `name` holds while it runs."""
    return data_dir / _PLACES.format(name)


class _Place(filelock.FileLock):
    """A lock that is held until the process has ended, also after this object is deleted."""

    def __del__(self, *_: Any) -> None:
        """Keep the lock: the base class would release it here."""


def run_child(place: Path, target: Callable[..., None], *arguments: Any) -> None:
    """Entry point of every child: acquire its lock, then work. The system releases the lock when the process ends."""
    try:
        _Place(place, timeout=ORPHAN_LIMIT_S, thread_local=False).acquire()
        target(*arguments)
    except Exception:  # noqa: BLE001  logged; the supervisor restarts the child
        _log.exception("process_failed")
        sys.exit(1)


def wait_for_orphans(data_dir: Path) -> str | None:
    """Wait until the children of a killed supervisor have ended. Return the name of one that still runs, or None."""
    deadline_s = time.monotonic() + ORPHAN_LIMIT_S + 1
    for place in sorted(data_dir.glob(_PLACES.format("*"))):
        try:
            with filelock.FileLock(place, timeout=max(0.0, deadline_s - time.monotonic())):
                pass
        except filelock.Timeout:
            return place.name.removeprefix(".bathyscope-").removesuffix(".lock")
    return None


def ignore_signals() -> None:
    """Ignore Ctrl-C, a closed terminal and the service manager; the supervisor handles them."""
    ignore_ending_signals()


def follow_parent(parent: Connection, end: Callable[[str | None], None]) -> None:
    """Wait on a thread until the supervisor stops this child or dies, then call `end` once.

    `end` receives the reason of the interruption, as a sentence, or None when a user requested the end. A child that
    still runs `ORPHAN_LIMIT_S` after the death of its supervisor is ended here.
    """
    _ParentWatch(parent, end).start()


class _ParentWatch(WorkerThread):
    """Waits for the `Stop` of the supervisor, or for the end of the pipe."""

    def __init__(self, parent: Connection, end: Callable[[str | None], None]) -> None:
        super().__init__("parent-watch", failed=lambda error: _log.error("cannot_end", error=str(error)))
        self._parent = parent
        self._end = end

    def work(self) -> None:
        """Wait; then end."""
        try:
            interruption = self._parent.recv().interruption
        except (EOFError, OSError):
            # Started first, so that the process ends also when `end` fails or hangs.
            timer = threading.Timer(ORPHAN_LIMIT_S, os._exit, (_ORPHAN_STATUS,))
            timer.daemon = True
            timer.start()
            interruption = _LOST
        self._end(interruption)
