"""WebSockets whose unsent data is limited, and which send a binary message without a change of task."""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from service.api.stream import SEND_NOW

__all__ = ["BoundedWebSocket"]

_SEND_BUFFER_BYTES = 256 * 1024
"""What the system may hold back for a slow client: a second of tracks, or one frame; more would be a stale view."""

_WHOLE_BINARY = 0x82
_SHORT_FRAME, _MIDDLE_FRAME = 125, 0xFFFF
_MIDDLE_HEAD, _LONG_HEAD = struct.Struct("!BBH"), struct.Struct("!BBQ")
"""Frames whose length is written in one, two and eight bytes; 126 and 127 announce the latter two."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose unsent data is bounded, and that does not wait for a client that stopped reading.

    Unchanged, the protocol waits until all is sent before it closes, which
    for a sleeping client is never.
    """

    def connection_made(self, transport: object) -> None:
        """Limit the data that the system holds for the client."""
        super().connection_made(transport)  # type: ignore[arg-type]
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        """Give the application the means to send a message at once."""
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
        """Send a message of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused; otherwise the log would call it an error

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Break the connection of a client that does not read."""
        super().on_task_complete(task)
        if not self.writable.is_set():  # the application has disconnected a client that does not read
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """Break the connection of a client that sends no pong."""
        super().keepalive_timeout()
        self.transport.abort()


def _frame_head(length: int) -> bytes:
    """What stands before a binary message of so many bytes: whole, not masked (RFC 6455, section 5.2)."""
    if length <= _SHORT_FRAME:
        return bytes((_WHOLE_BINARY, length))
    if length <= _MIDDLE_FRAME:
        return _MIDDLE_HEAD.pack(_WHOLE_BINARY, _SHORT_FRAME + 1, length)
    return _LONG_HEAD.pack(_WHOLE_BINARY, _SHORT_FRAME + 2, length)
