"""Clients of the engine: they send commands and wait for the reply, and listen to its live messages.

`EngineClient` is for asyncio programs, `SyncEngineClient` for all others.
"""

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
from service.protocol.errors import EngineAway
from service.protocol.live import Topic, listen
from service.protocol.messages import result_of

__all__ = ["EngineClient", "SyncEngineClient"]

_log = structlog.get_logger(__name__)


class EngineClient:
    """Client for an asyncio program, which is the API. Use it from one event loop.

    Parameters
    ----------
    address : LinkAddress
        Where the engine's sockets are.
    timeout_s : float
        Longest wait for a reply, unless a request states its own.
    """

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context = zmq.asyncio.Context()
        self._sockets: dict[str, zmq.asyncio.Socket] = {}
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._readers: list[asyncio.Task[None]] = []

    async def request(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Any:
        """Run a command in the engine and return its result.

        Raises
        ------
        EngineAway
            When no reply comes in time.
        EngineRefusal
            When the engine refuses the command.
        """
        commands = self._socket(_endpoint(self.address, command))
        number = next(self._numbers)
        reply = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            request = msgpack.packb({"id": number, "command": command, "arguments": dict(arguments or {})})
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                await commands.send(request)
                return result_of(await reply)
        except TimeoutError:
            raise self.address.away() from None
        finally:
            del self._waiting[number]

    async def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], await self.request("status"))

    async def subscribe(self, topic: Topic) -> AsyncIterator[bytes]:
        """Messages of one topic as they come; of a view always the newest.

        Each call opens a socket, so subscribe once in a process and share the messages.
        ``tracks`` and ``preview`` are encoded BTHY messages; ``feed`` and
        ``status`` are MessagePack.
        """
        listener = listen(self._context, self.address, topic)
        try:
            while True:
                message = await listener.recv()
                yield message[len(topic) + 1 :]
        finally:
            listener.close()

    async def subscribe_values(self, topic: Literal["feed", "status"]) -> AsyncIterator[dict[str, Any]]:
        """Like `subscribe`, unpacked."""
        async for message in self.subscribe(topic):
            yield msgpack.unpackb(message)

    def away(self) -> EngineAway:
        """The error that says that the engine does not respond, and what to do."""
        return self.address.away()

    def processes(self) -> dict[str, Any]:
        """State of each process of the service: ``{name: {state, pid, restarts, problem}}``."""
        return self.address.record.processes()

    async def close(self) -> None:
        """Cancel all waiting requests and close the sockets."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._context.destroy(linger=0)

    def _socket(self, endpoint: str) -> zmq.asyncio.Socket:
        if endpoint not in self._sockets:
            commands = self._context.socket(zmq.DEALER)
            commands.linger = 0
            # ZeroMQ must not keep a request for the next engine: it would run at a time its user does not expect.
            commands.immediate = True
            self.address.connect(commands, endpoint)
            self._sockets[endpoint] = commands
            self._readers.append(asyncio.create_task(self._read(commands, endpoint)))
        return self._sockets[endpoint]

    async def _read(self, commands: zmq.asyncio.Socket, endpoint: str) -> None:
        """Pass replies to the waiting requests until one cannot be read; the next request opens a new socket."""
        try:
            while True:
                message = msgpack.unpackb(await commands.recv())
                reply = self._waiting.get(message["id"])
                if reply is not None and not reply.done():
                    reply.set_result(message)
        except Exception:  # noqa: BLE001  no task awaits this one; without it every request would wait in vain
            _log.exception("reader_failed", endpoint=endpoint)
            if self._sockets.get(endpoint) is commands:
                del self._sockets[endpoint]
            commands.close()


class SyncEngineClient(AbstractContextManager["SyncEngineClient"]):
    """Client for code without an event loop: the supervisor and the command line. Use it from one thread."""

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def request(self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """Run a command in the engine and return its result.

        Raises
        ------
        EngineAway
            When no reply comes in time.
        EngineRefusal
            When the engine refuses the command.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        commands = self._context.socket(zmq.DEALER)
        try:
            commands.linger = 0
            commands.immediate = True
            commands.sndtimeo = int(limit_s * 1000)
            self.address.connect(commands, _endpoint(self.address, command))
            commands.send(msgpack.packb({"id": 0, "command": command, "arguments": dict(arguments or {})}))
            if not commands.poll(int(max(deadline - time.monotonic(), 0) * 1000)):
                raise self.address.away()
            return result_of(msgpack.unpackb(commands.recv()))
        except zmq.Again:
            raise self.address.away() from None
        finally:
            commands.close()

    def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], self.request("status"))

    def close(self) -> None:
        """Close the sockets."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _endpoint(address: LinkAddress, command: str) -> str:
    """The socket of a command: the stop command has its own."""
    return address.stop if command == "microscope.stop" else address.commands
