"""The API as a child of the supervisor: the server, its heartbeat, and its end."""

from __future__ import annotations

import socket
import sys
import threading
import time
from multiprocessing.connection import Connection

import psutil

from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.worker_thread import WorkerThread

__all__ = ["api_process"]

_BEAT_S = 1.0
_NICE = 5
"""Load on the API must not cost a frame: where both want a core, the engine goes first."""


def api_process(settings: Settings, address: LinkAddress, listener: socket.socket, parent: Connection) -> None:
    """Entry point of the child process: serve until the parent says so or is gone."""
    ignore_signals()
    configure_logs(settings.log_level)
    _step_back()
    from service.api.server import serve

    stop, pulse = threading.Event(), _Pulse()
    follow_parent(parent, lambda _: stop.set())
    _Heartbeat(pulse, parent, stop).start()
    serve(settings, address, listener=listener, stop=stop, ticked=pulse.tick)


def _step_back() -> None:
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        process.nice(min(process.nice() + _NICE, 19))


class _Pulse:
    """When the server's event loop has turned last."""

    def __init__(self) -> None:
        self._last_s = float("-inf")

    def tick(self) -> None:
        """The event loop turns."""
        self._last_s = time.monotonic()

    def is_felt(self) -> bool:
        """Whether it has turned lately."""
        return time.monotonic() - self._last_s < _BEAT_S


class _Heartbeat(WorkerThread):
    """A heartbeat as long as the event loop turns; it takes no connection, of which clients may have all.

    Without it the supervisor starts the API again, so a failure here needs no other report.
    """

    def __init__(self, pulse: _Pulse, parent: Connection, stop: threading.Event) -> None:
        super().__init__("heartbeat", failed=lambda _: None)
        self._pulse = pulse
        self._parent = parent
        self._ending = stop

    def work(self) -> None:
        """Look once a second, until the end or until the supervisor is gone."""
        while not self._ending.wait(_BEAT_S):
            if not self._pulse.is_felt():
                continue
            try:
                self._parent.send({"state": "running"})
            except OSError:
                return
