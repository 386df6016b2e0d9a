"""Iteration over the live streams of the service, in a thread or in an event loop.

The newest item is what counts: a loop body that is too slow gets fewer items,
and never old ones. After a restart of the engine or a broken network the
iteration goes on by itself, and the next item says what happened.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from bathyscope.remote.live_items import LiveFrame, LiveTracks
from bathyscope.remote.records import RunRecord
from bathyscope.remote.runs import get_run
from bathyscope.remote.steps import id_of
from bathyscope.remote.transports import AsyncTransport, Transport
from bathyscope.remote.watch import SOCKET_OPTIONS, Watch

__all__ = ["AsyncLive", "Live"]

_PATIENCE_S = 60.0
"""Longest absence of the service during an iteration: a restart takes less."""

_SILENCE_S = 1.0
"""After this time without a message it is checked whether the run has ended."""

_BROKEN = (OSError, WebSocketException, EOFError)

Item = TypeVar("Item", LiveTracks, LiveFrame)


class Live:
    """The live streams, for the synchronous client.

    Parameters
    ----------
    transport : Transport
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def tracks(
        self,
        *,
        run: RunRecord | str | None = None,
        duration_s: float | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> Iterator[LiveTracks]:
        """The state of all live tracks after each frame, as often as the engine publishes.

        Parameters
        ----------
        run : RunRecord or str, optional
            The iteration ends with this run. Absent: it goes on with the next run.
        duration_s : float, optional
            The iteration ends after this time.
        patience_s : float
            Longest time without a connection, s.

        Raises
        ------
        ServiceAway
            When the service is away for longer than `patience_s`.
        ServiceError
            When it refuses the access key.
        """
        watch = Watch(self._transport.place, "/stream", LiveTracks.read, duration_s, patience_s)
        wanted = None if run is None else id_of(run)
        for state in self._items(watch):
            if state is not None and wanted in (None, state.run):
                yield state
            elif wanted is not None and self._transport.perform(get_run(wanted)).state != "running":
                return

    def frames(self, *, duration_s: float | None = None, patience_s: float = _PATIENCE_S) -> Iterator[LiveFrame]:
        """The newest camera frame, at most ten a second; parameters and errors as of `tracks`."""
        watch = Watch(self._transport.place, "/preview", LiveFrame.read, duration_s, patience_s)
        for frame in self._items(watch):
            if frame is not None:
                yield frame

    def feed(self) -> Iterator[dict[str, Any]]:
        """Status (about four a second), events and changed jobs, each with its ``type``, until the connection ends."""
        watch = Watch(self._transport.place, "/feed", LiveTracks.read, None, 0.0)
        try:
            with connect(watch.url, **SOCKET_OPTIONS) as socket:
                _greet(socket, watch)
                for message in socket:
                    yield json.loads(message)
        except _BROKEN as error:
            watch.broken(error)

    def _items(self, watch: Watch[Item]) -> Iterator[Item | None]:
        """Items, and None after each silent second."""
        while not watch.over:
            try:
                with connect(watch.url, **SOCKET_OPTIONS) as socket:
                    _greet(socket, watch)
                    while not watch.over:
                        try:
                            message = socket.recv(timeout=watch.wait_s(_SILENCE_S))
                        except TimeoutError:
                            watch.works()
                            yield None
                            continue
                        yield watch.item(_newest(socket, message))
            except _BROKEN as error:
                time.sleep(watch.broken(error))


class AsyncLive:
    """The live streams, for the asynchronous client.

    Parameters
    ----------
    transport : AsyncTransport
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def tracks(
        self,
        *,
        run: RunRecord | str | None = None,
        duration_s: float | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> AsyncGenerator[LiveTracks, None]:
        """As `Live.tracks`, in an ``async for``."""
        watch = Watch(self._transport.place, "/stream", LiveTracks.read, duration_s, patience_s)
        wanted = None if run is None else id_of(run)
        async with aclosing(self._items(watch)) as items:
            async for state in items:
                if state is not None and wanted in (None, state.run):
                    yield state
                elif wanted is not None and (await self._transport.perform(get_run(wanted))).state != "running":
                    return

    async def frames(
        self, *, duration_s: float | None = None, patience_s: float = _PATIENCE_S
    ) -> AsyncGenerator[LiveFrame, None]:
        """As `Live.frames`, in an ``async for``."""
        watch = Watch(self._transport.place, "/preview", LiveFrame.read, duration_s, patience_s)
        async with aclosing(self._items(watch)) as items:
            async for frame in items:
                if frame is not None:
                    yield frame

    async def feed(self) -> AsyncGenerator[dict[str, Any], None]:
        """As `Live.feed`, in an ``async for``."""
        watch = Watch(self._transport.place, "/feed", LiveTracks.read, None, 0.0)
        try:
            async with async_connect(watch.url, **SOCKET_OPTIONS) as socket:
                await _async_greet(socket, watch)
                async for message in socket:
                    yield json.loads(message)
        except _BROKEN as error:
            watch.broken(error)

    async def _items(self, watch: Watch[Item]) -> AsyncGenerator[Item | None, None]:
        while not watch.over:
            try:
                async with async_connect(watch.url, **SOCKET_OPTIONS) as socket:
                    await _async_greet(socket, watch)
                    while not watch.over:
                        try:
                            async with asyncio.timeout(watch.wait_s(_SILENCE_S)):
                                message = await socket.recv()
                        except TimeoutError:
                            watch.works()
                            yield None
                            continue
                        yield watch.item(await _async_newest(socket, message))
            except _BROKEN as error:
                await asyncio.sleep(watch.broken(error))


def _greet(socket: ClientConnection, watch: Watch[Any]) -> None:
    if (greeting := watch.greeting()) is not None:
        socket.send(greeting)


async def _async_greet(socket: AsyncConnection, watch: Watch[Any]) -> None:
    if (greeting := watch.greeting()) is not None:
        await socket.send(greeting)


def _newest(socket: ClientConnection, message: str | bytes) -> str | bytes:
    """The last message that has arrived, and otherwise `message`."""
    with suppress(TimeoutError):
        while True:
            message = socket.recv(timeout=0)
    return message


async def _async_newest(socket: AsyncConnection, message: str | bytes) -> str | bytes:
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0):
                message = await socket.recv()
    return message
