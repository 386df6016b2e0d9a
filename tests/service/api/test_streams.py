from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from service.api.outbox import Outbox
from service.protocol import wire
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.store import Store
from tests.service.api_peer import Peer, Server, filled_store, link

pytestmark = pytest.mark.anyio

KEY = "a-long-random-access-key"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def address() -> Iterator[LinkAddress]:
    with link() as address:
        yield address


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store, _ = filled_store(tmp_path_factory.mktemp("streams"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def server(address: LinkAddress, store: Store) -> Iterator[Server]:
    server = Server(Settings(data_dir=Path(store.location).parent), address, store, Path("none"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def keyed(address: LinkAddress, store: Store) -> Iterator[Server]:
    settings = Settings(data_dir=Path(store.location).parent, access_key=KEY)
    server = Server(settings, address, store, Path("none"))
    yield server
    server.close()


@pytest.fixture
def peer(address: LinkAddress, store: Store) -> Iterator[Peer]:
    peer = Peer(address, store)
    yield peer
    peer.close()


@asynccontextmanager
async def publishing(peer: Peer, rows: int = 3, interval_s: float = 0.01) -> AsyncIterator[None]:
    """Tracks, preview and status, again and again, while the block runs."""

    async def publish() -> None:
        sequence = 0
        while True:
            sequence += 1
            peer.publish_tracks(sequence, rows)
            peer.publish_preview(sequence)
            if sequence % 10 == 1:
                peer.publish_status()
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()


def address_of(server: Server, view: str) -> str:
    return f"ws://{server.host}/api/v1/{view}"


async def refused(url: str, **options: Any) -> httpx.Response:
    """The HTTP answer to a WebSocket that is not let in."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    answer = caught.value.response
    return httpx.Response(
        answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b"")
    )


async def close_code(socket: ClientConnection) -> int:
    async with asyncio.timeout(20):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass
    assert socket.close_code is not None
    return socket.close_code


async def eventually(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_tracks_and_preview_are_sent_on_as_they_are(server: Server, peer: Peer) -> None:
    async with publishing(peer), connect(address_of(server, "stream")) as stream:
        assert "Sec-WebSocket-Extensions" not in (stream.response.headers if stream.response else {})
        kind, header, columns = wire.decode(bytes(await stream.recv(decode=False)))
        assert (kind, header["rows"], header["epoch"]) == (wire.TRACKS, 3, "e1")
        assert columns["track_id"].tolist() == [0, 1, 2]
        assert columns["x_um"].tolist() == [header["sequence"]] * 3
        async with connect(address_of(server, "preview")) as preview:
            kind, header, columns = wire.decode(bytes(await preview.recv(decode=False)))
            assert (kind, header["width"], header["height"], len(columns["pixels"])) == (wire.PREVIEW, 64, 32, 2048)


async def test_feed_begins_with_the_state(server: Server, peer: Peer) -> None:
    async with connect(address_of(server, "feed")) as feed:
        first = json.loads(await feed.recv())
        assert first["type"] == "status"
        event = {"kind": "camera_lost", "message": "Cam1 is gone.", "value": float("nan")}
        async with asyncio.timeout(20), publishing(peer):
            while json.loads(await feed.recv()).get("state") != "running":
                pass
            # Each topic has a connection of its own: the one for events may come up after the one for the state.
            while (message := json.loads(await feed.recv()))["type"] != "event":
                peer.live.send_values("feed", event)
            assert message == {"type": "event", "kind": "camera_lost", "message": "Cam1 is gone.", "value": None}


async def test_feed_tells_that_the_engine_is_away(server: Server, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.live._STATUS_LIMIT_S", 0.3)
    async with connect(address_of(server, "feed")) as feed:
        async with asyncio.timeout(10):
            while (message := json.loads(await feed.recv())).get("state") != "engine away":
                pass
        assert message["ready"] is False
        assert "does not respond" in message["problem"]
        assert message["remedy"]


async def test_slow_client_gets_the_newest_state(server: Server, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.stream.SEND_TIMEOUT_S", 60.0)  # slow, but not yet taken for dead
    # 300 kB a message: buffers between server and client hold a few dozen at most, a queue would hold them all.
    rows, published = 6000, 400
    async with connect(address_of(server, "stream"), max_queue=1) as slow, connect(address_of(server, "feed")) as feed:
        await wait_until_heard(peer, feed)
        before_mb = psutil.Process().memory_info().rss / 1e6
        for sequence in range(1, published + 1):
            peer.publish_tracks(sequence, rows)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        grown_mb = psutil.Process().memory_info().rss / 1e6 - before_mb
        received = []
        async with asyncio.timeout(20):
            while not received or received[-1] < published:
                _, header, _ = wire.decode(bytes(await slow.recv(decode=False)))
                if header["rows"] == rows:  # not the newest one of the test before
                    received.append(header["sequence"])
    assert received == sorted(received)
    assert received[-1] == published
    assert len(received) < published / 2
    assert grown_mb < 60  # all messages together are 120 MB
    assert dropped(server, "stream") > published / 2


async def wait_until_heard(peer: Peer, feed: ClientConnection) -> None:
    """Publish until the API listens: what is published before nobody gets."""
    async with asyncio.timeout(10):
        while True:
            peer.publish_status(state="ready")
            if json.loads(await feed.recv()).get("state") == "ready":
                return


def dropped(server: Server, view: str) -> int:
    return int(server.app.state.live.dropped[view])


async def test_stalled_client_is_disconnected(server: Server, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.stream.SEND_TIMEOUT_S", 0.5)
    live = server.app.state.live
    gone = live.disconnected["preview"]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(
        f"GET /api/v1/preview HTTP/1.1\r\nHost: {server.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in await reader.readline()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # from here on it takes nothing, not even pings
    deadline = time.monotonic() + 30
    sequence = 0
    while live.disconnected["preview"] == gone:
        assert time.monotonic() < deadline, "the stalled client is still held"
        sequence += 1
        peer.publish_preview(sequence, 512, 512)
        await asyncio.sleep(0.01)
    assert live.clients["preview"] == 0
    # The connection itself is gone too, without waiting for what the client will never read.
    process, port = psutil.Process(), writer.get_extra_info("sockname")[1]
    await eventually(lambda: not any(c.raddr and c.raddr.port == port for c in process.net_connections("tcp")))
    writer.close()


async def test_clients_are_counted_and_forgotten(server: Server, peer: Peer) -> None:
    live = server.app.state.live
    async with connect(address_of(server, "stream")), connect(address_of(server, "stream")) as second:
        await second.send("whatever a client says has no meaning")
        await second.send(b"\x00")
        await eventually(lambda: live.clients["stream"] == 2)
    await eventually(lambda: live.clients["stream"] == 0)


async def test_long_message_is_refused(server: Server, peer: Peer) -> None:
    async with connect(address_of(server, "feed")) as feed:
        await feed.send("x" * 10_000)
        assert await close_code(feed) == 1009


@pytest.mark.parametrize(
    ("headers", "word"),
    [({"Origin": "http://evil.example"}, "another site"), ({"Origin": "null"}, "another site")],
)
@pytest.mark.parametrize("view", ["stream", "preview", "feed"])
async def test_other_sites_pages_are_refused(server: Server, view: str, headers: dict[str, str], word: str) -> None:
    answer = await refused(address_of(server, view), additional_headers=headers)
    assert answer.status_code == 403
    assert word in answer.json()["detail"]
    assert answer.json()["remedy"]


async def test_other_hosts_are_refused(server: Server) -> None:
    sockets = f"ws://evil.example:{server.port}/api/v1/stream"
    answer = await refused(sockets, host="127.0.0.1", port=server.port)
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["detail"]


async def test_own_page_is_let_in(server: Server) -> None:
    async with connect(address_of(server, "feed"), origin=f"http://{server.host}") as feed:
        assert json.loads(await feed.recv())["type"] == "status"


@pytest.mark.parametrize(
    "first",
    [
        "", "nonsense", "[]", "{}", '{"access_key": 1}', '{"access_key": "wrong"}', b"\x00", "[" * 2000,
        '{"access_key": "\\ud800"}',
    ],
)  # fmt: skip
async def test_wrong_key_closes_the_socket(keyed: Server, first: str | bytes) -> None:
    async with connect(address_of(keyed, "stream")) as socket:
        await socket.send(first)
        assert await close_code(socket) == 4401


async def test_missing_key_closes_the_socket(keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.stream.KEY_TIMEOUT_S", 0.2)
    async with connect(address_of(keyed, "stream")) as socket:
        assert await close_code(socket) == 4401
    assert keyed.app.state.live.clients["stream"] == 0


async def test_right_key_opens_the_feed(keyed: Server) -> None:
    async with connect(address_of(keyed, "feed")) as feed:
        await feed.send(json.dumps({"access_key": KEY}))
        assert json.loads(await feed.recv())["type"] == "status"


async def test_outbox_keeps_the_newest_view_and_the_newest_events() -> None:
    outbox = Outbox()
    for number in range(300):
        outbox.put_event(f"event {number}")
        outbox.put_view(f"view {number}")
    taken = [await outbox.take() for _ in range(257)]
    assert taken[0] == "event 44"  # 256 events wait; the oldest gave way
    assert taken[-2:] == ["event 299", "view 299"]
    assert outbox.dropped == 44 + 299
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await outbox.take()


async def test_a_view_is_sent_at_once_only_when_nothing_older_is_on_its_way() -> None:
    outbox, sent, ready = Outbox(), [], True

    def send_now(message: str | bytes) -> bool:
        if ready:
            sent.append(message)
        return ready

    outbox.send_now = send_now
    outbox.put_view("view 1")
    ready = False
    outbox.put_view("view 2")
    ready = True
    outbox.put_view("view 3")  # replaces the one that waits
    assert sent == ["view 1"]
    assert await outbox.take() == "view 3"
    assert outbox.held_up_s > 0
    outbox.put_view("view 4")  # the one before is still being sent
    assert await outbox.take() == "view 4"
    waiting = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert outbox.held_up_s == 0
    outbox.put_view("view 5")
    assert sent == ["view 1", "view 5"]
    outbox.put_event("event")
    outbox.put_view("view 6")  # not before the event
    assert await waiting == "event"
    assert await outbox.take() == "view 6"
    assert outbox.dropped == 1


@pytest.mark.parametrize("rows", [0, 1, 3000])
async def test_messages_of_all_lengths_arrive_whole(server: Server, peer: Peer, rows: int) -> None:
    async with publishing(peer, rows), connect(address_of(server, "stream"), max_size=None) as stream:
        received: list[int] = []
        async with asyncio.timeout(20):
            while len(received) < 5:
                _, header, columns = wire.decode(bytes(await stream.recv(decode=False)))
                if header["rows"] == rows:  # not the newest one of the test before
                    assert columns["z_um"].tolist() == [header["sequence"]] * rows
                    received.append(header["sequence"])
    assert received == sorted(received)


async def test_server_ends_with_clients_connected(address: LinkAddress, store: Store) -> None:
    server = Server(Settings(data_dir=Path(store.location).parent), address, store, Path("none"))
    async with connect(address_of(server, "feed")) as feed:
        await feed.recv()
        await asyncio.to_thread(server.close)
        assert await close_code(feed) == 1012  # service restart: the page comes back
