"""What every child process of the supervisor does at its beginning.

A child leaves the terminal's interrupt and the service manager's signals to
the supervisor, which ends its children in the right order. It holds one end
of a pipe: heartbeats go up, ``"stop"`` comes down, and when the pipe ends the
supervisor is dead and the child ends itself.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

__all__ = ["STOP", "follow_parent", "ignore_signals"]

STOP = "stop"
"""What the supervisor sends down the pipe."""


def ignore_signals() -> None:
    """Let the supervisor alone answer Ctrl-C and the service manager."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # on Windows a process is terminated without being asked
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def follow_parent(parent: Connection, on_stop: Callable[[], None], on_loss: Callable[[], None]) -> None:
    """Wait on a thread for the supervisor's word or its death, and call the one or the other, once."""

    def follow() -> None:
        try:
            parent.recv()
        except (EOFError, OSError):
            on_loss()
        else:
            on_stop()

    threading.Thread(target=follow, name="lifeline", daemon=True).start()
