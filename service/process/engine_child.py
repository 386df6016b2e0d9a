"""The engine as a child process of the supervisor."""

from __future__ import annotations

import gc
import os
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from service.engine.engine import Engine
from service.engine.recorder import limit_recording_threads
from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.protocol.addresses import LinkAddress
from service.settings import Settings

__all__ = ["engine_process"]

_EXIT_PATIENCE_S = 3.0

_SWITCH_S = 0.001
"""How long a Python thread may keep the others waiting; Python's own 5 ms is half a frame at 100 fps."""

_GARBAGE_THRESHOLD = 50_000
"""Objects between collections: with the imports frozen away (`Engine.serve`), one takes under a millisecond."""


def engine_process(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: work until the parent says so or is gone.

    Interrupts from the terminal are the parent's business. The pipe is the
    lifeline: heartbeats go up, ``"stop"`` comes down, and its end means that
    the parent died.
    """
    ignore_signals()
    configure_logs(settings.log_level)
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
    limit_recording_threads()

    def beat(values: dict[str, Any]) -> None:
        try:
            parent.send(values)
        except OSError:
            engine.end("The supervisor of the service is gone.")

    engine = Engine(settings, address, beat)

    follow_parent(parent, engine.end)
    engine.serve()
    # A driver's thread that hangs must not keep a process alive that has nothing left to do.
    last_resort = threading.Timer(_EXIT_PATIENCE_S, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
