"""Models travel over HTTP: exported by one service, imported by another; and what fits is listed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import uploads
from service.files.jobs import Jobs
from service.settings import Settings
from service.store.store import Store
from tests.service.api_peer import Peer, Server, link
from tests.service.files.test_model_archive import own_model

ZIP = {"Content-Type": "application/zip"}
KEY = "a-long-random-access-key"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Peer, Path]]:
    folder = tmp_path_factory.mktemp("archives")
    own_model(folder / "models" / "mine")
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    with link() as address:
        peer = Peer(address, store, Jobs(folder))
        server = Server(Settings(data_dir=folder, access_key=KEY), address, store, Path("none"))
        yield server, peer, folder
        server.close()
        peer.close()
    store.close()


@pytest.fixture
def client(served: tuple[Server, Peer, Path]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://{served[0].host}/api/v1", timeout=30, headers=headers) as client:
        yield client


@pytest.fixture
def folder(served: tuple[Server, Peer, Path]) -> Path:
    return served[2]


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    problem = response.json()
    for word in words:
        assert word in json.dumps(problem, ensure_ascii=False), response.text
    assert problem["remedy"]


def assert_no_leftovers(folder: Path) -> None:
    """Folders of uploads are removed a moment after the response."""
    deadline_s = time.monotonic() + 10
    while any((folder / "uploads").iterdir()):
        assert time.monotonic() < deadline_s, list((folder / "uploads").rglob("*"))
        time.sleep(0.02)


def test_a_model_goes_out_and_comes_back(client: httpx.Client, folder: Path) -> None:
    sent = client.get("/models/mine/archive")
    assert (sent.status_code, sent.headers["content-type"]) == (200, "application/zip")
    digest = hashlib.sha256(sent.content)
    assert sent.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert 'filename="mine.zip"' in sent.headers["content-disposition"]
    again = client.get("/models/mine/archive")
    assert again.content == sent.content
    query = {"sha256": digest.hexdigest()}
    assert_problem(client.post("/models", content=sent.content, headers=ZIP), 409, "a model 'mine' here already")
    shutil.rmtree(folder / "models" / "mine")
    taken = client.post("/models", content=sent.content, headers=ZIP, params=query)
    assert taken.status_code == 201, taken.text
    assert taken.headers["location"] == "/api/v1/models/mine"
    assert (taken.json()["id"], taken.json()["name"]) == ("mine", "20x water")
    assert client.get("/models/mine").json() == taken.json()
    assert client.get("/models/mine/archive").content == sent.content
    assert_no_leftovers(folder)


def test_a_model_is_renamed_and_deleted(client: httpx.Client, folder: Path) -> None:
    content = client.get("/models/mine/archive").content
    renamed = client.patch("/models/mine", json={"name": "40x"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "40x")
    assert client.get("/models/mine").json()["name"] == "40x"
    assert_problem(client.patch("/models/mine", json={}), 422, "name")
    assert_problem(client.patch("/models/mine", json={"name": "x" * 201}), 422, "name")
    assert_problem(client.patch("/models/none", json={"name": "x"}), 404, "no model 'none'")
    shipped = next(item["id"] for item in client.get("/models").json()["items"] if item["source"] == "shipped")
    assert_problem(client.delete(f"/models/{shipped}"), 409, "is shipped")
    assert client.delete("/models/mine").status_code == 204
    assert_problem(client.delete("/models/mine"), 404, "no model 'mine'")
    assert_problem(client.patch("/calibrations/none", json={"name": "x"}), 404, "no calibration 'none'")
    assert_problem(client.delete("/calibrations/none"), 404, "no calibration 'none'")
    assert client.post("/models", content=content, headers=ZIP).status_code == 201


def test_archives_that_are_refused(client: httpx.Client, folder: Path) -> None:
    content = client.get("/models/mine/archive").content
    before = sorted(path.name for path in (folder / "models").iterdir())
    assert_problem(client.post("/models", content=b"PK", headers=ZIP), 422, "is no ZIP file")
    assert_problem(client.post("/models", content=b"", headers=ZIP), 422, "is no ZIP file")
    assert_problem(client.post("/models", content=content[:-100], headers=ZIP), 422, "is no ZIP file")
    wrong = {"params": {"sha256": "0" * 64}, "headers": ZIP}
    assert_problem(client.post("/models", content=content, **wrong), 422, "was changed or damaged")
    assert_problem(client.post("/models", content=content, headers=ZIP, params={"sha256": "x"}), 422, "sha256")
    assert_problem(
        client.post("/models", json={"calibration": "x"}, params={"sha256": "0" * 64}), 422, "a training has"
    )
    assert_problem(client.post("/models", content=b"x", headers={"Content-Type": "text/plain"}), 415, "application/zip")
    assert_problem(client.get("/models/none/archive"), 404, "no model 'none'")
    assert sorted(path.name for path in (folder / "models").iterdir()) == before
    assert_no_leftovers(folder)


def test_keys_are_asked_before_a_file_is_taken(served: tuple[Server, Peer, Path], folder: Path) -> None:
    for headers in (ZIP, {**ZIP, "Authorization": "Bearer wrong"}):
        answer = httpx.post(f"http://{served[0].host}/api/v1/models", content=b"x" * 2_000_000, headers=headers)
        assert_problem(answer, 401, "access key")
    assert_no_leftovers(folder)


def upload_head(server: Server, length: int) -> bytes:
    lines = ["POST /api/v1/models HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}"]
    return "\r\n".join([*lines, "Content-Type: application/zip", f"Content-Length: {length}", "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    taken = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            taken += part
    return taken


def test_a_file_that_is_too_large_is_refused_by_its_length(served: tuple[Server, Peer, Path]) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port), timeout=20) as connection:
        connection.sendall(upload_head(served[0], 2 * 1024**3))
        connection.sendall(bytes(2_000_000))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"2,147,483,648 bytes" in answer
    assert b"connection: close" in answer.lower()


def test_a_file_without_end_is_refused(client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.models.MOST_ARCHIVE_BYTES", 100_000)

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(10_000)

    assert_problem(client.post("/models", content=endless(), headers=ZIP), 413, "100,000 are the most")
    assert_no_leftovers(folder)


def test_a_file_that_stops_is_not_waited_for(
    served: tuple[Server, Peer, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "IDLE_S", 0.3)
    monkeypatch.setattr(uploads, "_READ_ON_S", 0.2)
    with socket.create_connection(("127.0.0.1", served[0].port), timeout=20) as connection:
        connection.sendall(upload_head(served[0], 1000) + b"PK")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"No byte came" in answer
    assert_no_leftovers(folder)


def test_a_sender_who_leaves_leaves_nothing(served: tuple[Server, Peer, Path], folder: Path) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port), timeout=20) as connection:
        connection.sendall(upload_head(served[0], 1000) + b"PK")
        time.sleep(0.2)
    assert_no_leftovers(folder)


def test_two_uploads_at_a_time(served: tuple[Server, Peer, Path], client: httpx.Client, folder: Path) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(2):
            connection = socket.create_connection(("127.0.0.1", served[0].port), timeout=20)
            open_ones.enter_context(connection).sendall(upload_head(served[0], 1000) + b"PK")
        time.sleep(0.3)
        assert_problem(client.post("/models", content=b"PK", headers=ZIP), 429, "2 uploads are on")
    assert_no_leftovers(folder)


def test_a_disk_without_room(client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: usage)
    assert_problem(client.post("/models", content=b"PK", headers=ZIP), 507, "engine.free_space_floor_gb")
    assert_no_leftovers(folder)


def microscope(**changes: Any) -> dict[str, Any]:
    description = {"pixel_size_um": 0.65, "bit_depth": 16, **changes}
    return {"state": "ready", "description": description, "camera": {"binning": 1}}


def test_the_list_says_which_models_fit(served: tuple[Server, Peer, Path], client: httpx.Client) -> None:
    def fits(pixel_um: float | None, bits: int, state: str = "ready") -> dict[str, Any]:
        seen = {**microscope(pixel_size_um=pixel_um, bit_depth=bits), "state": state}
        deadline_s = time.monotonic() + 20
        while True:
            served[1].publish_status(microscope=seen)
            time.sleep(0.05)
            status = client.get("/models").json()
            shown = served[0].app.state.live.status or {}
            if shown.get("microscope") == seen:
                return {item["id"]: item for item in client.get("/models").json()["items"]}["mine"]
            assert time.monotonic() < deadline_s, status

    assert (fits(0.65, 16)["fits"], fits(0.65, 16)["misfits"]) == (True, [])
    assert fits(None, 12)["fits"] is True
    other = fits(1.6, 8)
    assert other["fits"] is False
    assert "1.6 µm per pixel at the sample; the model mine was made for 0.65 µm" in other["misfits"][0]["problem"]
    assert "counts with 8 bits" in other["misfits"][1]["problem"]
    assert all(each["remedy"] for each in other["misfits"])
    assert fits(1.6, 8, "away")["fits"] is None
