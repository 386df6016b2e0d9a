"""Downloads that nobody reads, failures in the midst of them, and too many reads at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest

from models.tables import Localizations, Tracks
from service.api.problems import NotReady
from service.api.reads import ReadLimit
from service.settings import Settings
from service.store.errors import StoreError
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.api_peer import Server, link
from tests.service.store_samples import frame_times, sample_batch, sample_ledger

_POINTS = 60_000
"""As CSV some 10 MB: more than any system keeps in the buffers of a connection."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("reads") / "bathyscope.db")
    store.migrate()
    frame = np.arange(_POINTS)
    values = np.random.default_rng(1).normal(50.0, 20.0, _POINTS)
    columns = dict.fromkeys(Tracks.names(), values) | {"track_id": np.ones(_POINTS), "frame": frame, "t_s": frame / 100}
    store.runs.create(model_id="m", record=False, run_id="long")
    tracks = Tracks.from_columns(columns | {"observed": np.ones(_POINTS), "probability": np.ones(_POINTS)})
    store.append("long", ResultBatch(Localizations.empty(), tracks, frame_times(0)), sample_ledger(0))
    store.runs.create(model_id="m", record=False, run_id="short")
    store.append("short", ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    yield store
    store.close()


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Server]:
    with link() as address:
        server = Server(Settings(data_dir=tmp_path), address, store, Path("none"))
        yield server
        server.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.host}", timeout=60) as client:
        yield client


class Deaf:
    """A client that asks for all points and reads nothing."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", server.port))
        head = "GET /api/v1/runs/long/tracks HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/csv\r\n\r\n"
        self.socket.sendall(head.encode())


def open_downloads(server: Server) -> int:
    return int(server.app.state.reads._downloads)


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def download(client: httpx.Client) -> httpx.Response:
    return client.get("/api/v1/runs/long/tracks", headers={"Accept": "text/csv"})


def test_downloads_that_nobody_reads_are_few_and_end(
    server: Server, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = [Deaf(server) for _ in range(16)]
    eventually(lambda: open_downloads(server) == 16, "all of them are open")
    refused = download(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "16 downloads are open" in refused.json()["detail"]
    assert client.get("/api/v1/runs/long/tracks/1?limit=10").json()["frame"] == [*range(10)]

    for one in deaf[:4]:
        one.socket.close()
    eventually(lambda: open_downloads(server) == 12, "clients that have left make room")
    monkeypatch.setattr("service.api.bounded_http.WRITE_TIMEOUT_S", 0.2)
    late = [Deaf(server) for _ in range(4)]
    eventually(lambda: download(client).status_code == 200, "clients that take nothing are let go")
    assert len(download(client).text.splitlines()) == _POINTS + 1
    for one in (*deaf[4:], *late):
        one.socket.close()
    eventually(lambda: open_downloads(server) == 0, "none is left open")


def test_a_download_that_is_broken_off_is_seen_to_be(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.bounded_http.WRITE_TIMEOUT_S", 0.2)
    deaf = Deaf(server)
    eventually(lambda: open_downloads(server) == 1, "it is open")
    eventually(lambda: open_downloads(server) == 0, "it is let go")
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := deaf.socket.recv(1 << 20):
            received += part
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")  # the end of a chunked body
    deaf.socket.close()


def test_no_transaction_is_open_while_a_client_sleeps(server: Server, store: Store) -> None:
    deaf = Deaf(server)
    eventually(lambda: open_downloads(server) == 1, "it is open")
    pool = store._database._engine.pool
    eventually(lambda: pool.checkedout() == 0, "all connections are back in the pool")  # type: ignore[attr-defined]
    assert open_downloads(server) == 1
    deaf.socket.close()
    eventually(lambda: open_downloads(server) == 0, "it is closed")


def test_a_failure_before_the_first_part_is_an_answer(
    server: Server, client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[Tracks]:
        yield from ()
        raise StoreError("The database is gone.", "Put it back.")

    monkeypatch.setattr(store.tracks, "stream", fail)
    answer = download(client)
    assert (answer.status_code, answer.json()["remedy"]) == (503, "Put it back.")


def test_a_failure_in_the_midst_breaks_the_body_off(
    server: Server, client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.tracks.stream

    def fail(*arguments: object) -> Iterator[Tracks]:
        parts = real(*arguments)  # type: ignore[arg-type]
        yield next(parts)
        raise StoreError("The database is gone.", "Put it back.")

    monkeypatch.setattr(store.tracks, "stream", fail)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        download(client)
    assert open_downloads(server) == 0


def test_as_many_reads_as_may_be() -> None:
    """Two at once, three waiting: the sixth is refused, and there is room again when they have ended."""
    running = threading.Semaphore(0)
    go_on = threading.Event()

    def read() -> str:
        running.release()
        assert go_on.wait(30)
        return "read"

    async def main() -> None:
        limit = ReadLimit(2, 3)
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await limit.run(read))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
            await anyio.to_thread.run_sync(lambda: [running.acquire() for _ in range(2)])
            with pytest.raises(NotReady, match=r"5 reads of this kind.*Try again"):
                await limit.run(read)
            assert not running.acquire(blocking=False)
            go_on.set()
        assert answers == ["read"] * 5
        assert await limit.run(read) == "read"

    anyio.run(main)


def test_heavy_reads_are_few_at_once(client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty ask at once: two are read, fourteen wait, the others are told; everything else answers meanwhile."""
    real, go_on = store.tracks.query, threading.Event()
    now, most, lock = 0, 0, threading.Lock()

    def query(*arguments: object, **named: object) -> object:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        assert go_on.wait(30)
        with lock:
            now -= 1
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(store.tracks, "query", query)
    refused = threading.Semaphore(0)

    def ask(_: int) -> int:
        answer = client.get("/api/v1/runs/short/tracks")
        if answer.status_code == 503:
            refused.release()
        return answer.status_code

    with ThreadPoolExecutor(60) as clients:
        asking = [clients.submit(ask, number) for number in range(60)]
        for _ in range(44):
            assert refused.acquire(timeout=30)
        for path in ("healthz", "api/v1/runs", "api/v1/runs/long", "api/v1/events", "api/v1/system", "api/v1/jobs"):
            assert client.get(f"/{path}").status_code == 200
        go_on.set()
        statuses = [answer.result() for answer in asking]
    assert (statuses.count(200), statuses.count(503), most) == (16, 44, 2)
