"""Attacks on the API and its answers, as one table; docs/attacks.md states the same table for readers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from service.files.access_keys import AccessKeys
from service.files.jobs import Jobs
from service.settings import Settings
from service.store.store import Store
from tests.conftest import ROOT
from tests.service.api_peer import Peer, Server, filled_store, link

OTHER_MACHINE = {"X-Forwarded-For": "10.0.0.9"}
"""The test's own proxy is trusted, so this is the address of the client."""


@dataclass
class Scope:
    """A real server with keys of each role, and the peer that stands for the engine."""

    folder: Path
    server: Server
    peer: Peer
    store: Store
    run: str
    keys: dict[str, str]

    def client(self, role: str | None = None, **headers: str) -> httpx.Client:
        access = {} if role is None else {"Authorization": f"Bearer {self.keys.get(role, role)}"}
        return httpx.Client(base_url=f"http://{self.server.host}", headers={**access, **headers}, timeout=30)

    def ask(self, method: str, path: str, role: str | None = None, **options: Any) -> httpx.Response:
        with self.client(role, **options.pop("headers", {})) as client:
            return client.request(method, path, **options)

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20)

    def send(self, content: bytes) -> str:
        """The whole answer to bytes on a new connection."""
        with self.dial() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(content)
            return read_all(connection)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        access = f"Authorization: Bearer {self.keys['operate']}"
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", access, *lines, "", ""]).encode()


def read_all(connection: socket.socket) -> str:
    taken = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            taken += part
    return taken.decode("latin-1")


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scope]:
    folder = tmp_path_factory.mktemp("attacks")
    keys = AccessKeys(folder)
    given = {role: keys.add(f"the {role} key", role) for role in ("view", "operate", "administer")}
    store, run = filled_store(folder)
    page = folder / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<p>the page</p>")
    (page / "assets" / "main.js").write_text("1")
    (folder / "secret.txt").write_text("a secret")
    with link() as address:
        peer = Peer(address, store, Jobs(folder))
        settings = Settings(data_dir=folder, trusted_proxies=("127.0.0.1",), requests_per_s=10_000)
        server = Server(settings, address, store, page)
        yield Scope(folder, server, peer, store, run, given)
        server.close()
        peer.close()
    store.close()


