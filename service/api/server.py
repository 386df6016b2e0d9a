"""The API process: the application on a uvicorn server.

The supervisor runs `serve` in a child process with the socket that it has
bound, so that a restart keeps the port, and a port that is taken is an error
at the start. Signals belong to the supervisor; this process ends when it is told to.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from service.api.app import create_app
from service.api.stream import SEND_NOW
from service.link import EngineClient, LinkAddress
from service.settings import Settings
from service.store.store import Store

__all__ = ["page_folder", "serve", "serve_app"]

_SEND_BUFFER_BYTES = 256 * 1024
"""What the system may hold back for a slow client: a second of tracks, or one frame; more would be a stale view."""

_PING_S = 10.0
_PONG_S = 20.0
"""A connection that is gone without a farewell is noticed in half a minute; a browser on a busy machine is not cut."""

_UNTAKEN_MS = 60_000
"""A connection is closed when its client takes no byte for so long of what was sent, or its machine is gone."""

_LONGEST_MESSAGE = 4096
"""Clients send their access key, and nothing else."""

_WHOLE_BINARY = 0x82
_SHORT_FRAME, _MIDDLE_FRAME = 125, 0xFFFF
_MIDDLE_HEAD, _LONG_HEAD = struct.Struct("!BBH"), struct.Struct("!BBQ")
"""Frames whose length is written in one, two and eight bytes; 126 and 127 announce the latter two."""


def serve(
    settings: Settings,
    address: LinkAddress,
    *,
    listener: socket.socket | None = None,
    stop: threading.Event | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve the API until `stop` is set; blocks.

    Parameters
    ----------
    settings : Settings
        Host, port, key and database. The tables must be there (`Store.migrate`).
    address : LinkAddress
        Where the engine's doors are.
    listener : socket, optional
        A bound socket; absent: one is bound to the settings' host and port.
    stop : threading.Event, optional
        Ends the server when it is set. Absent: SIGINT and SIGTERM end it.
    started : callable, optional
        Called with the port when the server accepts connections.
    """
    store = Store.open(settings.database)
    try:
        # The client's sockets need the server's event loop, so the application makes it.
        app = create_app(EngineClient(address), store, settings, page_folder())
        serve_app(app, settings.host, settings.port, listener=listener, stop=stop, started=started)
    finally:
        store.close()


def serve_app(
    app: FastAPI,
    host: str,
    port: int,
    *,
    listener: socket.socket | None = None,
    stop: threading.Event | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve an application as `serve` does."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws=_BoundedWebSocket,
        ws_per_message_deflate=False,
        ws_max_size=_LONGEST_MESSAGE,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PONG_S,
        timeout_graceful_shutdown=3,
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
    )
    _Server(config, stop, started).run([listener] if listener else None)


def page_folder() -> Path:
    """Where the build puts the page."""
    return Path(str(files("service"))) / "web" / "dist"


class _Server(uvicorn.Server):
    """A server that is stopped by an event, and says when it is up."""

    def __init__(
        self, config: uvicorn.Config, stop: threading.Event | None, started: Callable[[int], None] | None
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._on_start = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if self._stop is not None:
            yield
            return
        with super().capture_signals():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            for listener in (listener for server in self.servers for listener in server.sockets):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_MS)
        if self.started and self._on_start is not None:
            self._on_start(int(self.servers[0].sockets[0].getsockname()[1]))

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)


class _BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose unsent data is bounded, and that does not wait for a client that stopped reading.

    As it comes, the protocol closes politely: it waits until all is sent,
    which for a sleeping client is never.
    """

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # The application's task has been made, and begins when this has returned.
            cast(dict[str, Any], self.scope["extensions"])[SEND_NOW] = self._send_now

    def _send_now(self, message: bytes | str) -> bool:
        """Send a binary message, if the client takes it without waiting.

        Through the application's own task a message takes three times the processor time, most of it in
        switching tasks and checking states.
        """
        open_now = self.handshake_complete and not self.close_sent and not self.transport.is_closing()
        if not open_now or not self.writable.is_set() or isinstance(message, str):
            return False
        self.transport.write(_frame_head(len(message)) + message)
        return True

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused; otherwise the log would call it an error

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.writable.is_set():  # the application has let a client go that does not read
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


def _frame_head(length: int) -> bytes:
    """What stands before a binary message of so many bytes: whole, not masked (RFC 6455, section 5.2)."""
    if length <= _SHORT_FRAME:
        return bytes((_WHOLE_BINARY, length))
    if length <= _MIDDLE_FRAME:
        return _MIDDLE_HEAD.pack(_WHOLE_BINARY, _SHORT_FRAME + 1, length)
    return _LONG_HEAD.pack(_WHOLE_BINARY, _SHORT_FRAME + 2, length)
