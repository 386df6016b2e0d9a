from __future__ import annotations

import asyncio
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
import zmq

from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient, SyncEngineClient
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineAway, EngineRefusal
from service.protocol.live import LivePublisher
from tests.conftest import missing


@pytest.fixture(params=[False, True], ids=["ipc", "tcp"])
def address(request: Any) -> Any:
    if not request.param and not zmq.has("ipc"):
        missing("this platform has no ipc sockets")
    address = LinkAddress.create(tcp=request.param)
    yield address
    shutil.rmtree(address.folder)


def answer(command: Any, arguments: Any) -> Any:
    if command == "wait":
        time.sleep(arguments["s"])
        return "waited"
    if command == "refuse":
        raise EngineRefusal("conflict", "Something is on.", "Stop it.")
    if command == "fail":
        raise RuntimeError("broken")
    if command == "undecodable":
        raise RuntimeError("25\udcb5m")
    if command == "odd letters":
        return "25\udcb5m"
    if command == "unpackable":
        return object()
    return {"command": command, **arguments}


def unexpected(error: Exception) -> None:
    raise AssertionError("the door failed") from error


@pytest.fixture
def server(address: LinkAddress) -> Any:
    server = CommandServer(address, address.commands, answer, unexpected)
    yield server
    server.close()


def test_the_folder_is_private(address: LinkAddress) -> None:
    assert stat.S_IMODE(Path(address.folder).stat().st_mode) == 0o700


def test_requests_find_their_own_answers(address: LinkAddress, server: CommandServer) -> Any:
    async def ask() -> Any:
        client = EngineClient(address, 2.0)
        try:
            # The slow one is asked first and answered last.
            return await asyncio.gather(
                client.request("wait", {"s": 0.3}), *(client.request("echo", {"n": n}) for n in range(20))
            )
        finally:
            await client.close()

    slow, *quick = asyncio.run(ask())
    assert slow == "waited"
    assert [reply["n"] for reply in quick] == list(range(20))


@pytest.mark.parametrize(
    ("command", "kind"), [("refuse", "conflict"), ("fail", "internal"), ("unpackable", "internal")]
)
def test_refusals_arrive_whole(address: LinkAddress, server: CommandServer, command: Any, kind: Any) -> None:
    with SyncEngineClient(address) as client:
        with pytest.raises(EngineRefusal) as refusal:
            client.request(command)
        assert refusal.value.kind == kind
        assert refusal.value.problem
        assert refusal.value.remedy
        assert client.request("echo", {"n": 1})["n"] == 1


def test_a_request_without_sense_harms_nobody(address: LinkAddress, server: CommandServer) -> None:
    context = zmq.Context()
    door = context.socket(zmq.DEALER)
    address.connect(door, address.commands)
    door.send(b"\xc1 not MessagePack")
    assert msgpack.unpackb(door.recv())["error"]["kind"] == "internal"
    door.close()
    context.term()
    with SyncEngineClient(address) as client:
        assert client.request("echo", {"n": 2})["n"] == 2


