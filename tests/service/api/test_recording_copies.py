"""Runs whose recording was copied to an S3 server, over HTTP: state, frames, retention, figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.copies.copier import Copier
from service.copies.status import CopiesStatus
from service.protocol.addresses import LinkAddress
from service.settings import CopyOffPart, RetentionPart, Settings
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.api_peer import RECORDED, Server, link, recorded_counts, recorded_run

URL = f"s3://{BUCKET}/scope"


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    remote = S3Server(monkeypatch)
    yield remote
    remote.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def address() -> Iterator[LinkAddress]:
    with link() as address:
        yield address


@pytest.fixture
def client(tmp_path: Path, store: Store, address: LinkAddress, remote: S3Server) -> Iterator[httpx.Client]:
    settings = Settings(data_dir=tmp_path, copy_off=CopyOffPart(url=URL), retention=RetentionPart(most_gb=1e-9))
    server = Server(settings, address, store, Path("none"))
    with httpx.Client(base_url=f"http://{server.host}", timeout=60) as client:
        yield client
    server.close()


def test_a_copied_run_is_freed_and_its_frames_are_still_there(
    client: httpx.Client, store: Store, remote: S3Server, tmp_path: Path
) -> None:
    run = recorded_run(tmp_path, store)
    path = f"/api/v1/runs/{run}"
    assert client.get(path).json()["recording_copy"] is None
    report = client.post("/api/v1/retention", json={}).json()
    assert (report["delete"], report["keep"][0]["reason"]) == ([], "its recording has no verified copy yet")

    Copier(store, tmp_path, URL).copy_due()
    found = client.get(path).json()["recording_copy"]
    assert (found["state"], found["url"], found["freed_at"]) == ("verified", f"{URL}/{run}.ome.zarr", None)
    assert client.get("/api/v1/retention").json()["delete"][0]["part"] == "local"
    assert client.post("/api/v1/retention", json={}).json()["delete"][0]["run_id"] == run
    found = client.get(path).json()
    assert found["recording_copy"]["freed_at"] is not None
    assert found["recording"] == f"recordings/{run}.ome.zarr"
    assert [each["id"] for each in client.get("/api/v1/runs", params={"recorded": True}).json()["items"]] == [run]
    lines = client.get("/api/v1/audit").json()["items"]
    assert [line["path"] for line in lines if line["who"] == "retention"] == [f"{path}/recording/local"]

    for number in (RECORDED[0], RECORDED[-1]):
        answer = client.get(f"{path}/frames/{number}", headers={"Accept": "application/octet-stream"})
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(np.frombuffer(answer.content, "<u2").reshape(8, 12), recorded_counts(number))
    assert client.get(f"{path}/frames/0", headers={"Accept": "image/png"}).content[:4] == b"\x89PNG"
    remote.go_away()
    answer = client.get(f"{path}/frames/0")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:bathyscope:problem:remote-away")
    assert "Check the network" in answer.json()["remedy"]
    remote.come_back()
    assert client.delete(f"{path}/recording").status_code == 204
    assert client.get(path).json()["recording_copy"] is None
    assert f"scope/{run}.ome.zarr/zarr.json" in remote.names()


def test_figures_of_the_copies(client: httpx.Client, store: Store, address: LinkAddress, tmp_path: Path) -> None:
    def values() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if "bathyscope_cop" in sample.name]
        return {(sample.name, sample.labels.get("state", "")): sample.value for sample in samples}

    assert values() == {}  # as where recordings are not copied
    recorded_run(tmp_path, store)
    copier = Copier(store, tmp_path, URL)
    copier.copy_due()
    CopiesStatus(tmp_path).write(copier.figures, store)
    address.record.write({"copies": {"state": "running", "restarts": 0}})
    found = values()
    address.record.path.unlink()
    assert found["bathyscope_copy_place_up", ""] == 1
    assert found["bathyscope_copies", "verified"] == 1
    assert found["bathyscope_copies", "waiting"] == 0
    assert found["bathyscope_copy_oldest_waiting_seconds", ""] == 0
    assert found["bathyscope_copy_verified_bytes_total", ""] == copier.figures.verified_bytes > 0
