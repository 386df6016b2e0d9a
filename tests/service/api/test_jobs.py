"""Calibrations, models, jobs and the microscope's settings over HTTP, on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from models.networks import architecture_named, architecture_names, architecture_sizes
from models.weights import reference_model
from service.files.jobs import Jobs
from service.files.library import Library
from service.protocol.errors import EngineRefusal
from service.settings import Settings
from service.store.errors import UnknownItem
from service.store.store import Store
from tests.models.test_training import small_calibration
from tests.service.api_peer import Peer, Server, link

SWEEP = {"z_range_um": [0, 40], "z_step_um": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    small_calibration().save(folder / "calibrations" / "small")
    (folder / "calibrations" / "small" / "about.json").write_text('{"name": "beads"}')
    (folder / "calibrations" / "broken").mkdir()
    (folder / "calibrations" / "broken" / "calibration.json").write_text(
        '{"kind": "bathyscope calibration", "id": "b"}'
    )
    shutil.copytree(reference_model(), folder / "models" / "mine")
    description = json.loads((folder / "models" / "mine" / "model.json").read_text())
    (folder / "models" / "mine" / "model.json").write_text(json.dumps({**description, "id": "trained"}))
    return folder


@pytest.fixture(scope="module")
def jobs(folder: Path) -> Jobs:
    return Jobs(folder)


@pytest.fixture(scope="module")
def served(folder: Path, jobs: Jobs) -> Iterator[tuple[Server, Peer]]:
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    with link() as address:
        peer = Peer(address, store, jobs)
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        yield server, peer
        server.close()
        peer.close()
    store.close()


@pytest.fixture
def client(served: tuple[Server, Peer]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served[0].host}/api/v1", timeout=30) as client:
        yield client


@pytest.fixture
def peer(served: tuple[Server, Peer]) -> Iterator[Peer]:
    yield served[1]
    served[1].refusal = None


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    problem = response.json()
    for word in words:
        assert word in json.dumps(problem)
    assert problem["remedy"]


def test_a_sweep_is_asked_of_the_engine(client: httpx.Client, peer: Peer) -> None:
    started = client.post("/calibrations", json={**SWEEP, "name": "slide"})
    assert started.status_code == 202
    job = started.json()
    assert started.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["kind"], job["name"], job["step"]) == ("calibrate", "slide", "sweep")
    command, arguments = peer.commands[-1]
    assert command == "calibration.start"
    assert arguments == {
        "name": "slide", "z_range_um": [0.0, 40.0], "z_step_um": 1.0, "repeats": 2, "settle_s": 0.05,
        "exposure_s": None, "pixel_size_um": None, "camera": None, "object_diameter_um": None, "bead_diameter_um": None,
    }  # fmt: skip
    peer.refusal = EngineRefusal("conflict", "Run r1 is on and has the microscope.", "Stop it first.")
    assert_problem(client.post("/calibrations", json=SWEEP), 409, "Run r1")


CAMERA = {"offset_adu": 98.5, "electrons_per_adu": 0.47, "read_noise_e": 1.6}


def test_a_measured_camera_goes_with_the_sweep(client: httpx.Client, peer: Peer) -> None:
    described = {**CAMERA, "bit_depth": 12, "source": "darks and flats"}
    assert client.post("/calibrations", json={**SWEEP, "camera": described}).status_code == 202
    assert peer.commands[-1][1]["camera"] == described
    assert client.post("/calibrations", json={**SWEEP, "camera": CAMERA}).status_code == 202
    assert peer.commands[-1][1]["camera"] == {**CAMERA, "bit_depth": 16, "source": "given"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"z_step_um": 1}, "z_range_um"),
        ({**SWEEP, "camera": {}}, "offset_adu"),
        ({**SWEEP, "camera": {**CAMERA, "electrons_per_adu": 0}}, "electrons_per_adu"),
        ({**SWEEP, "camera": {**CAMERA, "bit_depth": 32}}, "bit_depth"),
        ({**SWEEP, "camera": {**CAMERA, "gain": 1}}, "there is no such field"),
        ({**SWEEP, "z_range_um": [40, 0]}, "below the high end"),
        ({**SWEEP, "z_range_um": [0]}, "z_range_um"),
        ({**SWEEP, "z_step_um": 0}, "z_step_um"),
        ({**SWEEP, "z_step_um": "1"}, "z_step_um"),
        ({**SWEEP, "repeats": 0}, "repeats"),
        ({**SWEEP, "z_ramge_um": [0, 1]}, "there is no such field"),
    ],
)
def test_a_sweep_of_nonsense_is_refused(client: httpx.Client, body: dict[str, Any], says: str) -> None:
    assert_problem(client.post("/calibrations", json=body), 422, says)


def test_calibrations_are_listed_and_shown(client: httpx.Client, folder: Path) -> None:
    (item,) = client.get("/calibrations").json()["items"]  # the broken one is left out
    assert (item["id"], item["name"], item["pixel_size_um"]) == ("small", "beads", 0.65)
    one = client.get("/calibrations/small").json()
    assert one["name"] == "beads"
    assert len(one["sweep_z_um"]) > 5
    assert_problem(client.get("/calibrations/small/report"), 404, "has no report")
    (folder / "calibrations" / "small" / "report.html").write_text("<!doctype html>")
    report = client.get("/calibrations/small/report")
    assert report.headers["content-type"].startswith("text/html")
    for none in ("/calibrations/none", "/calibrations/none/report", "/calibrations/..%2f..%2fetc"):
        assert_problem(client.get(none), 404)


def test_trainings_are_written_down_for_the_runner(client: httpx.Client, jobs: Jobs) -> None:
    started = client.post("/models", json={"calibration": "small", "minutes": 5, "name": "first"})
    assert started.status_code == 202
    job = jobs.get(started.json()["id"])
    assert started.headers["location"] == f"/api/v1/jobs/{job.id}"
    assert (job.kind, job.state, job.step, job.name) == ("train", "queued", "compute", "first")
    assert job.request == {
        "calibration": "small", "minutes": 5.0, "size": "live", "architecture": "cascade", "seed": 1,
    }  # fmt: skip
    assert_problem(client.post("/models", json={"calibration": "none"}), 404, "no calibration 'none'")
    for wrong in ({"minutes": 0}, {"size": "huge"}, {"architecture": "vgg16"}, {"seed": -1}):
        assert_problem(client.post("/models", json={"calibration": "small", **wrong}), 422)


def test_every_network_can_be_trained_in_every_size_that_it_has(client: httpx.Client, jobs: Jobs) -> None:
    for name in architecture_names():
        assert architecture_sizes(name) == architecture_named(name).sizes
        for size in architecture_sizes(name):
            asked = {"calibration": "small", "architecture": name, "size": size}
            started = client.post("/models", json=asked)
            assert started.status_code == 202
            request = jobs.get(started.json()["id"]).request
            assert (request["architecture"], request["size"]) == (name, size)
    # Without a size: the live one, where there is one.
    started = client.post("/models", json={"calibration": "small", "architecture": "fcn"})
    assert jobs.get(started.json()["id"]).request["size"] == "narrow"
    wrong = client.post("/models", json={"calibration": "small", "architecture": "vgg", "size": "live"})
    assert_problem(wrong, 422, "must be one of the sizes of vgg: narrow, quarter, wide, printed")
    wrong = client.post("/models", json={"calibration": "small", "architecture": "yolo", "size": "live"})
    assert_problem(wrong, 422, "must be one of cascade, vgg, fcn")
    assert len(wrong.json()["errors"]) == 1


def test_models_are_listed_shown_and_made_active(client: httpx.Client, peer: Peer) -> None:
    listed = client.get("/models").json()
    sources = {item["id"]: item["source"] for item in listed["items"]}
    assert sources["trained"] == "library"
    assert sources["reference-10x-0.45-full"] == "shipped"
    first = client.get("/models", params={"limit": 1}).json()
    second = client.get("/models", params={"limit": 1, "cursor": first["next"]}).json()
    assert first["items"] + second["items"] == listed["items"][:2]
    assert_problem(client.get("/models", params={"cursor": "none"}), 422)
    assert client.get("/models/trained").json()["architecture"] == "cascade"
    assert_problem(client.get("/models/none"), 404)
    answer = client.put("/models/active", json={"id": "trained"})
    assert answer.json()["id"] == "trained"
    assert peer.commands[-1] == ("model.activate", {"id": "trained"})
    assert_problem(client.put("/models/active", json={"id": 3}), 422)
    peer.refusal = EngineRefusal("not_found", "There is no model 'none'.", "See /api/v1/models.")
    assert_problem(client.put("/models/active", json={"id": "none"}), 404)


def test_jobs_are_listed_shown_and_cancelled(client: httpx.Client, jobs: Jobs) -> None:
    job = jobs.create("train", "", {}, step="compute")
    assert client.get("/jobs").json()["items"][0]["kind"] in ("train", "calibrate")
    assert client.get(f"/jobs/{job.id}").json()["progress"] is None
    assert client.delete(f"/jobs/{job.id}").json()["state"] == "queued"
    assert jobs.is_cancel_requested(job.id)
    assert_problem(client.get("/jobs/none"), 404)
    assert_problem(client.delete("/jobs/none"), 404)
    assert_problem(client.get("/jobs", params={"cursor": "../x"}), 422)


def test_the_feed_tells_of_jobs(served: tuple[Server, Peer], jobs: Jobs) -> None:
    with connect(f"ws://{served[0].host}/api/v1/feed") as socket:
        job = jobs.create("train", "watched", {}, step="compute", state="running")
        assert _next_of(socket, job.id)["state"] == "running"
        jobs.report_progress(job.id, 10.0, 10.0, "min")
        assert _next_of(socket, job.id)["progress"]["done"] == 10.0
        jobs.move(job.id, "done", result="models/x")
        assert _next_of(socket, job.id)["result"] == "models/x"


def _next_of(socket: Any, job: str) -> dict[str, Any]:
    while True:
        message = json.loads(socket.recv(timeout=30))
        if message["type"] == "job" and message["id"] == job:
            return dict(message)


def test_camera_light_and_stage_are_set_through_the_engine(client: httpx.Client, peer: Peer) -> None:
    assert client.patch("/microscope", json={"exposure_s": 0.02, "roi": None, "shutter": "open"}).status_code == 200
    assert peer.commands[-1] == ("microscope.set", {"exposure_s": 0.02, "roi": None, "shutter_open": True})
    client.patch("/microscope", json={"roi": [0, 0, 64, 32], "channel": "FITC", "shutter": "closed"})
    assert peer.commands[-1][1] == {"roi": [0, 0, 64, 32], "channel": "FITC", "shutter_open": False}
    assert client.post("/microscope/stage", json={"stage_um": 3}).status_code == 200
    assert peer.commands[-1] == ("stage.move", {"stage_um": 3.0})
    count = len(peer.commands)
    for wrong in ({"exposure_s": 0}, {"roi": [0, 0, 64]}, {"binning": 9}, {"shutter": "ajar"}, {"focus_um": 1}):
        assert_problem(client.patch("/microscope", json=wrong), 422)
    for wrong in ({}, {"stage_um": None}, {"stage_um": "3"}, {"stage_um": 3, "fast": True}):
        assert_problem(client.post("/microscope/stage", json=wrong), 422)
    body = {"content": '{"stage_um": NaN}', "headers": {"Content-Type": "application/json"}}
    assert_problem(client.post("/microscope/stage", **body), 422)  # type: ignore[arg-type]
    assert len(peer.commands) == count


def test_the_active_model_is_that_of_the_settings_when_they_change(tmp_path: Path) -> None:
    assert Library(tmp_path).active_folder() is None
    before = Library(tmp_path, reference_model())
    before.activate("reference-10x-0.45-full")
    assert before.active_folder() == reference_model()
    assert Library(tmp_path).active_folder() is None  # the settings do not name it any more
    before.activate("gone")
    with pytest.raises(UnknownItem):
        before.active_folder()