def problem(response: httpx.Response, *words: str) -> str:
    """Status and kind of a problem that has a remedy."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = response.json()
    assert found["remedy"]
    for word in words:
        assert word in f"{found['detail']} {found['remedy']}", found
    return f"{response.status_code} {found['type'].removeprefix('urn:bathyscope:problem:')}"


def status_of(answer: str) -> str:
    """Status and kind of a problem in the bytes of an answer."""
    head, _, body = answer.partition("\r\n\r\n")
    kind = re.search(r'"type":"urn:bathyscope:problem:([a-z-]+)"', body)
    return f"{head.split(' ')[1]} {kind[1]}" if kind else head.split(" ")[1]


def closed_with(url: str, *messages: str | bytes, **options: Any) -> str:
    """How the service ends a WebSocket after these messages."""
    try:
        with connect(url, **options) as opened:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    opened.send(message)
            try:
                while True:
                    opened.recv(timeout=10)
            except ConnectionClosed as closed:
                return f"close {closed.rcvd.code if closed.rcvd else 'without a code'}"
    except InvalidStatus as refused:
        return str(refused.response.status_code)


# ---- keys and roles ----


def no_key(scope: Scope) -> str:
    return problem(scope.ask("GET", "/api/v1/runs"), "access key")


def wrong_key(scope: Scope) -> str:
    return problem(scope.ask("GET", "/api/v1/runs", "not a key"), "access key")


def key_in_the_address(scope: Scope) -> str:
    key = scope.keys["administer"]
    return problem(scope.ask("GET", f"/api/v1/runs?access_key={key}&key={key}"))


def search_for_keys(scope: Scope) -> str:
    with scope.client("not a key", **OTHER_MACHINE) as client:
        answers = [client.get("/api/v1/runs") for _ in range(30)]
    assert [answer.status_code for answer in answers[:20]] == [401] * 20
    assert int(answers[-1].headers["retry-after"]) > 0
    return problem(answers[-1], "wrong access keys")


def revoked_key(scope: Scope) -> str:
    keys = AccessKeys(scope.folder)
    key = keys.add("for a day", "administer")
    assert scope.ask("GET", "/api/v1/audit", key).status_code == 200
    keys.revoke("for a day")
    return problem(scope.ask("GET", "/api/v1/audit", key))


def view_key_moves(scope: Scope) -> str:
    before = len(scope.peer.commands)
    answer = scope.ask("POST", "/api/v1/microscope/stage", "view", json={"stage_um": 1})
    assert len(scope.peer.commands) == before
    return problem(answer, "needs the role operate")


def operate_key_deletes(scope: Scope) -> str:
    answer = scope.ask("DELETE", f"/api/v1/runs/{scope.run}", "operate")
    assert scope.store.runs.get(scope.run).id == scope.run
    return problem(answer, "needs the role administer")


def view_key_takes_control(scope: Scope) -> str:
    before = len(scope.peer.commands)
    url = f"ws://{scope.server.host}/api/v1/control"
    answer = closed_with(url, json.dumps({"access_key": scope.keys["view"]}), json.dumps({"name": "x"}))
    assert [name for name, _ in scope.peer.commands[before:]] == []
    return answer


def socket_without_key(scope: Scope) -> str:
    return closed_with(f"ws://{scope.server.host}/api/v1/stream", json.dumps({"access_key": "not a key"}))


# ---- addresses ----

TRAVERSALS = (
    "/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/assets/..%2f..%2fsecret.txt",
    "/assets/%2e%2e%2f%2e%2e%2fsecret.txt", "/..%5csecret.txt", "//etc/passwd", "/assets//etc/passwd",
    "/assets/main.js/../../../secret.txt", "/api/v1/runs/..%2f..%2fsecret.txt",
    "/api/v1/calibrations/..%2f..%2f/report", "/api/v1/calibrations/..%2faccess-keys.json/report",
    "/api/v1/models/..%2f..", "/api/v1/jobs/..%2f../result", "/api/v1/runs/..%2f../frames/0", "/api/v1/runs/%00/tracks",
    "/swagger/..%2f..%2fsecret.txt",
)  # fmt: skip


def traversal(scope: Scope) -> str:
    answers = set()
    for path in TRAVERSALS:
        # Sent as it is: a client library would simplify the address.
        answer = scope.send(scope.head("GET", path, "Connection: close"))
        assert "a secret" not in answer
        assert "sha256" not in answer
        assert "root:" not in answer
        answers.add(status_of(answer))
    return ", ".join(sorted(answers))


# ---- bodies and requests ----


def long_body(scope: Scope) -> str:
    return problem(scope.ask("POST", "/api/v1/runs", "operate", content=b"x" * 70_000))


def endless_body(scope: Scope) -> str:
    chunk, sent = b"10000\r\n" + b"x" * 65536 + b"\r\n", 0
    with scope.dial() as connection:
        connection.sendall(scope.head("POST", "/api/v1/runs", "Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):
            while sent < 200e6:
                connection.sendall(chunk)
                sent += len(chunk)
    assert sent < 50e6  # a megabyte, and what the system holds in between
    return "413, or the connection is cut, after 1 MB"


def slow_head(scope: Scope) -> str:
    with pytest.MonkeyPatch.context() as change:
        change.setattr("service.api.bounded_http.HEAD_TIMEOUT_S", 0.3)
        return status_of(scope.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"))


def slow_body(scope: Scope) -> str:
    with pytest.MonkeyPatch.context() as change:
        change.setattr("service.api.bodies.BODY_TIMEOUT_S", 0.3)
        head = scope.head("POST", "/api/v1/runs", "Content-Type: application/json", "Content-Length: 100")
        return status_of(scope.send(head + b"{"))


def long_head(scope: Scope) -> str:
    return status_of(scope.send(scope.head("GET", "/healthz", "X-Long: " + "x" * 200_000)))


NO_HTTP = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"\0" * 99 + b"\r\n\r\n", b"GET\r\n\r\n")


def no_http(scope: Scope) -> str:
    return ", ".join({status_of(scope.send(sent)) for sent in NO_HTTP})


def two_lengths(scope: Scope) -> str:
    """The smuggling of a second request in the body of the first one."""
    lines = ("Content-Length: 4", "Content-Length: 40", "Content-Type: application/json")
    return status_of(
        scope.send(scope.head("POST", "/api/v1/runs", *lines) + b"[]\r\nGET /api/v1/audit HTTP/1.1\r\n\r\n")
    )


MALFORMED = (
    b"{", b"\xff\xfe\x00", b"\x00\x01\x02", b"[" * 50_000, b'{"name": NaN}', b'{"duration_s": Infinity}',
    b'{"duration_s": 1e999}', b'{"name": "\\ud800"}', b'{"name": "a\\u0000b"}', b'{"constructor": 1}',
    b'{"__proto__": {}}', b'"name"', b"null", b"", b'{"record": "true"}', b'{"name": ["x"]}',
    b'{"duration_s": ' + b"9" * 5000 + b"}",
)  # fmt: skip


def malformed_json(scope: Scope) -> str:
    before = len(scope.peer.commands)
    answers = set()
    for content in MALFORMED:
        headers = {"Content-Type": "application/json"}
        answers.add(problem(scope.ask("POST", "/api/v1/runs", "operate", content=content, headers=headers)))
    assert len(scope.peer.commands) == before
    return ", ".join(sorted(answers))


def other_content(scope: Scope) -> str:
    answers = set()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
    ):
        headers = {"Content-Type": kind}
        answers.add(problem(scope.ask("POST", "/api/v1/runs", "operate", content=b'{"name": "x"}', headers=headers)))
    return ", ".join(sorted(answers))


def other_methods(scope: Scope) -> str:
    answers = set()
    for method in ("TRACE", "PROPFIND", "CONNECT"):
        answers.add(status_of(scope.send(scope.head(method, "/api/v1/runs", "Connection: close"))))
    return ", ".join(sorted(answers))


# ---- pages of other sites ----


def foreign_page_posts(scope: Scope) -> str:
    before = len(scope.peer.commands)
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    answer = scope.ask("POST", "/api/v1/microscope/stage", "operate", content=b'{"stage_um": 1}', headers=headers)
    assert len(scope.peer.commands) == before
    assert "access-control-allow-origin" not in answer.headers
    return problem(answer)


def foreign_page_opens_a_socket(scope: Scope) -> str:
    answers = set()
    for view in ("stream", "preview", "feed", "control"):
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{scope.server.port + 1}"):
            answers.add(closed_with(f"ws://{scope.server.host}/api/v1/{view}", origin=Origin(origin)))
    return ", ".join(sorted(answers))


def rebound_name(scope: Scope) -> str:
    return problem(scope.ask("GET", "/api/v1/runs", "view", headers={"Host": "evil.example"}))


def invented_address(scope: Scope) -> str:
    """A client that is no trusted proxy names another address: tested where there is no such proxy."""
    folder = scope.folder / "alone"
    folder.mkdir(exist_ok=True)
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    with link() as address:
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        try:
            httpx.post(f"http://{server.host}/api/v1/runs", headers=OTHER_MACHINE)
            deadline_s = time.monotonic() + 10
            while not (lines := store.audit.list().items):
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            return f"the audit names {lines[0].client}"
        finally:
            server.close()
            store.close()


# ---- WebSockets ----


def malformed_first_message(scope: Scope) -> str:
    answers = set()
    for first in (b"\x00\xff" * 50, "{", "[" * 2000, json.dumps({"access_key": ["x"]}), "null"):
        answers.add(closed_with(f"ws://{scope.server.host}/api/v1/feed", first))
    return ", ".join(sorted(answers))


def long_message(scope: Scope) -> str:
    return closed_with(f"ws://{scope.server.host}/api/v1/stream", "x" * 100_000)


def malformed_control(scope: Scope) -> str:
    key = json.dumps({"access_key": scope.keys["operate"]})
    answers = set()
    for first in (
        "{",
        b"\xff\x00",
        json.dumps({"name": 1}),
        json.dumps({"name": "x", "more": 1}),
        json.dumps({"name": ""}),
    ):
        answers.add(closed_with(f"ws://{scope.server.host}/api/v1/control", key, first))
    return ", ".join(sorted(answers))


def broken_frames(scope: Scope) -> str:
    """Bytes that are no WebSocket frame, after the handshake."""
    lines = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    )
    with scope.dial() as connection:
        connection.sendall(scope.head("GET", "/api/v1/stream", *lines))
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"\xff" * 1000)
        answer = read_all(connection)
    code = re.search(r"\x88[\x02-\x7d](..)", answer, re.DOTALL)
    assert code, repr(answer)
    return f"close {int.from_bytes(code[1].encode('latin-1'), 'big')}"


# ---- several at once ----


def two_owners(scope: Scope) -> str:
    with ThreadPoolExecutor(20) as many:
        answers = list(many.map(lambda _: scope.ask("POST", "/api/v1/runs", "operate", json={}), range(20)))
    begun = [answer for answer in answers if answer.status_code == 201]
    assert len(begun) == 1
    refused = {problem(answer, begun[0].json()["id"]) for answer in answers if answer.status_code != 201}
    scope.ask("POST", f"/api/v1/runs/{begun[0].json()['id']}/stop", "operate")
    return f"one run; {', '.join(refused)} for the others"


# ---- stored texts ----

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)> '\"&{{7*7}} =cmd|calc"


def stored_markup(scope: Scope) -> str:
    answer = scope.ask("PATCH", f"/api/v1/runs/{scope.run}", "operate", json={"name": MARKUP, "notes": MARKUP})
    assert answer.json()["name"] == MARKUP
    for path in ("/api/v1/runs", f"/api/v1/runs/{scope.run}", f"/api/v1/runs?search={MARKUP[:8]}"):
        listed = scope.ask("GET", path, "view")
        assert MARKUP in json.dumps(listed.json(), ensure_ascii=False).replace('\\"', '"')
        assert listed.headers["content-type"] == "application/json"
        assert listed.headers["x-content-type-options"] == "nosniff"
        policy = listed.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
    return "kept as text, sent as JSON only"


def control_characters(scope: Scope) -> str:
    answers = {
        problem(scope.ask("PATCH", f"/api/v1/runs/{scope.run}", "operate", json={"name": name}))
        for name in ("a\r\nSet-Cookie: x", "a\0b", "\x1b[2J", "x" * 201)
    }
    return ", ".join(sorted(answers))


ATTACKS: dict[str, tuple[Callable[[Scope], str], str]] = {
    "no key": (no_key, "401 access-key"),
    "wrong key": (wrong_key, "401 access-key"),
    "key in the address": (key_in_the_address, "401 access-key"),
    "search for keys from another machine": (search_for_keys, "429 rate"),
    "revoked key": (revoked_key, "401 access-key"),
    "key of the role view moves a stage": (view_key_moves, "403 role"),
    "key of the role operate deletes a run": (operate_key_deletes, "403 role"),
    "key of the role view asks for control": (view_key_takes_control, "close 4409"),
    "WebSocket with a wrong key": (socket_without_key, "close 4401"),
    "traversal to other files": (traversal, "404 there-is-nothing-here, 404 unknown-item"),
    "body beyond the limit": (long_body, "413 the-body-is-too-large"),
    "body without end": (endless_body, "413, or the connection is cut, after 1 MB"),
    "headers that do not come": (slow_head, "408 the-request-took-too-long"),
    "body that does not come": (slow_body, "408 the-request-took-too-long"),
    "headers of 200 kB": (long_head, "400"),
    "bytes that are no HTTP": (no_http, "400"),
    "two lengths of one body (smuggling)": (two_lengths, "400"),
    "malformed JSON": (malformed_json, "400 the-request-cannot-be-read, 422 validation"),
    "body of another kind": (other_content, "415 this-kind-of-body-is-not-understood"),
    "unusual methods": (other_methods, "405 this-resource-has-no-such-method"),
    "another site's page posts": (foreign_page_posts, "403 origin"),
    "another site's page opens a WebSocket": (foreign_page_opens_a_socket, "403"),
    "foreign name bound to this address": (rebound_name, "403 host"),
    "invented address of the client": (invented_address, "the audit names 127.0.0.1"),
    "malformed first message of a WebSocket": (malformed_first_message, "close 4401"),
    "WebSocket message of 100 kB": (long_message, "close 1009"),
    "malformed request for control": (malformed_control, "close 4409"),
    "bytes that are no WebSocket frame": (broken_frames, "close 1002"),
    "20 runs at once": (two_owners, "one run; 409 conflict for the others"),
    "markup in names and notes": (stored_markup, "kept as text, sent as JSON only"),
    "control characters in names": (control_characters, "422 validation"),
}
"""Attack -> how it is made, and the answer of the service."""


def test_the_page_of_attacks_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| (.*?) \| (.*?) \|", (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    stated = {name: answer.replace("`", "") for name, answer in rows}
    assert {name: stated.get(name) for name in (*ATTACKS, SOCKETS)} == {
        **{name: answer for name, (_, answer) in ATTACKS.items()}, SOCKETS: SOCKETS_ANSWER,
    }  # fmt: skip


SOCKETS, SOCKETS_ANSWER = "2,000 connections", "1,000 are open, 503 not-available-now for the others"

SERVE = """
import sys
from pathlib import Path
from service.api.server import serve
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.store import Store
settings = Settings(data_dir=Path(sys.argv[1]), port=0)
store = Store.open(settings.database); store.migrate(); store.close()
serve(settings, LinkAddress.create(), started=lambda port: print(port, flush=True))
"""


def test_two_thousand_connections(tmp_path: Path) -> None:
    """Those that are open go on, memory stays bounded, and there is room when some have ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert process.stdout is not None
    held: list[socket.socket] = []
    try:
        port = int(process.stdout.readline())
        memory = psutil.Process(process.pid).memory_info
        before_mb = memory().rss / 1e6
        opening = (
            f"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        for _ in range(2000):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            with contextlib.suppress(OSError):  # turned away before it has said anything
                connection.sendall(opening)
            held.append(connection)
        answers = []
        for connection in held:
            with contextlib.suppress(ConnectionResetError):
                answers.append(status_of(connection.recv(65536).decode("latin-1")))
        assert answers.count("101") == 1000
        assert set(answers) == {"101", "503 not-available-now"}
        # Half a megabyte for each would be a gigabyte.
        assert memory().rss / 1e6 < before_mb + 250
        for connection in held[:100]:
            connection.close()
        deadline_s = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if read_all(connection).startswith("HTTP/1.1 200 "):
                    break
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert process.poll() is None
    finally:
        for connection in held:
            connection.close()
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_has_its_answer_and_the_service_goes_on(scope: Scope, name: str) -> None:
    attack, expected = ATTACKS[name]
    assert attack(scope) == expected
    assert scope.ask("GET", "/healthz").status_code == 200
    assert scope.ask("GET", f"/api/v1/runs/{scope.run}", "view").status_code == 200
