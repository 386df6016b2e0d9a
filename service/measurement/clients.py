"""Load on the API: clients of the track stream, some of them stalled, and history queries.

All clients run in one process with one event loop, separate from the service,
so that their processor time is measured separately.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from models.errors import DataError
from service.measurement.viewer import ViewClient
from service.process.children import STOP, follow_parent, ignore_signals
from service.protocol import wire
from service.protocol.latency import LatencyHistogram

__all__ = ["Clients", "Load"]

_START_LIMIT_S = 60.0
_END_LIMIT_S = 20.0

_STALLED_BUFFER_BYTES = 16 * 1024
"""Receive buffer of a stalled client: small, so that it stalls within seconds and not after a minute."""

_DRAIN_S = 1.0
"""A stalled client that reads again and still gets messages after this time was not disconnected."""

_MOST_WAITING = 10
"""Queries in flight; while there are so many, further ones are not sent, and counted."""

_RECENT_S, _BOX_S = 2.0, 5.0
"""Time windows of the queries: the newest tracks of the whole field, and a quarter of it for longer."""

_RESPONSE_LIMIT_S = 10.0
_LOOK_S = 0.2

_CAPTURED = b"captured_monotonic_s\xcb"
"""In MessagePack the name of a field is followed by the type byte of a float64 and its eight bytes."""

_FIRST_ID = re.compile(rb'"id": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Load:
    """Load on the API.

    Attributes
    ----------
    host, port : where the API listens
    access_key : or None
    clients : stream clients, the stalled ones included
    slow_clients : how many of them connect and then never read
    history_rps : queries of tracks per second
    field_um : width and height of the field, µm
    path : of the stream; at a relay that of one scope
    """

    host: str
    port: int
    access_key: str | None = None
    clients: int = 1
    slow_clients: int = 0
    history_rps: float = 0.0
    field_um: tuple[float, float] = (0.0, 0.0)
    path: str = "/api/v1/stream"


class Clients:
    """The process of the clients, as the benchmark uses it; a context manager that ends it.

    Parameters
    ----------
    load : Load
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_clients_process, args=(load, theirs), name="bathyscope-clients")
        self._process.start()
        theirs.close()

    def wait_until_connected(self, pause: Callable[[float | None], None]) -> None:
        """Wait, by `pause`, until all clients are connected.

        Raises
        ------
        DataError
            When they are not within a minute, or the service refused one.
        """
        deadline = time.monotonic() + _START_LIMIT_S
        while not self._pipe.poll():
            if time.monotonic() > deadline:
                raise DataError(
                    f"The stream clients were not connected within {_START_LIMIT_S:g} s.", "Free the processor."
                )
            pause(0.05)
        refused = self._receive()
        if refused is not None:
            raise DataError(f"The stream clients could not connect: {refused}", "See the log of the service.")

    def finish(self) -> dict[str, Any]:
        """End the clients and return their results.

        Raises
        ------
        DataError
            When their process does not respond.
        """
        with contextlib.suppress(OSError):
            self._pipe.send(STOP)
        if not self._pipe.poll(_END_LIMIT_S):
            raise DataError("The stream clients sent no results.", "Run again.")
        seen: dict[str, Any] = self._receive()
        return seen

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # which ends the process, if it has not ended already
        self._process.join(_END_LIMIT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise DataError("The process of the stream clients died.", "Run again with --debug.") from None


def _clients_process(load: Load, parent: Connection) -> None:
    ignore_signals()
    # The parent closes the pipe when it has received the results.
    with contextlib.suppress(OSError):
        asyncio.run(_run(load, parent))


async def _run(load: Load, parent: Connection) -> None:
    loop, ending = asyncio.get_running_loop(), asyncio.Event()

    def end(_interruption: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(ending.set)

    follow_parent(parent, end)
    viewers = [_Viewer(load) for _ in range(load.clients - load.slow_clients)]
    stalled = [_Viewer(load) for _ in range(load.slow_clients)]
    try:
        for viewer in viewers:
            await viewer.connect()
        for viewer in stalled:
            await viewer.connect(_STALLED_BUFFER_BYTES)
            viewer.client.stall()
    except OSError as error:
        parent.send(str(error))
        return
    parent.send(None)
    begin_s, spent_s = time.monotonic(), time.process_time()
    history = _History(load)
    sending = asyncio.create_task(history.send_until_cancelled()) if load.history_rps else None
    await ending.wait()
    wall_s, cpu_s = time.monotonic() - begin_s, time.process_time() - spent_s
    if sending is not None:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
    parent.send(
        {
            "healthy": len(viewers),
            "stalled": len(stalled),
            "stalled_disconnected": await _disconnected(stalled),
            "broken": sum(viewer.client.closed for viewer in viewers),
            "latency": _merged([viewer.latency for viewer in viewers]),
            "messages": [viewer.latency.count for viewer in viewers],
            "messages_per_s": [viewer.rate for viewer in viewers],
            "worst_p99_ms": max(
                (p99 for viewer in viewers if (p99 := viewer.latency.summary_ms()["p99"]) is not None), default=None
            ),
            "history": history.result() if load.history_rps else None,
            "cpu_percent": round(100 * cpu_s / max(wall_s, 1e-9), 1),
        }
    )
    for viewer in (*viewers, *stalled):
        viewer.client.close()


def _merged(histograms: list[LatencyHistogram]) -> LatencyHistogram:
    merged = LatencyHistogram()
    for histogram in histograms:
        merged.include(histogram)
    return merged


async def _disconnected(stalled: list[_Viewer]) -> int:
    """Number of stalled clients that the service has disconnected: their streams end when they read on."""
    for viewer in stalled:
        viewer.client.wake()
    if stalled:
        await asyncio.sleep(_DRAIN_S)
    return sum(viewer.client.closed for viewer in stalled)


class _Viewer:
    """One client of the track stream, and the latency of its messages."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.latency = LatencyHistogram()
        self._first_s = self._last_s = 0.0
        host = f"[{load.host}]" if ":" in load.host else load.host
        self.client = ViewClient(f"{host}:{load.port}", load.path, load.access_key, self._receive)

    async def connect(self, buffer_bytes: int | None = None) -> None:
        """Open the WebSocket; `buffer_bytes`: size of the receive buffer.

        Raises
        ------
        OSError
            When the service refuses.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._load.host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        await loop.sock_connect(connection, (self._load.host, self._load.port))
        await loop.create_connection(lambda: self.client, sock=connection)
        await self.client.opened

    @property
    def rate(self) -> float | None:
        """Messages per second between the first and the last; None below two."""
        span_s = self._last_s - self._first_s
        return round((self.latency.count - 1) / span_s, 2) if span_s > 0 else None

    def _receive(self, message: memoryview, now_s: float) -> None:
        if not self._first_s:
            self._first_s = now_s
        self._last_s = now_s
        self.latency.add(now_s - _captured_s(message))


def _captured_s(message: memoryview) -> float:
    """Mid-exposure time of a track message, monotonic, s.

    Found by its name: decoding the header would take most of the processor time of a client.
    """
    head = bytes(message[: wire.body_offset(message)])
    return float(struct.unpack_from(">d", head, head.index(_CAPTURED) + len(_CAPTURED))[0])


class _History:
    """Queries of past tracks at a steady rate, with the latency of the responses."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._latency = {name: LatencyHistogram() for name in ("recent", "box", "track")}
        self._statuses: Counter[str] = Counter()
        self._not_sent = 0
        self._track: int | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    async def send_until_cancelled(self) -> None:
        """Send queries once a run is on; late ones are sent later, but no more than ten at a time."""
        import httpx

        load = self._load
        host = f"[{load.host}]" if ":" in load.host else load.host
        headers = {"Authorization": f"Bearer {load.access_key}"} if load.access_key else {}
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{load.port}/api/v1", headers=headers, timeout=_RESPONSE_LIMIT_S
        ) as client:
            run, begin_s = await self._wait_for_a_run(client), time.monotonic()
            try:
                for number, name in enumerate(itertools.cycle(self._latency)):
                    due_s = begin_s + number / load.history_rps
                    await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
                    if len(self._waiting) >= _MOST_WAITING:
                        self._not_sent += 1
                        continue
                    query = self._send(client, name, *self._query(name, run, time.monotonic() - begin_s))
                    task = asyncio.create_task(query)
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
            finally:
                for task in self._waiting:
                    task.cancel()
                await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _wait_for_a_run(self, client: Any) -> str:
        while True:
            items = (await client.get("/runs", params={"limit": 1})).json()["items"]
            if items and items[0]["state"] == "running":
                return str(items[0]["id"])
            await asyncio.sleep(_LOOK_S)

    def _query(self, name: str, run: str, t_s: float) -> tuple[str, dict[str, Any]]:
        width_um, height_um = self._load.field_um
        if name == "track" and self._track is not None:
            return f"/runs/{run}/tracks/{self._track}", {}
        window = {"t_from_s": max(t_s - (_BOX_S if name == "box" else _RECENT_S), 0.0), "t_to_s": t_s}
        if name == "box":
            window |= {"x_min_um": 0.0, "x_max_um": width_um / 2, "y_min_um": 0.0, "y_max_um": height_um / 2}
        return f"/runs/{run}/tracks", window

    async def _send(self, client: Any, name: str, path: str, parameters: dict[str, Any]) -> None:
        import httpx

        sent_s = time.monotonic()
        try:
            response = await client.get(path, params=parameters)
        except httpx.HTTPError as error:
            self._statuses[type(error).__name__] += 1
            return
        self._latency[name].add(time.monotonic() - sent_s)
        self._statuses[str(response.status_code)] += 1
        if name == "recent" and (first := _FIRST_ID.search(response.content)):
            self._track = int(first[1])

    def result(self) -> dict[str, Any]:
        """Responses by status, queries that were not sent, and latency by kind of query."""
        return {
            "asked_per_s": self._load.history_rps,
            "answers": dict(self._statuses),
            "not_asked": self._not_sent,
            "latency_ms": {name: histogram.summary_ms() for name, histogram in self._latency.items()},
        }
