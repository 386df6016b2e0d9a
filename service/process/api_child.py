"""The API process, a child of the supervisor: it runs the server and sends heartbeats."""

from __future__ import annotations

import socket
import threading
import time
from multiprocessing.connection import Connection

from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.process.priority import lower_priority
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.worker_thread import WorkerThread

__all__ = ["api_process"]

_BEAT_S = 1.0
_NICE = 5
"""Niceness of the API. The engine has priority on the processor, so that load on the API loses no frames."""


def api_process(settings: Settings, address: LinkAddress, listener: socket.socket, parent: Connection) -> None:
    """Entry point of the child process: serve until the supervisor stops it or dies."""
    ignore_signals()
    configure_logs(settings.log_level)
    lower_priority(_NICE)
    from service.api.server import serve

    stop, event_loop = threading.Event(), _LoopTime()
    follow_parent(parent, lambda _: stop.set())
    _Heartbeat(event_loop, parent, stop).start()
    serve(settings, address, listener=listener, stop=stop, ticked=event_loop.tick)


class _LoopTime:
    """The time of the last iteration of the server's event loop."""

    def __init__(self) -> None:
        self._last_s = float("-inf")

    def tick(self) -> None:
        """Record an iteration of the event loop."""
        self._last_s = time.monotonic()

    def is_recent(self) -> bool:
        """Whether the last iteration was within the last `_BEAT_S`."""
        return time.monotonic() - self._last_s < _BEAT_S


class _Heartbeat(WorkerThread):
    """Sends a heartbeat every second while the event loop runs.

    It needs no HTTP connection, because clients may use all of them. Without heartbeats the supervisor restarts the
    API, so a failure of this thread needs no other report.
    """

    def __init__(self, event_loop: _LoopTime, parent: Connection, stop: threading.Event) -> None:
        super().__init__("heartbeat", failed=lambda _: None)
        self._event_loop = event_loop
        self._parent = parent
        self._ending = stop

    def work(self) -> None:
        """Send heartbeats until the end, or until the supervisor has died."""
        while not self._ending.wait(_BEAT_S):
            if not self._event_loop.is_recent():
                continue
            try:
                self._parent.send({"state": "running"})
            except OSError:
                return
