"""What every child process of the supervisor does at its beginning.

A child leaves the terminal's signals and those of the service manager to the
supervisor, which ends its children in the right order. It holds one end of a
pipe: heartbeats go up, a `Stop` comes down, and when the pipe ends the
supervisor is dead and the child ends itself.

While it lives, a child holds a lock in the data directory. A supervisor that
is started after one that was killed waits for it, so that two engines never
reach for the same microscope, recording or port.
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
"""Longest that a child works on after its supervisor died: the queues of a run go to disk and database first.
Then nobody is left to kill one whose driver hangs, so it ends itself."""

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
        Why work is cut off that nobody wanted to end, as a sentence; None when the end is wanted.
    """

    interruption: str | None = None


STOP = Stop()
"""The end is wanted."""


def place_of(data_dir: Path, name: str) -> Path:
    """The lock that the child `name` holds while it lives."""
    return data_dir / _PLACES.format(name)


class _Place(filelock.FileLock):
    """A lock that is held until the process has gone, with its port and its devices, not until this object has."""

    def __del__(self, *_: Any) -> None:
        """Keep the file open."""


def run_child(place: Path, target: Callable[..., None], *arguments: Any) -> None:
    """Entry point of every child: take its place, then work. The system gives the place back, however it ends."""
    try:
        _Place(place, timeout=ORPHAN_LIMIT_S, thread_local=False).acquire()
        target(*arguments)
    except Exception:  # noqa: BLE001  told as a line of the log; the supervisor starts the child again
        _log.exception("process_failed")
        sys.exit(1)


def wait_for_orphans(data_dir: Path) -> str | None:
    """Wait until the children of a supervisor that was killed have ended; the name of one that has not, or None."""
    deadline_s = time.monotonic() + ORPHAN_LIMIT_S + 1
    for place in sorted(data_dir.glob(_PLACES.format("*"))):
        try:
            with filelock.FileLock(place, timeout=max(0.0, deadline_s - time.monotonic())):
                pass
        except filelock.Timeout:
            return place.name.removeprefix(".bathyscope-").removesuffix(".lock")
    return None


def ignore_signals() -> None:
    """Let the supervisor alone answer Ctrl-C, the closed terminal and the service manager."""
    ignore_ending_signals()


def follow_parent(parent: Connection, end: Callable[[str | None], None]) -> None:
    """Wait on a thread for the supervisor's word or its death, and call `end` once.

    `end` gets the reason why work is cut off, as a sentence, or None when the end is wanted. A child that has not
    ended `ORPHAN_LIMIT_S` after its supervisor's death is ended here.
    """
    _Lifeline(parent, end).start()


class _Lifeline(WorkerThread):
    """Hears the one word that comes down the pipe, or its end."""

    def __init__(self, parent: Connection, end: Callable[[str | None], None]) -> None:
        super().__init__("lifeline", failed=lambda error: _log.error("cannot_end", error=str(error)))
        self._parent = parent
        self._end = end

    def work(self) -> None:
        """Wait; then end."""
        try:
            interruption = self._parent.recv().interruption
        except (EOFError, OSError):
            # First, so that nothing that fails or hangs at the end keeps the process alive.
            last_resort = threading.Timer(ORPHAN_LIMIT_S, os._exit, (_ORPHAN_STATUS,))
            last_resort.daemon = True
            last_resort.start()
            interruption = _LOST
        self._end(interruption)
