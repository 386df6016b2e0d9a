"""The socket `live`: the engine publishes, every listener gets its own copy."""

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
"""Time between two looks whether the socket file of `live` is still there."""

_FEED_WATER_MARK = 1000
"""Messages that wait for one listener before more are dropped; events are in the database too."""


class LivePublisher:
    """The engine's side of `live`. May be used from several threads.

    What is not fetched in time is dropped for that listener; the engine never waits.
    """

    def __init__(self, address: LinkAddress) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._door = self._context.socket(zmq.PUB)
        self._door.linger = 0
        self._door.sndhwm = _FEED_WATER_MARK
        address.bind(self._door, address.live)
        self._address, self._looked_s = address, time.monotonic()
        self._lock = threading.Lock()

    def send(self, topic: Topic, message: bytes) -> None:
        """Publish one message."""
        # Topic and message are one ZeroMQ frame, because a listener that keeps only the newest cannot hold several.
        with self._lock:
            if time.monotonic() - self._looked_s > _RESTORE_S:
                self._looked_s = time.monotonic()
                self._address.restore(self._door, self._address.live)
            self._door.send(topic.encode() + b"\0" + message)

    def send_values(self, topic: Topic, values: Mapping[str, Any]) -> None:
        """Publish MessagePack values."""
        self.send(topic, pack(values))

    def close(self) -> None:
        """Stop publishing."""
        with self._lock:
            self._door.close()
            self._context.destroy(linger=0)


def listen(context: Any, address: LinkAddress, topic: str) -> Any:
    """Open a socket of `context` (blocking or asyncio) that receives one topic; of a view only the newest message."""
    door = context.socket(zmq.SUB)
    door.linger = 0
    if topic in _VIEWS:
        door.setsockopt(zmq.CONFLATE, 1)
    else:
        door.rcvhwm = _FEED_WATER_MARK
    address.connect(door, address.live)
    door.subscribe(topic.encode() + b"\0")
    return door
