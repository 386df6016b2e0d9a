"""What every child process of the supervisor does at its beginning.

A child leaves the terminal's interrupt and the service manager's signals to
the supervisor, which ends its children in the right order. It holds one end
of a pipe: heartbeats go up, ``"stop"`` comes down, and when the pipe ends the
supervisor is dead and the child ends itself.

While it lives, a child holds a lock in the data directory. A supervisor that
is started after one that was killed waits for it, so that two engines never
reach for the same microscope, recording or port.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import filelock

__all__ = ["ORPHAN_LIMIT_S", "STOP", "follow_parent", "ignore_signals", "place_of", "run_child", "wait_for_orphans"]

STOP = "stop"
"""What the supervisor sends down the pipe."""

ORPHAN_LIMIT_S = 40.0
"""Longest that a child works on after its supervisor died: the queues of a run go to disk and database first.
Then nobody is left to kill one whose driver hangs, so it ends itself."""

_ORPHAN_STATUS = 4
_PLACES = ".bathyscope-{}.lock"


def place_of(data_dir: Path, name: str) -> Path:
    """The lock that the child `name` holds while it lives."""
    return data_dir / _PLACES.format(name)


class _Place(filelock.FileLock):
    """A lock that is held until the process has gone, with its port and its devices, not until this object has."""

    def __del__(self, *_: Any) -> None:
        """Keep the file open."""


def run_child(place: Path, target: Callable[..., None], *arguments: Any) -> None:
    """Entry point of every child: take its place, then work. The system gives the place back, however it ends."""
    _Place(place, timeout=ORPHAN_LIMIT_S, thread_local=False).acquire()
    target(*arguments)


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
    """Let the supervisor alone answer Ctrl-C and the service manager."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # on Windows a process is terminated without being asked
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def follow_parent(parent: Connection, on_stop: Callable[[], None], on_loss: Callable[[], None]) -> None:
    """Wait on a thread for the supervisor's word or its death, and call the one or the other, once.

    A child that has not ended `ORPHAN_LIMIT_S` after its supervisor's death is ended here.
    """

    def follow() -> None:
        try:
            parent.recv()
        except (EOFError, OSError):
            on_loss()
            time.sleep(ORPHAN_LIMIT_S)
            os._exit(_ORPHAN_STATUS)
        else:
            on_stop()

    threading.Thread(target=follow, name="lifeline", daemon=True).start()
