"""Several scopes through a real NATS server into one relay, with the server away in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from models.errors import DataError
from service.api.server import serve_app
from service.process.children import follow_parent
from service.process.supervisor import Supervisor
from service.protocol import wire
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.protocol.live import LivePublisher
from service.relay.app import create_relay
from service.relay.publisher import publish
from service.relay.scopes import Scope, Scopes
from service.settings import RelayPart, Settings, load_settings
from service.store.errors import UnknownItem
from tests.conftest import need


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


STATUS = {"state": "tracking", "ready": True, "run_id": "r1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nats_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    need("nats")
    process = subprocess.Popen(
        [str(need("nats-server")), "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(port))
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], Any], limit_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def settings_of(folder: Path, port: int, scope: str = "scope") -> Settings:
    given = {"data_dir": folder, "port": 0, "relay": {"nats": f"nats://127.0.0.1:{port}", "scope": scope}}
    return load_settings(command_line=given, environment={})


class PlayedScope:
    """An engine that publishes, and the publisher of its scope."""

    def __init__(self, settings: Settings) -> None:
        self.address = LinkAddress.create()
        self.live = LivePublisher(self.address)
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        async def work() -> None:
            engine = EngineClient(self.address)
            self._task = asyncio.create_task(publish(self._settings, engine))
            try:
                await asyncio.gather(self._task, return_exceptions=True)
            finally:
                await engine.close()

        self._loop.run_until_complete(work())
        self._loop.close()

    def send(self, sequence: int) -> None:
        header = {"sequence": sequence, "published_s": time.time()}
        columns = {"track_id": np.array([sequence], np.uint32)}
        self.live.send("tracks", wire.encode(wire.TRACKS, header, columns))
        self.live.send_values("status", STATUS)

    def close(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self.live.close()
        LinkAddress.remove(self.address.folder)


@contextmanager
def relay(settings: Settings) -> Iterator[str]:
    """The address of a relay."""
    stop, ports = threading.Event(), list[int]()
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_relay(settings)
    thread = threading.Thread(
        target=lambda: serve_app(app, settings, listener=listener, stop=stop, started=ports.append)
    )
    thread.start()
    try:
        until(lambda: ports)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        thread.join()


@contextmanager
def played(settings: list[Settings]) -> Iterator[list[PlayedScope]]:
    scopes = [PlayedScope(each) for each in settings]
    try:
        yield scopes
    finally:
        for scope in scopes:
            scope.close()


def listed(address: str) -> dict[str, Any]:
    items = httpx.get(f"http://{address}/api/v1/scopes").json()
    return {item["id"]: item for item in items["items"]} | {"relay": items}


def test_two_scopes_one_relay_and_a_server_that_goes_and_returns(tmp_path: Path) -> None:
    port = free_port()
    settings = [settings_of(tmp_path, port, name) for name in ("left", "right")]
    numbers = iter(range(10**9))

    def publish_until(condition: Callable[[], Any]) -> None:
        def send_and_look() -> Any:
            for scope in scopes:
                scope.send(next(numbers))
            return condition()

        until(send_and_look)

    with relay(settings[0]) as address, played(settings) as scopes:  # both start before the server does
        assert httpx.get(f"http://{address}/readyz").status_code == 503
        with nats_server(port):
            publish_until(lambda: {"left", "right"} <= set(listed(address)))
            assert httpx.get(f"http://{address}/readyz").json() == {"status": "ready"}
            for name in ("left", "right"):
                with connect(f"ws://{address}/scopes/{name}/api/v1/stream") as stream:
                    publish_until(lambda name=name: listed(address)[name]["received"]["tracks"] > 3)  # type: ignore[misc]
                    message = stream.recv()
                    assert isinstance(message, bytes)
                    kind, header, columns = wire.decode(message)
                    assert kind == wire.TRACKS
                    assert columns["track_id"].tolist() == [header["sequence"]]
                    assert header["sequence"] % 2 == (name == "right")
            with connect(f"ws://{address}/scopes/left/api/v1/feed") as feed:
                assert json.loads(feed.recv())["state"] == "tracking"
                scopes[0].live.send_values("feed", {"kind": "noted", "message": "hello"})
                until(lambda: json.loads(feed.recv()).get("message") == "hello")
            until(lambda: (listed(address)["left"]["sender"] or {}).get("sent"))
        publish_until(lambda: not listed(address)["relay"]["connected"])
        publish_until(lambda: listed(address)["left"]["state"] == "away")
        before = listed(address)["left"]["received"]["tracks"]
        with nats_server(port), connect(f"ws://{address}/scopes/left/api/v1/stream") as stream:
            publish_until(lambda: listed(address)["left"]["received"]["tracks"] > before + 3)
            assert isinstance(stream.recv(), bytes)
            publish_until(lambda: listed(address)["left"]["sender"]["dropped"] > 0)
            publish_until(lambda: listed(address)["left"]["sender"]["losses"] == 1)
            assert listed(address)["relay"]["losses"] == 1


def test_what_no_relay_has_is_refused(tmp_path: Path) -> None:
    need("nats")
    with relay(settings_of(tmp_path, free_port())) as address:
        assert httpx.get(f"http://{address}/healthz").json() == {"status": "ok"}
        missing = httpx.get(f"http://{address}/api/v1/scopes/none")
        assert missing.status_code == 404
        assert "no scope 'none'" in missing.text
        assert httpx.post(f"http://{address}/api/v1/scopes").status_code == 405
        other = httpx.get(f"http://{address}/api/v1/scopes", headers={"Host": "evil.example"})
        assert "urn:bathyscope:problem:host" in other.text
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://{address}/scopes/none/api/v1/stream"):
            pass
        assert refused.value.response.status_code == 404
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"ws://{address}/scopes/none/api/v1/stream", origin="http://evil.example"),  # type: ignore[arg-type]
        ):
            pass
        assert refused.value.response.status_code == 403


def test_a_relay_with_keys_asks_for_them(tmp_path: Path) -> None:
    need("nats")
    key = "a-key-of-some-length"
    given = {"data_dir": tmp_path, "access_key": key, "relay": {"nats": f"nats://127.0.0.1:{free_port()}"}}
    with relay(load_settings(command_line=given, environment={})) as address:
        assert httpx.get(f"http://{address}/api/v1/scopes").status_code == 401
        found = httpx.get(f"http://{address}/api/v1/scopes", headers={"Authorization": f"Bearer {key}"})
        assert found.json() == {"items": [], "connected": False, "losses": 0, "refused": 0}


@pytest.mark.anyio
async def test_newer_views_replace_older_ones_and_strange_messages_are_counted() -> None:
    scope = Scope("left")
    for number in range(3):
        scope.put("tracks", bytes([number]))
    scope.put("nonsense", b"")
    scope.put("link", b"\xc1")
    assert scope.sender is None
    assert scope.received["tracks"] == 3
    assert scope.replaced["tracks"] == 2
    messages = scope.subscribe("tracks")
    assert await anext(messages) == b"\x02"
    await messages.aclose()  # type: ignore[attr-defined]
    assert scope.item().state == "away"


@pytest.mark.anyio
async def test_a_relay_has_no_more_scopes_than_its_setting() -> None:
    need("nats")
    scopes = Scopes(RelayPart(nats="nats://127.0.0.1:1", most_scopes=1))
    async with scopes.running():
        for to in ("bathyscope.one.tracks", "bathyscope.two.tracks", "bathyscope.a b.tracks", "other"):
            await scopes._take(to, b"")
        assert [scope.name for scope in scopes.all()] == ["one"]
        assert scopes.refused == 3
        with pytest.raises(UnknownItem):
            scopes.get("two")


@pytest.mark.parametrize(
    "given", [{"nats": "http://a"}, {"nats": "nats://user:word@a"}, {"scope": "a.b"}, {"scope": ""}, {"most_scopes": 0}]
)
def test_settings_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RelayPart(**given)


def test_without_the_client_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    settings = settings_of(tmp_path, free_port())
    for start in (create_relay, lambda given: Supervisor(given).start()):
        with pytest.raises(DataError, match=r"bathyscope\[relay\]"):
            start(settings)  # type: ignore[operator]


def test_a_scope_publishes_when_its_settings_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("service.process.engine_child.engine_process", played_engine)
    monkeypatch.setattr("service.process.api_child.api_process", played_api)
    port = free_port()
    settings = settings_of(tmp_path, port)
    with nats_server(port), relay(settings) as address, Supervisor(settings) as supervisor:
        until(lambda: "scope" in listed(address), 120.0)
        until(lambda: listed(address)["scope"]["received"]["tracks"] > 3)
        os.kill(supervisor.processes["relay"]["pid"], signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        until(lambda: supervisor.processes["relay"]["restarts"] == 1)
        before = listed(address)["scope"]["received"]["tracks"]
        until(lambda: listed(address)["scope"]["received"]["tracks"] > before + 10, 120.0)


def played_engine(_settings: Settings, address: LinkAddress, pipe: Connection) -> None:
    ending, live = threading.Event(), LivePublisher(address)
    follow_parent(pipe, lambda _: ending.set())
    while not ending.wait(0.02):
        live.send("tracks", wire.encode(wire.TRACKS, {"sequence": 0}, {"track_id": np.zeros(1, np.uint32)}))
        pipe.send({"state": "running"})
    live.close()


def played_api(_settings: Settings, _address: LinkAddress, _listener: socket.socket, pipe: Connection) -> None:
    ending = threading.Event()
    follow_parent(pipe, lambda _: ending.set())
    while not ending.wait(0.2):
        pipe.send({"state": "running"})
