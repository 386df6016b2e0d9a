"""Keys with roles, audit, rates, TLS and a reverse proxy with a prefix, on a real server."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from models.errors import DataError
from service.api.access import Access
from service.api.rates import RateLimit
from service.api.roles import needed_role
from service.files.access_keys import AccessKeys, Role, hashed
from service.files.jobs import Jobs
from service.process.tls import check_tls
from service.settings import Settings, load_settings
from service.store.errors import StoreError
from service.store.store import Store
from tests.service.api_peer import Peer, Server, filled_store, link, recorded_run
from tests.service.tls_samples import certificate

KEY = "a-long-random-access-key"


class Service:
    """A server, its peer, and clients with the key of each role."""

    def __init__(self, folder: Path, run: str, store: Store, peer: Peer, server: Server) -> None:
        self.folder = folder
        self.run = run
        self.store = store
        self.peer = peer
        self.server = server
        self.keys = AccessKeys(folder)

    def client(self, key: str | None, **headers: str) -> httpx.Client:
        access = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://{self.server.host}", headers={**access, **headers}, timeout=30)


@contextmanager
def service(folder: Path, **settings: Any) -> Iterator[Service]:
    page = settings.pop("page", Path("none"))
    store, run = filled_store(folder)
    with link() as address:
        peer = Peer(address, store, Jobs(folder))
        server = Server(Settings(data_dir=folder, **settings), address, store, page)
        try:
            yield Service(folder, run, store, peer, server)
        finally:
            server.close()
            peer.close()
            store.close()


def read_on(socket: ClientConnection) -> None:
    """Read until the service closes."""
    while True:
        socket.recv(timeout=10)


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    problem = response.json()
    for word in words:
        assert word in f"{problem['detail']} {problem['remedy']}", problem


# ---- roles ----


def test_each_role_may_do_what_it_is_for(tmp_path: Path) -> None:
    keys = AccessKeys(tmp_path)
    given: dict[Role, str] = {role: keys.add(f"the {role} key", role) for role in ("view", "operate", "administer")}
    with service(tmp_path) as scope:
        recorded = recorded_run(scope.folder, scope.store)
        requests: list[tuple[str, str, Any, set[Role]]] = [
            ("GET", f"/api/v1/runs/{scope.run}", None, {"view", "operate", "administer"}),
            ("GET", "/api/v1/retention", None, {"view", "operate", "administer"}),
            ("GET", "/metrics", None, {"view", "operate", "administer"}),
            ("POST", "/api/v1/microscope/stop", None, {"view", "operate", "administer"}),
            ("POST", "/api/v1/microscope/stage", {"stage_um": 1}, {"operate", "administer"}),
            ("PATCH", f"/api/v1/runs/{scope.run}", {"name": "x"}, {"operate", "administer"}),
            ("GET", "/api/v1/audit", None, {"administer"}),
            ("POST", "/api/v1/retention", {"dry_run": True}, {"administer"}),
            ("DELETE", f"/api/v1/runs/{recorded}/recording", None, {"administer"}),
        ]
        for method, path, body, allowed in requests:
            for role, key in given.items():
                with scope.client(key) as client:
                    answer = client.request(method, path, json=body) if body else client.request(method, path)
                if role in allowed:
                    assert answer.status_code < 300, (method, path, role, answer.text)
                else:
                    assert_problem(answer, 403, "needs the role", f"the {role} key", "bathyscope key add")
        with scope.client(None) as client:
            assert client.get("/api/v1/runs").status_code == 401
            assert client.get("/healthz").status_code == 200


def test_the_role_of_each_resource_is_described(tmp_path: Path) -> None:
    with service(tmp_path) as scope, scope.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
    roles = {(method, path): operation["x-role"] for path, all_ in paths.items() for method, operation in all_.items()}
    assert {role for (method, _), role in roles.items() if method == "delete"} == {"operate", "administer"}
    assert roles["delete", "/api/v1/jobs/{job}"] == "operate"
    assert roles["post", "/api/v1/microscope/stop"] == "view"
    assert [path for (method, path), role in roles.items() if method == "get" and role != "view"] == ["/api/v1/audit"]
    assert needed_role("DELETE", "/api/v1/something/new") == "administer"
    assert needed_role("PUT", "/api/v1/something/new") == "operate"


def test_a_key_works_and_ends_without_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as scope:
        with scope.client(None) as client:
            assert client.get("/api/v1/runs").status_code == 200  # loopback, no key
        key = scope.keys.add("page", "view")
        with scope.client(key) as client, scope.client(None) as other:
            assert client.get("/api/v1/runs").status_code == 200
            assert other.get("/api/v1/runs").status_code == 401
            scope.keys.revoke("page")
            # The last key is gone, and the service stays closed.
            assert client.get("/api/v1/runs").status_code == 401
            assert other.get("/api/v1/runs").status_code == 401


def test_the_key_of_the_setting_administers(tmp_path: Path) -> None:
    with service(tmp_path, access_key=KEY) as scope:
        view = scope.keys.add("page", "view")
        with scope.client(KEY) as client:
            assert client.delete(f"/api/v1/runs/{scope.run}").status_code == 204
            eventually(lambda: bool(client.get("/api/v1/audit").json()["items"]), "a line")
            assert client.get("/api/v1/audit").json()["items"][0]["who"] == "access_key"
        with scope.client(view) as client:
            assert client.get("/api/v1/runs").status_code == 200


def test_damaged_keys_open_nothing(tmp_path: Path) -> None:
    with service(tmp_path) as scope:
        key = scope.keys.add("page", "view")
        with scope.client(key) as client, scope.client(None) as other:
            assert client.get("/api/v1/runs").status_code == 200
            (tmp_path / "access-keys.json").write_text("{")
            assert other.get("/api/v1/runs").status_code == 401
            assert client.get("/api/v1/runs").status_code == 200  # those that were read last
    with pytest.raises(DataError, match="cannot be read"):
        Access(Settings(data_dir=tmp_path))


def test_a_key_is_kept_as_a_hash_that_only_its_owner_reads(tmp_path: Path) -> None:
    keys = AccessKeys(tmp_path)
    key = keys.add("page", "view")
    text = (tmp_path / "access-keys.json").read_text()
    assert key not in text
    assert hashed(key) in text
    assert (tmp_path / "access-keys.json").stat().st_mode & 0o077 == 0
    assert len(key) >= 43
    assert [(record.name, record.role) for record in keys.records()] == [("page", "view")]
    for name in ("page", "", "a\nb", "x" * 65, " x"):
        with pytest.raises(DataError):
            keys.add(name, "view")
    with pytest.raises(DataError, match=r"no key 'other'.*The keys are: page"):
        keys.revoke("other")


def test_a_service_for_other_machines_starts_with_a_key_of_the_file(tmp_path: Path) -> None:
    asked = {"data_dir": tmp_path, "host": "0.0.0.0"}
    with pytest.raises(DataError, match="bathyscope key add"):
        load_settings(command_line=asked, environment={})
    AccessKeys(tmp_path).add("page", "view")
    assert load_settings(command_line=asked, environment={}).host == "0.0.0.0"


def test_sockets_of_a_revoked_key_are_closed(tmp_path: Path) -> None:
    with service(tmp_path) as scope:
        key = scope.keys.add("page", "view")
        with connect(f"ws://{scope.server.host}/api/v1/feed") as socket:
            socket.send(json.dumps({"access_key": key}))
            assert json.loads(socket.recv())["type"] == "status"
            scope.keys.revoke("page")
            with pytest.raises(ConnectionClosed) as closed:
                read_on(socket)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "The access key was revoked.")


# ---- audit ----


def test_what_changes_something_is_audited_with_its_outcome(tmp_path: Path) -> None:
    keys = AccessKeys(tmp_path)
    operate, administer, view = keys.add("Ada", "operate"), keys.add("Bo", "administer"), keys.add("page", "view")
    with service(tmp_path) as scope:
        with scope.client(operate) as client:
            client.get("/api/v1/runs")
            client.post("/api/v1/microscope/stage", json={"stage_um": 12.5})
            client.post("/api/v1/microscope/stage", json={"stage_um": "up"})
            client.patch(f"/api/v1/runs/{scope.run}", json={"notes": "n" * 3000})
        with scope.client(view) as client:
            client.delete(f"/api/v1/runs/{scope.run}")
        with scope.client("wrong") as client:
            client.delete(f"/api/v1/runs/{scope.run}")
        with scope.client(administer) as client:
            client.delete(f"/api/v1/runs/{scope.run}")

            def lines() -> list[Any]:
                return list(client.get("/api/v1/audit").json()["items"])

            eventually(lambda: len(lines()) == 5, "five lines")
            found = [(line["who"], line["method"], line["path"], line["status"]) for line in reversed(lines())]
            assert found == [
                ("Ada", "POST", "/api/v1/microscope/stage", 200),
                ("Ada", "POST", "/api/v1/microscope/stage", 422),
                ("Ada", "PATCH", f"/api/v1/runs/{scope.run}", 200),
                ("page", "DELETE", f"/api/v1/runs/{scope.run}", 403),
                ("Bo", "DELETE", f"/api/v1/runs/{scope.run}", 204),
            ]
            assert json.loads(lines()[-1]["body"]) == {"stage_um": 12.5}
            assert lines()[2]["body"] is None
            assert lines()[0]["client"] == "127.0.0.1"
            assert [line["who"] for line in client.get("/api/v1/audit", params={"who": "page"}).json()["items"]] == [
                "page"
            ]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ("bathyscope mcp, an assistant", "127.0.0.1 (bathyscope mcp, an assistant)"),
        ("", "127.0.0.1"),
        ("a\tb", "127.0.0.1 (ab)"),
        ("x" * 5000, f"127.0.0.1 ({'x' * 100})"),
    ],
)
def test_the_audit_names_the_program_that_a_request_names(tmp_path: Path, sent: str, named: str) -> None:
    with service(tmp_path) as scope, scope.client(None, **{"Bathyscope-Program": sent}) as client:
        client.post("/api/v1/microscope/stop")
        eventually(lambda: bool(client.get("/api/v1/audit").json()["items"]), "a line")
        assert client.get("/api/v1/audit").json()["items"][0]["client"] == named


def test_a_program_learns_what_its_key_allows(tmp_path: Path) -> None:
    with service(tmp_path) as scope:
        with scope.client("anything") as client:
            assert client.get("/api/v1/access").json() == {"who": "local", "role": "administer", "key_needed": False}
        operate = scope.keys.add("Ada", "operate")
        with scope.client(operate) as client:
            assert client.get("/api/v1/access").json() == {"who": "Ada", "role": "operate", "key_needed": True}
        with scope.client("wrong") as client:
            assert_problem(client.get("/api/v1/access"), 401, "access key")


def test_a_database_that_does_not_respond_holds_up_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path) as scope:

        def locked(*_: Any) -> None:
            time.sleep(1.0)
            raise StoreError("The database is locked.", "Wait.")

        monkeypatch.setattr(scope.store.audit, "add", locked)
        with scope.client(None) as client:
            for _ in range(3):
                begin = time.monotonic()
                assert client.post("/api/v1/microscope/stop").json()["confirmed"] is True
                assert time.monotonic() - begin < 0.9


# ---- rates ----


def test_allowance_grows_back() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 3.0, lambda: now[0])
    for _ in range(3):
        assert limit.wait_s("a") == 0
        limit.use("a")
    assert limit.wait_s("a") == 1
    assert limit.wait_s("b") == 0
    now[0] = 0.5
    assert limit.wait_s("a") == 0
    for number in range(10_000):
        limit.use(str(number))
    assert len(limit._left) <= 4096


def test_a_client_that_asks_too_much_waits_and_others_do_not(tmp_path: Path) -> None:
    with service(tmp_path, trusted_proxies=("127.0.0.1",), requests_per_s=1) as scope:
        with scope.client(None, **{"X-Forwarded-For": "10.0.0.9"}) as client:
            answers = [client.get("/api/v1/runs") for _ in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            eventually(lambda: answers.append(client.get("/api/v1/runs")) or answers[-1].status_code == 429, "a limit")
            assert_problem(answers[-1], 429, "10.0.0.9", "requests_per_s")
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert client.post("/api/v1/microscope/stop").status_code == 200
        for other in ({"X-Forwarded-For": "10.0.0.8"}, {}):
            with scope.client(None, **other) as client:
                assert client.get("/api/v1/runs").status_code == 200


def test_a_search_for_keys_is_slowed_down(tmp_path: Path) -> None:
    with service(tmp_path, access_key=KEY, trusted_proxies=("127.0.0.1",)) as scope:
        with scope.client("wrong", **{"X-Forwarded-For": "10.0.0.9"}) as client:
            statuses = [client.get("/api/v1/runs").status_code for _ in range(25)]
        assert statuses[:20] == [401] * 20
        assert statuses[-1] == 429
        with scope.client(KEY, **{"X-Forwarded-For": "10.0.0.9"}) as client:
            assert_problem(client.get("/api/v1/runs"), 429, "wrong access keys")
            assert client.post("/api/v1/microscope/stop").status_code == 200
        with scope.client(KEY, **{"X-Forwarded-For": "10.0.0.8"}) as client:
            assert client.get("/api/v1/runs").status_code == 200


def test_an_address_that_nobody_vouches_for_is_not_believed(tmp_path: Path) -> None:
    with service(tmp_path, requests_per_s=1) as scope, scope.client(None, **{"X-Forwarded-For": "10.0.0.9"}) as client:
        client.post("/api/v1/microscope/stop")
        eventually(lambda: bool(client.get("/api/v1/audit").json()["items"]), "a line")
        assert client.get("/api/v1/audit").json()["items"][0]["client"] == "127.0.0.1"


# ---- TLS ----


def test_the_service_speaks_https_and_secure_sockets(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    with service(tmp_path, tls_certificate=chain, tls_key=key) as scope:
        trust = ssl.create_default_context(cafile=str(chain))
        with httpx.Client(base_url=f"https://{scope.server.host}", verify=trust) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            origin = {"Origin": f"https://{scope.server.host}"}
            assert client.post("/api/v1/microscope/stop", headers=origin).status_code == 200
            tracks = client.get(f"/api/v1/runs/{scope.run}/tracks", headers={"Accept": "text/csv"})
            assert tracks.text.startswith("track_id,")
        with connect(f"wss://{scope.server.host}/api/v1/feed", ssl=trust) as socket:
            assert json.loads(socket.recv())["type"] == "status"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{scope.server.host}/healthz", timeout=5)


def test_a_wrong_certificate_is_told_before_the_start(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(DataError, match=r"tls_key is .*none\.pem, which cannot be read"):
        check_tls(Settings(tls_certificate=chain, tls_key=tmp_path / "none.pem"))
    with pytest.raises(DataError, match="no certificate and its key"):
        check_tls(Settings(tls_certificate=chain, tls_key=tmp_path / "empty.pem"))
    with pytest.raises(DataError, match="tls_key is not set"):
        load_settings(command_line={"tls_certificate": str(chain)}, environment={})
    check_tls(Settings(tls_certificate=chain, tls_key=key))
    check_tls(Settings())


# ---- reverse proxy ----


def test_behind_a_proxy_with_a_prefix(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text('<!doctype html><script src="assets/a.js"></script>')
    (page / "assets" / "a.js").write_text("export {};")
    with service(tmp_path, page=page, path_prefix="/lab/scope", allowed_hosts=("lab.example",)) as scope:
        host = {"Host": "lab.example"}
        with scope.client(None, **host) as client:
            for prefix in ("/lab/scope", ""):  # a proxy that passes it on, and one that removes it
                assert "assets/a.js" in client.get(f"{prefix}/").text
                assert client.get(f"{prefix}/assets/a.js").status_code == 200
                assert client.get(f"{prefix}/api/v1/runs").status_code == 200
                origin = {"Origin": "https://lab.example"}
                started = client.post(f"{prefix}/api/v1/runs", json={}, headers=origin)
                assert started.status_code == 201, started.text
                assert started.headers["location"] == f"/lab/scope/api/v1/runs/{started.json()['id']}"
                assert client.get(started.headers["location"]).status_code == 200
                client.post(f"{prefix}/api/v1/runs/{started.json()['id']}/stop")
                csv = {"Accept": "text/csv"}
                first = client.get(f"{prefix}/api/v1/runs/{scope.run}/tracks", params={"limit": 1}, headers=csv)
                following = first.links["next"]["url"]
                assert following.startswith("/lab/scope/api/v1/runs/")
                assert client.get(following, headers=csv).status_code == 200
            answer = client.get("/lab/scope")
            assert (answer.status_code, answer.headers["location"]) == (308, "/lab/scope/")
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/lab/scope"}]
            assert client.get("/lab/scopes/api/v1/runs").status_code == 404
        for prefix in ("/lab/scope", ""):
            address = f"ws://{scope.server.host}{prefix}/api/v1/feed"
            with connect(address, origin=Origin(f"http://{scope.server.host}")) as socket:
                assert json.loads(socket.recv())["type"] == "status"


@pytest.mark.parametrize("prefix", ["lab", "/lab/", "/", "/a b", "//"])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(DataError, match="path_prefix"):
        load_settings(command_line={"path_prefix": prefix}, environment={})
