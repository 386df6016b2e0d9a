"""The engine as seen from other processes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgpack
import structlog
import zmq
import zmq.asyncio

from service.protocol.addresses import LinkAddress
from service.protocol.live import Topic, listen
from service.protocol.messages import result_of

__all__ = ["EngineClient", "SyncEngineClient"]

_log = structlog.get_logger(__name__)


class EngineClient:
    """The engine as seen from an asyncio program, which is the API. Use it from one event loop.

    Parameters
    ----------
    address : LinkAddress
        Where the engine's doors are.
    timeout_s : float
        Longest wait for an answer, unless a request states its own.
    """

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context = zmq.asyncio.Context()
        self._doors: dict[str, zmq.asyncio.Socket] = {}
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._readers: list[asyncio.Task[None]] = []

    async def request(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Any:
        """Ask the engine to do something and return its result.

        Raises
        ------
        EngineAway
            When no answer comes in time.
        EngineRefusal
            When the engine says no.
        """
        door = self._door(self.address.stop if command == "microscope.stop" else self.address.commands)
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            request = msgpack.packb({"id": number, "command": command, "arguments": dict(arguments or {})})
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                await door.send(request)
                return result_of(await answer)
        except TimeoutError:
            raise self.address.away() from None
        finally:
            del self._waiting[number]

    async def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], await self.request("status"))

    async def subscribe(self, topic: Topic) -> AsyncIterator[bytes]:
        """Messages of one topic as they come; of a view always the newest.

        Each call opens a socket: listen once in a process and share what comes.
        ``tracks`` and ``preview`` are encoded BTHY messages; ``feed`` and
        ``status`` are MessagePack.
        """
        door = listen(self._context, self.address, topic)
        try:
            while True:
                message = await door.recv()
                yield message[len(topic) + 1 :]
        finally:
            door.close()

    async def subscribe_values(self, topic: Literal["feed", "status"]) -> AsyncIterator[dict[str, Any]]:
        """Like `subscribe`, unpacked."""
        async for message in self.subscribe(topic):
            yield msgpack.unpackb(message)

    def processes(self) -> dict[str, Any]:
        """The supervisor's record of its processes: ``{name: {state, pid, restarts, problem}}``."""
        return self.address.processes()

    async def close(self) -> None:
        """Give up all waiting requests and shut the doors."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._context.destroy(linger=0)

    def _door(self, endpoint: str) -> zmq.asyncio.Socket:
        if endpoint not in self._doors:
            door = self._context.socket(zmq.DEALER)
            door.linger = 0
            # A request to an engine that is away is not kept for the next one, which would surprise its user.
            door.immediate = True
            self.address.connect(door, endpoint)
            self._doors[endpoint] = door
            self._readers.append(asyncio.create_task(self._read(door, endpoint)))
        return self._doors[endpoint]

    async def _read(self, door: zmq.asyncio.Socket, endpoint: str) -> None:
        """Hand replies to those who wait, until a reply cannot be read; the next request opens the door anew."""
        try:
            while True:
                reply = msgpack.unpackb(await door.recv())
                answer = self._waiting.get(reply["id"])
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except Exception:  # noqa: BLE001  nobody awaits this task; without it every request would wait in vain
            _log.exception("reader_failed", endpoint=endpoint)
            if self._doors.get(endpoint) is door:
                del self._doors[endpoint]
            door.close()


class SyncEngineClient(AbstractContextManager["SyncEngineClient"]):
    """The engine as seen from ordinary code: the supervisor and the commands. Use it from one thread."""

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def request(self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """Ask the engine to do something and return its result.

        Raises
        ------
        EngineAway
            When no answer comes in time.
        EngineRefusal
            When the engine says no.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        door = self._context.socket(zmq.DEALER)
        try:
            door.linger = 0
            door.immediate = True
            door.sndtimeo = int(limit_s * 1000)
            self.address.connect(door, self.address.stop if command == "microscope.stop" else self.address.commands)
            door.send(msgpack.packb({"id": 0, "command": command, "arguments": dict(arguments or {})}))
            if not door.poll(int(max(deadline - time.monotonic(), 0) * 1000)):
                raise self.address.away()
            return result_of(msgpack.unpackb(door.recv()))
        except zmq.Again:
            raise self.address.away() from None
        finally:
            door.close()

    def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], self.request("status"))

    def close(self) -> None:
        """Shut the doors."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