def test_a_door_that_fails_tells_whom_it_serves(address: LinkAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = []
    server = CommandServer(address, address.commands, answer, failures.append)

    def broken(*_: Any) -> None:
        raise ValueError("no thread")

    monkeypatch.setattr(server._pool, "submit", broken)
    with SyncEngineClient(address, 1.0) as client, pytest.raises(EngineAway):
        client.request("anything")
    server.close()
    assert [str(failure) for failure in failures] == ["no thread"]


def test_what_a_handler_raises_is_answered_and_logged(address: LinkAddress, server: CommandServer) -> None:
    with SyncEngineClient(address, 10.0) as client:
        for command in ("fail", "unpackable", "undecodable"):
            with structlog.testing.capture_logs() as logs, pytest.raises(EngineRefusal) as refusal:
                client.request(command)
            assert refusal.value.kind == "internal"
            assert [entry["event"] for entry in logs] == ["command_failed"]
        assert client.request("odd letters") == "25\\udcb5m"


def test_silence_is_an_engine_that_is_away(address: LinkAddress) -> None:
    async def ask() -> None:
        client = EngineClient(address, 0.2)
        try:
            await client.request("status")
        finally:
            await client.close()

    with pytest.raises(EngineAway, match="does not answer"):
        asyncio.run(ask())
    with SyncEngineClient(address, 0.2) as client, pytest.raises(EngineAway):
        client.status()


def test_a_late_answer_is_an_absence_too(address: LinkAddress, server: CommandServer) -> None:
    with SyncEngineClient(address, 0.1) as client, pytest.raises(EngineAway):
        client.request("wait", {"s": 0.4})


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"state": "down", "failures": 5, "problem": "it was ended by SIGSEGV"}, "stays down after 5 failures"),
        ({"state": "pausing", "problem": "it was ended by SIGKILL"}, "is being restarted: it was ended by SIGKILL"),
    ],
)
def test_absence_is_explained_by_the_supervisors_record(address: LinkAddress, record: bool, said: str) -> None:
    address.write_record({"engine": record})
    assert said in str(address.away())
    address.record.write_text("{ half a rec")
    assert "does not answer" in str(address.away())


def test_a_client_outlives_its_server(address: LinkAddress) -> None:
    async def ask() -> None:
        client = EngineClient(address, 5.0)
        try:
            for n in range(2):
                server = CommandServer(address, address.commands, answer, unexpected)
                assert (await client.request("echo", {"n": n}))["n"] == n
                await asyncio.to_thread(server.close)
        finally:
            await client.close()

    asyncio.run(ask())


def test_stop_has_a_door_of_its_own(address: LinkAddress, server: CommandServer) -> None:
    stop = CommandServer(address, address.stop, lambda command, _: {"command": command}, unexpected)
    try:
        with SyncEngineClient(address) as client:
            busy = threading.Thread(target=ask_for_long, args=(address,))
            busy.start()
            begin = time.monotonic()
            assert client.request("microscope.stop") == {"command": "microscope.stop"}
            assert time.monotonic() - begin < 0.5
            busy.join()
    finally:
        stop.close()


def ask_for_long(address: LinkAddress) -> None:
    with SyncEngineClient(address) as client:
        client.request("wait", {"s": 0.5})


def test_views_hold_the_newest_and_the_feed_holds_all(address: LinkAddress) -> Any:
    async def listen() -> Any:
        live = LivePublisher(address)
        client = EngineClient(address)
        status, feed = client.subscribe_values("status"), client.subscribe_values("feed")
        # The first messages are missed while the sockets connect, so publish until both have heard one.
        heard = [asyncio.create_task(anext(status)), asyncio.create_task(anext(feed))]
        while not all(task.done() for task in heard):
            live.send_values("status", {"n": -1})
            live.send_values("feed", {"n": -1})
            await asyncio.sleep(0.02)
        for n in range(100):
            live.send_values("status", {"n": n})
            live.send_values("feed", {"n": n})
        await asyncio.sleep(0.3)  # nobody reads meanwhile
        views, events = [], []
        while not views or views[-1] != 99:
            views.append((await anext(status))["n"])
        while not events or events[-1] != 99:
            events.append((await anext(feed))["n"])
        await status.aclose()
        await feed.aclose()
        await client.close()
        live.close()
        return views, events

    views, events = asyncio.run(asyncio.wait_for(listen(), 20))
    # asyncio's socket may hold one message that it fetched before the pause, besides the newest.
    assert len(views) <= 2
    assert [n for n in events if n >= 0] == list(range(100))


def test_nobody_gets_in_without_the_keys() -> None:
    address = LinkAddress.create(tcp=True)
    server = CommandServer(address, address.commands, answer, unexpected)
    stranger = LinkAddress(address.folder, address.commands, address.stop, address.live)
    try:
        with SyncEngineClient(stranger, 0.5) as client, pytest.raises(EngineAway):
            client.request("echo", {"n": 1})
    finally:
        server.close()
        shutil.rmtree(address.folder)
