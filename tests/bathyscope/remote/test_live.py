"""Iteration over live streams: the newest state, breaks of the network and restarts of the engine, and refusals."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

import bathyscope
from bathyscope.remote import watch as watch_module
from bathyscope.remote.live_items import LiveTracks
from bathyscope.remote.problems import ServiceAway, ServiceError
from service.protocol import wire


def tracks(sequence: int, epoch: str = "e1", rows: int = 2) -> bytes:
    header = {
        "epoch": epoch, "sequence": sequence, "captured_s": 1.0, "captured_monotonic_s": 2.0, "published_s": 1.01,
        "run": "r1", "frame": sequence, "t_s": sequence / 100, "fps": 100.0,
    }  # fmt: skip
    names = ("x_um", "y_um", "z_um")
    return wire.encode(
        wire.TRACKS,
        header,
        {
            "track_id": np.arange(rows, dtype=np.uint32) + 7,
            **{name: np.full(rows, float(sequence), np.float32) for name in names},
            "flags": np.array([1, 2][:rows], np.uint32),
        },
    )


Connection = Callable[[ServerConnection], None]


@contextmanager
def service(*connections: Connection) -> Iterator[str]:
    """A service whose WebSockets behave as the functions say, one after another; its address."""
    waiting = list(connections)

    def handle(socket: ServerConnection) -> None:
        (waiting.pop(0) if waiting else lambda socket: socket.close())(socket)

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


received = threading.Semaphore(0)
"""Released for each state that the test has got: the next message is sent then, since of two only the newest counts."""


def sends(*messages: bytes, then: Callable[[ServerConnection], Any] = lambda socket: socket.close()) -> Connection:
    """Send each message when the test has got the one before, then end."""

    def behave(socket: ServerConnection) -> None:
        for message in messages:
            socket.send(message)
            received.acquire(timeout=20)
        then(socket)

    return behave


def breaks(socket: ServerConnection) -> None:
    socket.socket.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_FIRST_PAUSE_S", 0.01)
    while received.acquire(blocking=False):  # left by another test
        pass


def first(count: int, states: Iterator[LiveTracks]) -> list[LiveTracks]:
    got = []
    for _ in range(count):
        got.append(next(states))
        received.release()
    return got


def test_a_state_has_columns_flags_and_positions() -> None:
    with service(sends(tracks(4))) as address, bathyscope.Client(address) as client:
        (state,) = first(1, client.live.tracks())
    assert (len(state), state.run, state.frame, state.t_s) == (2, "r1", 4, 0.04)
    assert state["z_um"].tolist() == [4.0, 4.0]
    assert (state.coasting.tolist(), state.near_focus.tolist()) == ([True, False], [False, True])
    assert (state.position_um(8), state.position_um(99)) == ((4.0, 4.0, 4.0), None)


def test_a_broken_network_and_a_restarted_engine_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "bathyscope")
    parts = [
        sends(tracks(0), tracks(3), then=breaks),
        sends(tracks(6), then=breaks),
        sends(tracks(0, "e2"), tracks(1, "e3")),
    ]
    with service(*parts) as address, bathyscope.Client(address) as client:
        states = first(5, client.live.tracks())
    assert [state.sequence for state in states] == [0, 3, 6, 0, 1]
    assert [state.missed for state in states] == [0, 2, 2, 0, 0]
    said = [state.interruption or "" for state in states]
    assert said[:2] == ["", ""]
    assert "connection was lost" in said[2]
    assert "restarted" not in said[2]
    assert "connection was lost" in said[3]
    assert "engine was restarted" in said[3]
    assert said[4].startswith("The engine was restarted")
    assert sum("restarted" in record.message for record in caplog.records) == 2


def test_the_same_in_an_event_loop() -> None:
    async def watch(address: str) -> list[LiveTracks]:
        states = []
        async with bathyscope.AsyncClient(address) as client:
            async for state in client.live.tracks():
                states.append(state)
                received.release()
                if len(states) == 3:
                    break
        return states

    with service(sends(tracks(0), then=breaks), sends(tracks(1), tracks(0, "e2"))) as address:
        states = asyncio.run(watch(address))
    assert [(state.epoch, state.sequence) for state in states] == [("e1", 0), ("e1", 1), ("e2", 0)]
    assert "connection was lost" in str(states[1].interruption)


def hurry(socket: ServerConnection) -> None:
    """One state, and when the test has got it, nine more at once."""
    socket.send(tracks(0))
    received.acquire(timeout=20)
    for sequence in range(1, 10):
        socket.send(tracks(sequence))
    socket.recv()


def test_a_slow_loop_gets_the_newest_state() -> None:
    with service(hurry) as address, bathyscope.Client(address) as client:
        states = client.live.tracks()
        first(1, states)
        threading.Event().wait(1.0)
        (state,) = first(1, states)
        assert (state.sequence, state.missed) == (9, 8)
        states.close()  # type: ignore[attr-defined]


def test_a_slow_loop_in_an_event_loop_gets_the_newest_state() -> None:
    async def watch(address: str) -> list[int]:
        async with bathyscope.AsyncClient(address) as client, aclosing(client.live.tracks()) as states:
            sequences = [(await anext(states)).sequence]
            received.release()
            await asyncio.sleep(1.0)
            return [*sequences, (await anext(states)).sequence]

    with service(hurry) as address:
        assert asyncio.run(watch(address)) == [0, 9]


def test_a_service_that_stays_away_ends_the_iteration() -> None:
    with service(sends(tracks(0), then=breaks)) as address, bathyscope.Client(address) as client:
        states = client.live.tracks(patience_s=0.2)
        first(1, states)
    with pytest.raises(ServiceAway, match="does not respond"):
        next(states)


def test_a_service_that_accepts_and_closes_at_once_is_away() -> None:
    with (
        service() as address,
        bathyscope.Client(address) as client,
        pytest.raises(ServiceAway, match="does not respond"),
    ):
        next(client.live.tracks(patience_s=0.3))


def test_an_iteration_lasts_as_long_as_asked() -> None:
    with service(lambda socket: socket.recv()) as address, bathyscope.Client(address) as client:  # type: ignore[arg-type]
        assert list(client.live.tracks(duration_s=0.1)) == []


def test_the_key_is_sent_first_and_a_wrong_one_is_refused() -> None:
    keys = []

    def refuse(socket: ServerConnection) -> None:
        keys.append(socket.recv())
        socket.close(4401, "The first message must be a key.")

    with service(refuse) as address, bathyscope.Client(address, key="wrong") as client:
        with pytest.raises(ServiceError, match="access key") as refusal:
            next(client.live.tracks())
        assert (refusal.value.status, refusal.value.kind) == (401, "access-key")
    assert keys == ['{"access_key": "wrong"}']
