"""Connections, bytes and times are bounded, on a real server, also where few files may be open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import StreamingResponse
from websockets.asyncio.client import connect

from service.api.bounded_http import most_connections
from service.api.repeats import CountRepeats, Repeats
from service.api.server import serve_app
from service.api.tasks import keep_on
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.store import Store
from tests.conftest import ROOT
from tests.service.api_peer import Peer, Server, filled_store, link

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
    store, _ = filled_store(tmp_path_factory.mktemp("limits"))
    yield store
    store.close()


@pytest.fixture
def server(address: LinkAddress, store: Store) -> Iterator[Server]:
    server = Server(Settings(data_dir=Path(store.location).parent, access_key=KEY), address, store, Path("none"))
    yield server
    server.close()


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def head(method: str = "POST", path: str = "/api/v1/runs", *lines: str, key: str | None = KEY) -> bytes:
    access = [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *access, *lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    taken = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            taken += part
    return taken


def problem_of(answer: bytes) -> dict[str, Any]:
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


# ---- heads ----


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("service.api.bounded_http.HEAD_TIMEOUT_S", 0.3)
    with dial(server) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem_of(answer)["remedy"]


def test_a_head_that_comes_letter_by_letter_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.bounded_http.HEAD_TIMEOUT_S", 0.5)
    with dial(server) as connection, contextlib.suppress(OSError):
        for letter in head("GET", "/healthz") * 100:
            connection.sendall(bytes([letter]))
            time.sleep(0.02)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                assert b"408" in connection.recv(100)
                return
            connection.setblocking(True)
    pytest.fail("the server took a head of a minute")


def test_a_second_request_is_waited_for_no_longer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.bounded_http.HEAD_TIMEOUT_S", 0.3)
    with dial(server) as connection:
        connection.sendall(head("GET", "/healthz"))
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(b"GET /heal")
        assert b"408" in read_all(connection)


def test_a_whole_request_has_all_the_time_that_its_answer_takes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.bounded_http.HEAD_TIMEOUT_S", 0.2)

    async def slow(_: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.6)
            yield b"done"

        return StreamingResponse(parts())

    server.app.add_route("/api/v1/slow", slow)
    with dial(server) as connection:
        connection.sendall(head("GET", "/api/v1/slow", "Connection: close"))
        assert b"done" in read_all(connection)


# ---- bodies ----


@pytest.mark.parametrize("key", [KEY, None])
def test_a_slow_body_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setattr("service.api.bodies.BODY_TIMEOUT_S", 0.3)
    with dial(server) as connection:
        connection.sendall(
            head("POST", "/api/v1/runs", "Content-Type: application/json", "Content-Length: 100", key=key)
        )
        connection.sendall(b"{")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 " if key else b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        (KEY, "POST", "/api/v1/runs", b"413"), (None, "POST", "/api/v1/runs", b"401"), (KEY, "GET", "/healthz", b"413"),
        (KEY, "POST", "/api/v1/nothing", b"413"), (KEY, "PUT", "/api/v1/system", b"413"),
    ],
)  # fmt: skip
def test_an_endless_body_is_cut_off(server: Server, key: str | None, method: str, path: str, status: bytes) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    with dial(server) as connection:
        connection.sendall(head(method, path, "Transfer-Encoding: chunked", key=key))
        with contextlib.suppress(OSError):
            while sent < 200e6:
                connection.sendall(chunk)
                sent += len(chunk)
        answer = read_all(connection)
    assert sent < 50e6  # a megabyte, and what the system holds in between
    assert not answer or answer.split(b" ")[1] == status


@pytest.mark.parametrize("size", [70_000, 500_000])
def test_the_sender_of_a_long_body_reads_why_it_is_refused(server: Server, size: int) -> None:
    for lines, body in (
        (["Content-Length: " + str(size)], b"x" * size),
        (["Transfer-Encoding: chunked"], f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n"),
    ):
        with dial(server) as connection:
            connection.sendall(
                head("POST", "/api/v1/runs", "Content-Type: application/json", "Connection: close", *lines)
            )
            connection.sendall(body)
            assert problem_of(read_all(connection))["status"] == 413


def test_a_body_that_waits_for_leave_is_not_asked_for_without_the_key(server: Server) -> None:
    with dial(server) as connection:
        connection.sendall(head("POST", "/api/v1/runs", "Content-Length: 9", "Expect: 100-continue", key="wrong"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    with dial(server) as connection:
        lines = ("Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue", "Connection: close")
        connection.sendall(head("POST", "/api/v1/runs", *lines))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"[]")
        assert b" 422 " in read_all(connection)


def test_a_body_in_pieces_arrives_whole(server: Server, address: LinkAddress, store: Store) -> None:
    peer = Peer(address, store)
    body = json.dumps({"notes": "n" * 9000}).encode()
    try:
        with dial(server) as connection:
            lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
            connection.sendall(head("POST", "/api/v1/runs", *lines))
            for start in range(0, len(body), 1000):
                connection.sendall(body[start : start + 1000])
                time.sleep(0.01)
            assert b" 201 " in read_all(connection)
        assert len(peer.commands[-1][1]["notes"]) == 9000
    finally:
        peer.close()


# ---- answers ----


def endless(server: Server) -> list[int]:
    """An answer without end; the list holds how many parts have been made."""
    made = [0]

    async def answer(_: Request) -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            while True:
                made[0] += 1
                yield b"x" * 65536

        return StreamingResponse(parts())

    server.app.add_route("/api/v1/endless", answer)
    return made


def stands_still(made: list[int]) -> None:
    before = -1
    deadline = time.monotonic() + 20
    while made[0] != before or before == 0:
        assert time.monotonic() < deadline
        before = made[0]
        time.sleep(0.3)


def test_an_answer_that_nobody_takes_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.bounded_http.WRITE_TIMEOUT_S", 0.5)
    made = endless(server)
    with dial(server) as connection:
        connection.sendall(head("GET", "/api/v1/endless"))
        stands_still(made)
        time.sleep(1.5)
        taken, deadline = 0, time.monotonic() + 20
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                taken += len(part)
                assert time.monotonic() < deadline, "the answer goes on"
    assert taken > 0


def test_a_slow_reader_is_not_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.bounded_http.WRITE_TIMEOUT_S", 1.0)
    made = endless(server)
    with dial(server) as connection:
        connection.sendall(head("GET", "/api/v1/endless"))
        stands_still(made)
        for _ in range(15):  # for three seconds
            assert connection.recv(1 << 20)
            time.sleep(0.2)


def test_an_open_download_does_not_hold_up_the_stop(address: LinkAddress, store: Store) -> None:
    server = Server(Settings(data_dir=Path(store.location).parent, access_key=KEY), address, store, Path("none"))
    made = endless(server)
    with dial(server) as connection:
        connection.sendall(head("GET", "/api/v1/endless"))
        stands_still(made)
        stopping = threading.Thread(target=server.close)
        stopping.start()
        stopping.join(10)
        ended = not stopping.is_alive()
    stopping.join()
    assert ended


# ---- connections ----

FEW_FILES = """
import resource, sys, tempfile
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from service.api.server import serve
from service.protocol.addresses import LinkAddress
from service.process.logs import configure_logs
from service.settings import Settings
from service.store.store import Store
configure_logs("info")
settings = Settings(data_dir=Path(sys.argv[1]), port=0)
store = Store.open(settings.database); store.migrate(); store.close()
serve(settings, LinkAddress.create(), started=lambda port: print(port, flush=True))
"""


def test_four_hundred_half_requests_with_few_files(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", FEW_FILES, str(tmp_path)],
            stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        )  # fmt: skip
    assert process.stdout is not None
    half = []
    try:
        port = int(process.stdout.readline())
        for _ in range(400):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            with contextlib.suppress(OSError):  # turned away before it has said anything
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            half.append(connection)
        turned_away = half[-1].recv(65536)
        assert turned_away.startswith(b"HTTP/1.1 503 ")
        assert b"connections are open" in turned_away
        # Those that held all connections are gone after their time, and the next one is served.
        assert half[0].recv(65536).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert process.poll() is None
    finally:
        for connection in half:
            connection.close()
        process.terminate()
        process.wait(30)
        process.stdout.close()
    lines = log.read_text().splitlines()
    assert len(lines) < 20, lines[:20]
    assert any("connections_full" in line for line in lines)


def test_one_client_of_another_machine_leaves_connections_to_the_rest(
    address: LinkAddress, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.bounded_http.is_loopback", lambda _: False)
    monkeypatch.setattr("service.api.bounded_http.most_connections", lambda: 12)
    folder = Path(store.location).parent
    for proxies, accepted in (((), 3), (("127.0.0.1",), 12)):
        server = Server(Settings(data_dir=folder, trusted_proxies=proxies), address, store, Path("none"))
        with contextlib.ExitStack() as held:
            held.callback(server.close)
            connections = [held.enter_context(dial(server)) for _ in range(accepted)]
            one_more = held.enter_context(dial(server))
            answer = read_all(one_more)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert (b"from this address" in answer) is (accepted == 3)
            connections[0].sendall(head("GET", "/healthz", "Connection: close", key=None))
            assert read_all(connections[0]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_connections_leave_files_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for limit, most in ((256, 160), (1024, 928), (10**6, 1000), (resource.RLIM_INFINITY, 1000), (64, 16)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert most_connections() == most


def test_on_windows_connections_leave_sockets_of_the_event_loop_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as where there is no such module
    assert most_connections() == 512 - 96


def test_the_event_loop_is_the_one_that_sockets_of_the_engine_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[Any] = []
    monkeypatch.setattr(
        "service.api.server._Server.run", lambda server, _sockets: used.append(server.config.get_loop_factory())
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve_app(FastAPI(), Settings(data_dir=tmp_path), listener=listener)
    assert used == [asyncio.SelectorEventLoop]


# ---- WebSockets before the key ----


@pytest.mark.anyio
async def test_few_websockets_wait_for_their_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.stream.MOST_NEWCOMERS", 3)
    monkeypatch.setattr("service.api.stream.KEY_TIMEOUT_S", 2.0)
    url = f"ws://{server.host}/api/v1/feed"
    async with contextlib.AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connect(url)) for _ in range(3)]
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(url)
        assert caught.value.response.status_code == 503
        assert b"remedy" in bytes(caught.value.response.body or b"")
        await waiting[0].send(json.dumps({"access_key": KEY}))
        assert json.loads(await waiting[0].recv())["type"] == "status"
        async with connect(url) as fourth:  # there is room again
            await fourth.send(json.dumps({"access_key": KEY}))
            assert json.loads(await fourth.recv())["type"] == "status"
        for socket_ in waiting[1:]:
            with pytest.raises(websockets.ConnectionClosed):
                await socket_.recv()
            assert socket_.close_code == 4401
    assert server.app.state.live.newcomers == 0
    assert server.app.state.refusals.counts["key"] == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "first",
    [
        {"access_key": KEY[:-1]}, {"access_key": KEY + "x"}, {"key": KEY}, {"access_key": [KEY]}, {"access_key": None},
        {"access_key": KEY.upper()}, {"access_key": ""}, KEY, [KEY], {"ACCESS_KEY": KEY}, {"a": {"access_key": KEY}},
    ],
)  # fmt: skip
async def test_the_first_message_must_bear_the_key(server: Server, first: Any) -> None:
    async with connect(f"ws://{server.host}/api/v1/feed") as feed:
        await feed.send(json.dumps(first))
        with contextlib.suppress(websockets.ConnectionClosed):
            await feed.send(json.dumps({"access_key": KEY}))  # a second try does not count
        with pytest.raises(websockets.ConnectionClosed):
            await feed.recv()
        assert feed.close_code == 4401


# ---- the log ----


def test_equal_lines_are_counted() -> None:
    now = [0.0]
    repeats = Repeats(every_s=60, most=3, clock=lambda: now[0])
    assert [repeats.held_back("a") for _ in range(4)] == [0, None, None, None]
    assert repeats.held_back("b") == 0
    now[0] = 59.9
    assert repeats.held_back("a") is None
    now[0] = 60.0
    assert repeats.held_back("a") == 4
    assert repeats.held_back("c") == 0


def test_kinds_of_lines_are_bounded() -> None:
    repeats = Repeats(every_s=60, most=4, clock=lambda: 0.0)
    written = [number for number in range(1000) if repeats.held_back(number) is not None]
    assert len(written) == 5  # four that are told apart, and one for all others
    assert len(repeats._seen) <= 5


def test_lines_of_libraries_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.repeats")
    now = [0.0]
    repeats = CountRepeats(Repeats(clock=lambda: now[0]))
    logger.addFilter(repeats)
    try:
        for _ in range(1000):
            logger.warning("Invalid HTTP request received.")
        for number in range(3):
            try:
                raise ValueError(number) if number else KeyError(number)
            except (ValueError, KeyError):
                logger.exception("Exception in ASGI application\n")
        now[0] = 61.0
        logger.warning("Invalid HTTP request received.")
    finally:
        logger.removeFilter(repeats)
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "Invalid HTTP request received.",
        "Exception in ASGI application",
        "Exception in ASGI application",  # another exception
        "Invalid HTTP request received. (999 equal lines before this one were not written)",
    ]


# ---- the API's own tasks ----


@pytest.mark.anyio
async def test_a_task_that_fails_is_told_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.tasks._FIRST_PAUSE_S", 0.01)
    told: list[tuple[str, str]] = []
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 4:
            raise LookupError(f"number {begun}")

    await keep_on("some", work, lambda name, error: told.append((name, str(error))))
    assert told == [("some", "number 1"), ("some", "number 2"), ("some", "number 3")]


@pytest.mark.anyio
async def test_a_status_that_cannot_be_read_is_told(
    server: Server, address: LinkAddress, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.tasks._FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr("service.api.tasks._LONGEST_PAUSE_S", 0.2)
    peer = Peer(address, store)
    live = server.app.state.live
    try:
        async with connect(f"ws://{server.host}/api/v1/feed") as feed:
            await feed.send(json.dumps({"access_key": KEY}))
            async with asyncio.timeout(30):
                while not live.failures["status"]:
                    peer.live.send("status", b"\xc1")  # no MessagePack
                    await asyncio.sleep(0.05)
                while (message := json.loads(await feed.recv()))["type"] != "event":
                    pass
                assert message["kind"] == "api_task_failed"
                assert "status" in message["message"]
                while live.status is None:  # it listens again
                    peer.publish_status()
                    await asyncio.sleep(0.05)
    finally:
        peer.close()


@pytest.mark.anyio
async def test_a_reply_that_cannot_be_read_does_not_end_the_requests(address: LinkAddress, store: Store) -> None:
    """Of the engine's client: the task that reads replies begins anew with the next request."""
    import zmq.asyncio

    from service.protocol.clients import EngineClient
    from service.protocol.errors import EngineAway

    context = zmq.asyncio.Context()
    door = context.socket(zmq.ROUTER)
    address.bind(door, address.commands)
    client = EngineClient(address, timeout_s=1.0)
    try:
        asking = asyncio.create_task(client.request("status"))
        sender, *_ = await door.recv_multipart()
        await door.send_multipart([sender, b"\xc1"])
        with pytest.raises(EngineAway):
            await asking
        door.close()
        peer = Peer(address, store)
        try:
            assert (await client.request("microscope", timeout_s=10.0))["state"] == "ready"
        finally:
            await asyncio.to_thread(peer.close)
    finally:
        await client.close()
        context.destroy(linger=0)


# ---- what is not ours ----


def test_the_private_parts_of_uvicorn_are_of_a_known_version() -> None:
    """The protocols that are subclassed may change with any release, so none is taken unseen."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (wanted,) = [line for line in dependencies if line.startswith("uvicorn")]
    assert "<0." in wanted
