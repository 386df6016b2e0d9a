"""The API process: the application on a uvicorn server.

The supervisor runs `serve` in a child process with the socket that it has
bound, so that a restart keeps the port, and a port that is taken is an error
at the start. Signals belong to the supervisor; this process ends when the event `stop` is set.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import h11
import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from service.api.app import create_app
from service.api.problems import http_problem
from service.api.repeats import CountRepeats, Repeats
from service.api.stream import SEND_NOW
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store

__all__ = ["page_folder", "serve", "serve_app"]

_SEND_BUFFER_BYTES = 256 * 1024
"""What the system may hold back for a slow client: a second of tracks, or one frame; more would be a stale view."""

_PING_S = 10.0
_PONG_S = 20.0
"""A connection that broke without closing is noticed in half a minute; a busy browser is not cut off."""

_LONGEST_MESSAGE = 4096
"""Clients send their access key, and nothing else."""

MOST_CONNECTIONS = 1000
"""Connections at a time, WebSockets included; a page opens about ten."""

_SPARE_DESCRIPTORS = 96
"""Open files that connections leave to the rest of the process: database, engine and what is read from disk."""

_FEWEST_CONNECTIONS = 16

HEAD_TIMEOUT_S = 10.0
"""The head of a request is a single packet; a client that needs longer sends no request."""

WRITE_TIMEOUT_S = 30.0
"""A client that receives nothing for so long is gone or asleep, and its part of the response holds memory."""

_STOP_S = 3
"""Connections that are open when the service stops are cut after half of this time, tasks are cancelled after it."""

_QUEUE = 128
"""Connections that the system may hold until they are accepted."""

_WHOLE_BINARY = 0x82
_SHORT_FRAME, _MIDDLE_FRAME = 125, 0xFFFF
_MIDDLE_HEAD, _LONG_HEAD = struct.Struct("!BBH"), struct.Struct("!BBQ")
"""Frames whose length is written in one, two and eight bytes; 126 and 127 announce the latter two."""


_log = structlog.get_logger(__name__)


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
        Called on the server's event loop ten times a second, as long as it turns.
    """
    store = Store.open(settings.database)
    try:
        # The client's sockets need the server's event loop, so the application makes it.
        app = create_app(EngineClient(address), store, settings, page_folder())
        serve_app(app, settings.host, settings.port, listener=listener, stop=stop, started=started, ticked=ticked)
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
    ticked: Callable[[], None] | None = None,
) -> None:
    """Serve an application as `serve` does."""
    config = _Config(
        app,
        http=_BoundedHttp,
        # asyncio tries this often to accept, each time anew when no file can be opened, with a line in the log.
        backlog=1,
        ws=_BoundedWebSocket,
        ws_per_message_deflate=False,
        ws_max_size=_LONGEST_MESSAGE,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PONG_S,
        timeout_graceful_shutdown=_STOP_S,
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
    )
    filters = {name: CountRepeats() for name in ("uvicorn.error", "asyncio")}
    for name, repeats in filters.items():
        logging.getLogger(name).addFilter(repeats)
    try:
        _Server(config, stop, started, ticked).run([listener or _listener(host, port)])
    finally:
        for name, repeats in filters.items():
            logging.getLogger(name).removeFilter(repeats)


def most_connections() -> int:
    """How many connections this process can hold, and still open the files that it needs."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST_CONNECTIONS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, limit - _SPARE_DESCRIPTORS))


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def page_folder() -> Path:
    """Where the build puts the page."""
    return Path(str(files("service"))) / "web" / "dist"


class _Config(uvicorn.Config):
    """The options of uvicorn, and the state that its connections share."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_connections = most_connections()
        self.full = Repeats()


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


class _BoundedHttp(H11Protocol):
    """An HTTP connection that ends when its request does not come, or its response is not received.

    Unchanged, the protocol waits for ever for the rest of a request's head, and for a client to read. Bodies
    are bounded by `service.api.bodies`.
    """

    _waiting_for_head: asyncio.TimerHandle | None = None
    _waiting_for_client: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = cast(_Config, self.config).most_connections
        if len(self.connections) > most:
            self._refuse(503, f"{most} connections are open, which is the limit.", "Close some, or try again later.")
            held_back = cast(_Config, self.config).full.held_back(None)
            if held_back is not None:
                _log.warning("connections_full", most=most, not_logged=held_back)
            return
        self._waiting_for_head = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting_for_head()
        elif self._waiting_for_head is None and not self.transport.is_closing():
            self._waiting_for_head = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        self._stop_waiting_for_client()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        # A response that the client does not read would delay the stop, and its cancelled task be logged as a failure.
        self.loop.call_later(_STOP_S / 2, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting_for_client()

    def _wait_for_client(self) -> None:
        before = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() >= before:
                self.transport.abort()
            else:
                self._wait_for_client()

        self._waiting_for_client = self.loop.call_later(WRITE_TIMEOUT_S, look)

    def _stop_waiting_for_client(self) -> None:
        if self._waiting_for_client is not None:
            self._waiting_for_client.cancel()
            self._waiting_for_client = None

    def _stop_waiting_for_head(self) -> None:
        if self._waiting_for_head is not None:
            self._waiting_for_head.cancel()
            self._waiting_for_head = None

    def _head_is_late(self) -> None:
        detail = f"The head of the request was not there within {HEAD_TIMEOUT_S:g} s."
        self._refuse(408, detail, "Send the whole request at once.")

    def _refuse(self, status: int, detail: str, remedy: str) -> None:
        """Send an error before there is a request, and close."""
        response = http_problem(status, detail, remedy, {"Connection": "close"})
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()


class _BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose unsent data is bounded, and that does not wait for a client that stopped reading.

    Unchanged, the protocol waits until all is sent before it closes, which
    for a sleeping client is never.
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
        """Send a binary message, if the client can receive it without waiting.

        Through the application's own task a message takes three times the processor time, most of it in
        switching tasks and checking states.
        """
        open_now = self.handshake_complete and not self.close_sent and not self.transport.is_closing()
        if not open_now or not self.writable.is_set() or isinstance(message, str):
            return False
        self.transport.write(_frame_head(len(message)) + message)
        return True

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused; otherwise the log would call it an error

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.writable.is_set():  # the application has disconnected a client that does not read
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
