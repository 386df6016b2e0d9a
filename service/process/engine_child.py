"""The engine process, a child of the supervisor."""

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
"""Longest time that a Python thread runs while others wait, s. Python's default of 5 ms is half a frame at 100 fps."""

_GARBAGE_THRESHOLD = 50_000
"""Objects between garbage collections. `Engine.serve` freezes the imports; a collection then takes under 1 ms."""


def engine_process(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: work until the supervisor stops it or dies.

    The supervisor handles signals of the terminal. The pipe carries heartbeats
    to the supervisor and a `Stop` from it. When the pipe closes, the
    supervisor has died.
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
    # A driver thread that hangs must not keep the finished process alive.
    last_resort = threading.Timer(_EXIT_PATIENCE_S, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
