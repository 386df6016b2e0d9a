"""The API as a child of the supervisor: the server, its heartbeat, and its end."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from multiprocessing.connection import Connection

import psutil

from service.children import follow_parent, ignore_signals
from service.link import LinkAddress
from service.logs import configure_logs
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

    stop = threading.Event()
    follow_parent(parent, lambda _: stop.set())
    _Heartbeat(listener.getsockname(), parent, stop).start()
    serve(settings, address, listener=listener, stop=stop)


def _step_back() -> None:
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        process.nice(min(process.nice() + _NICE, 19))


class _Heartbeat(WorkerThread):
    """A heartbeat for every answer of the server to itself: so it stands for the event loop, not for this thread.

    Without it the supervisor starts the API again, so a failure here needs no other report.
    """

    def __init__(self, where: tuple[str, int], parent: Connection, stop: threading.Event) -> None:
        super().__init__("heartbeat", failed=lambda _: None)
        host, port = where[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104  the wildcard is replaced, not listened at
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
        self._host, self._port = host, port
        self._parent = parent
        self._ending = stop

    def work(self) -> None:
        """Ask once a second, until the end or until the supervisor is gone."""
        while not self._ending.wait(_BEAT_S):
            if not self._is_healthy():
                continue
            try:
                self._parent.send({"state": "running"})
            except OSError:
                return

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_BEAT_S)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
