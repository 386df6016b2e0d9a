"""HTTP connections with limits: of their number, and of the time for a request's head and for reading the response.

Bodies are limited by `service.api.bodies`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.problems import http_problem
from service.api.repeats import Repeats
from service.settings import is_loopback

__all__ = ["STOP_S", "BoundedHttp", "ServerConfig", "most_connections"]

MOST_CONNECTIONS = 1000
"""Connections at a time, WebSockets included; a page opens about ten."""

_SHARE_OF_ONE_CLIENT = 4
"""One client on another machine may hold a quarter of the connections; a proxy that is trusted, all."""

_SPARE_DESCRIPTORS = 96
"""Open files that connections leave to the rest of the process: database, engine and what is read from disk."""

_FEWEST_CONNECTIONS = 16

_MOST_SELECTED = 512
"""Sockets of an event loop on Windows, where the one that ZeroMQ needs waits with `select`."""

HEAD_TIMEOUT_S = 10.0
"""The head of a request is a single packet; a client that needs longer sends no request."""

WRITE_TIMEOUT_S = 30.0
"""A client that receives nothing for so long is gone or asleep, and its part of the response holds memory."""

STOP_S = 3
"""Connections that are open when the service stops are cut after half of this time, tasks are cancelled after it."""

_log = structlog.get_logger(__name__)


def most_connections() -> int:
    """How many connections this process can hold, and still open the files that it needs."""
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_SELECTED - _SPARE_DESCRIPTORS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, limit - _SPARE_DESCRIPTORS))


class ServerConfig(uvicorn.Config):
    """The options of uvicorn, and the state that its connections share."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_connections = most_connections()
        self.full = Repeats()


class BoundedHttp(H11Protocol):
    """An HTTP connection that ends when its request does not come, or its response is not received.

    Unchanged, the protocol waits for ever for the rest of a request's head, and for a client to read.
    """

    _waiting_for_head: asyncio.TimerHandle | None = None
    _waiting_for_client: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse the connection beyond the limit; otherwise start the limit of its first head."""
        super().connection_made(transport)
        most = cast(ServerConfig, self.config).most_connections
        if len(self.connections) > most:
            self._refuse(503, f"{most} connections are open, which is the limit.", "Close some, or try again later.")
            held_back = cast(ServerConfig, self.config).full.held_back(None)
            if held_back is not None:
                _log.warning("connections_full", most=most, not_logged=held_back)
            return
        if self._holds_too_many(most // _SHARE_OF_ONE_CLIENT):
            detail = f"{most // _SHARE_OF_ONE_CLIENT} connections from this address are open, which is its limit."
            self._refuse(503, detail, "Close some, or name the proxy in the setting trusted_proxies.")
            return
        self._waiting_for_head = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _holds_too_many(self, most: int) -> bool:
        """Whether the client of this connection has more than `most`; programs of this machine may."""
        host = self.client[0] if self.client else None
        if host is None or is_loopback(host) or host in (self.config.forwarded_allow_ips or ()):
            return False
        same = 0
        for other in self.connections:
            client = getattr(other, "client", None)
            same += client is not None and client[0] == host
        return same > most

    def data_received(self, data: bytes) -> None:
        """Process data, and start or stop the limit of the head."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting_for_head()
        elif self._waiting_for_head is None and not self.transport.is_closing():
            self._waiting_for_head = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all limits."""
        self._stop_waiting_for_head()
        self._stop_waiting_for_client()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection, at the latest after half of `STOP_S`."""
        super().shutdown()
        # A response that the client does not read would delay the stop, and its cancelled task be logged as a failure.
        self.loop.call_later(STOP_S / 2, self.transport.abort)

    def pause_writing(self) -> None:
        """Start the limit of a client that does not read."""
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """Stop the limit of a client that reads again."""
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
