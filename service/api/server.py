"""The API process: the application on a uvicorn server.

The supervisor runs `serve` in a child process with the socket that it has
bound, so that a restart keeps the port, and a port that is taken is an error
at the start. Signals belong to the supervisor; this process ends when the event `stop` is set.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from service.api.app import create_app
from service.api.bounded_http import STOP_S, BoundedHttp, ServerConfig
from service.api.bounded_websocket import BoundedWebSocket
from service.api.repeats import CountRepeats
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store

__all__ = ["page_folder", "serve", "serve_app"]

_PING_S = 10.0
_PONG_S = 20.0
"""A connection that broke without closing is noticed in half a minute; a busy browser is not cut off."""

_LONGEST_MESSAGE = 4096
"""Clients send their access key, and nothing else."""

_QUEUE = 128
"""Connections that the system may hold until they are accepted."""


def serve(
    settings: Settings,
    address: LinkAddress,
    *,
    listener: socket.socket | None = None,
    stop: threading.Event | None = None,
    started: Callable[[int], None] | None = None,
    ticked: Callable[[], None] | None = None,
) -> None:
    """Serve the API until `stop` is set; blocks.

    Parameters
    ----------
    settings : Settings
        Host, port, key and database. The tables must be there (`Store.migrate`).
    address : LinkAddress
        Where the engine's sockets are.
    listener : socket, optional
        A bound socket; absent: one is bound to the settings' host and port.
    stop : threading.Event, optional
        Ends the server when it is set. Absent: SIGINT and SIGTERM end it.
    started : callable, optional
        Called with the port when the server accepts connections.
    ticked : callable, optional
        Called on the server's event loop ten times a second, as long as the loop runs.
    """
    store = Store.open(settings.database)
    try:
        # The client's sockets need the server's event loop, so the application makes it.
        app = create_app(EngineClient(address), store, settings, page_folder())
        serve_app(app, settings, listener=listener, stop=stop, started=started, ticked=ticked)
    finally:
        store.close()


def serve_app(
    app: FastAPI,
    settings: Settings,
    *,
    listener: socket.socket | None = None,
    stop: threading.Event | None = None,
    started: Callable[[int], None] | None = None,
    ticked: Callable[[], None] | None = None,
) -> None:
    """Serve an application as `serve` does."""
    config = ServerConfig(
        app,
        # The sockets of the engine need it; on Windows uvicorn would choose another one.
        loop="asyncio:SelectorEventLoop",
        http=BoundedHttp,
        # asyncio tries this often to accept, each time anew when no file can be opened, with a line in the log.
        backlog=1,
        ws=BoundedWebSocket,
        ws_per_message_deflate=False,
        ws_max_size=_LONGEST_MESSAGE,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PONG_S,
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,
        log_config=None,
        lifespan="on",
    )
    filters = {name: CountRepeats() for name in ("uvicorn.error", "asyncio")}
    for name, repeats in filters.items():
        logging.getLogger(name).addFilter(repeats)
    try:
        _Server(config, stop, started, ticked).run([listener or _listener(settings.host, settings.port)])
    finally:
        for name, repeats in filters.items():
            logging.getLogger(name).removeFilter(repeats)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def page_folder() -> Path:
    """Where the build puts the page."""
    return Path(str(files("service"))) / "web" / "dist"


class _Server(uvicorn.Server):
    """A server that is stopped by an event, and reports its start."""

    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event | None,
        started: Callable[[int], None] | None,
        ticked: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._on_start = started
        self._on_tick = ticked

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if self._stop is not None:
            yield
            return
        with super().capture_signals():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)
        if self.started and self._on_start is not None:
            self._on_start(int(self.servers[0].sockets[0].getsockname()[1]))

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        if self._on_tick is not None:
            self._on_tick()
        return await super().on_tick(counter)
