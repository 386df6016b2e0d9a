"""A client of a live view that takes almost no processor time, so that the service is measured and not the client.

Twenty clients of an ordinary WebSocket library take as much processor time as
the service that feeds them. This client reads only what the service sends:
whole binary frames, pings and close frames. Its own frames are masked with
zeros, which the protocol allows and which leaves the payload unchanged.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable

__all__ = ["ViewClient"]

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_FINAL, _MASKED = 0x80, 0x80
_SHORT, _MIDDLE = 125, 126
"""Lengths up to 125 are in the second byte; 126 means two bytes of length, and 127 eight."""


class ViewClient(asyncio.Protocol):
    """Receives a binary view until it is closed.

    Parameters
    ----------
    host, path : str
        ``Host`` header and path of the WebSocket.
    access_key : str or None
        Sent as the first message.
    receive : callable
        Gets each message (a view that is valid only during the call) and its time of arrival (monotonic, s).

    Attributes
    ----------
    opened : asyncio.Future
        Done when the service has accepted the WebSocket; fails when it has refused.
    closed : bool
        Whether the connection has ended.
    close_code : int or None
        Of the close frame of the service; None when it sent none.
    """

    def __init__(
        self, host: str, path: str, access_key: str | None, receive: Callable[[memoryview, float], None]
    ) -> None:
        self._host = host
        self._path = path
        self._access_key = access_key
        self._receive = receive
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False
        self.close_code: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request the WebSocket."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  a stream connection has no other
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Pass on the messages that are complete."""
        now_s = time.monotonic()
        self._buffer += data
        if not self.opened.done() and not self._read_response():
            return
        position = 0
        with memoryview(self._buffer) as view:
            while (frame := _frame_at(view, position)) is not None:
                begin, end = frame
                self._handle(self._buffer[position] & 0x0F, view[begin:end], now_s)
                position = end
        del self._buffer[:position]

    def connection_lost(self, error: Exception | None) -> None:
        """Record the end."""
        self.closed = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"The service closed {self._path} before it was open ({error})."))

    def stall(self) -> None:
        """Stop reading, as the page of a sleeping laptop does."""
        if self._transport is not None:
            self._transport.pause_reading()

    def wake(self) -> None:
        """Continue to read what the system has buffered."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _read_response(self) -> bool:
        """Whether the HTTP response is complete and accepts the WebSocket."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status = bytes(self._buffer[: self._buffer.find(b"\r\n")]).decode("latin-1")
        if status.split()[1:2] != ["101"]:
            self.opened.set_exception(ConnectionError(f"The service refused {self._path}: {status}"))
            self.close()
            return False
        del self._buffer[: end + 4]
        self.opened.set_result(None)
        if self._access_key is not None:
            self._send(_TEXT, json.dumps({"access_key": self._access_key}).encode())
        return True

    def _handle(self, kind: int, payload: memoryview, now_s: float) -> None:
        with payload:
            if kind == _BINARY:
                self._receive(payload, now_s)
            elif kind == _PING:
                self._send(_PONG, bytes(payload))
            elif kind == _CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
                self.close()

    def _send(self, kind: int, payload: bytes) -> None:
        if self._transport is None:
            return
        length = len(payload)
        head = bytes([_FINAL | kind, _MASKED | min(length, _MIDDLE)])
        if length > _SHORT:
            head += length.to_bytes(2, "big")
        self._transport.write(head + bytes(4) + payload)


def _frame_at(view: memoryview, position: int) -> tuple[int, int] | None:
    """Begin and end of the payload of the frame at `position`; None while it is not complete."""
    if len(view) < position + 2:
        return None
    length, begin = view[position + 1], position + 2
    if length > _SHORT:
        begin += 2 if length == _MIDDLE else 8
        if len(view) < begin:
            return None
        length = int.from_bytes(view[position + 2 : begin], "big")
    return (begin, begin + length) if len(view) >= begin + length else None
