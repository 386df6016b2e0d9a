"""The socket `live`: the engine publishes, and each listener gets its own copy.

What a listener does not fetch in time is dropped for that listener; the engine
never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

import zmq

from service.protocol.addresses import LinkAddress
from service.protocol.messages import pack

__all__ = ["LivePublisher", "Topic", "listen"]

Topic = Literal["tracks", "preview", "feed", "status"]

_VIEWS = ("tracks", "preview", "status")

_RESTORE_S = 0.5
"""Time between two checks that the socket file is still there."""

_FEED_WATER_MARK = 1000
"""Messages that wait for one listener before more are dropped; events are in the database too."""


class LivePublisher:
    """The engine's side of `live`. May be used from several threads."""

    def __init__(self, address: LinkAddress) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.linger = 0
        self._socket.sndhwm = _FEED_WATER_MARK
        address.bind(self._socket, address.live)
        self._address, self._checked_s = address, time.monotonic()
        self._lock = threading.Lock()

    def send(self, topic: Topic, message: bytes) -> None:
        """Publish one message."""
        # Topic and message are one ZeroMQ frame, because a listener that keeps only the newest cannot hold several.
        with self._lock:
            if time.monotonic() - self._checked_s > _RESTORE_S:
                self._checked_s = time.monotonic()
                self._address.restore(self._socket, self._address.live)
            self._socket.send(topic.encode() + b"\0" + message)

    def send_values(self, topic: Topic, values: Mapping[str, Any]) -> None:
        """Publish MessagePack values."""
        self.send(topic, pack(values))

    def close(self) -> None:
        """Stop publishing."""
        with self._lock:
            self._socket.close()
            self._context.destroy(linger=0)


def listen(context: Any, address: LinkAddress, topic: str) -> Any:
    """Open a socket of `context` (blocking or asyncio) that receives one topic; of a view only the newest message."""
    listener = context.socket(zmq.SUB)
    listener.linger = 0
    if topic in _VIEWS:
        listener.setsockopt(zmq.CONFLATE, 1)
    else:
        listener.rcvhwm = _FEED_WATER_MARK
    address.connect(listener, address.live)
    listener.subscribe(topic.encode() + b"\0")
    return listener
