"""Runs over HTTP: list, names, revisions, recorded frames, and deletion, on a real server."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
import tifffile
from fastapi import FastAPI

from models.tables import Tracks
from service.files.jobs import Jobs
from service.settings import RetentionPart, Settings
from service.store.result_batch import ResultBatch
from service.store.runs import Run
from service.store.store import Store
from service.store.tracks import TrackSelection
from tests.service.api_peer import RECORDED, RECORDED_PIXEL_UM, Peer, Server, link, recorded_counts, recorded_run
from tests.service.store_samples import frame_times, recompute, sample_batch, sample_ledger


class Service:
    """A server with a client, and runs in its store."""

    def __init__(self, folder: Path, store: Store, peer: Peer, client: httpx.Client, app: FastAPI) -> None:
        self.app = app
        self.folder = folder
        self.store = store
        self.peer = peer
        self.client = client

    def run(self, name: str = "", *, recorded: bool = False, batches: int = 2, **options: Any) -> Run:
        run = self.store.runs.create(model_id="reference", record=recorded, name=name, **options)
        for batch in range(batches):
            self.store.append(run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
        self.store.runs.finish(run.id)
        return self.store.runs.get(run.id)

    def recorded_run(self) -> Run:
        return self.store.runs.get(recorded_run(self.folder, self.store))

    def names(self, **parameters: Any) -> list[str]:
        answer = self.client.get("/runs", params=parameters)
        assert answer.status_code == 200, answer.text
        return [run["name"] for run in answer.json()["items"]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    with link() as address:
        peer = Peer(address, store, Jobs(tmp_path))
        server = Server(Settings(data_dir=tmp_path), address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}/api/v1", timeout=30) as client:
            yield Service(tmp_path, store, peer, client, server.app)
        server.close()
        peer.close()
    store.close()


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    problem = response.json()
    for word in words:
        assert word in f"{problem['detail']} {problem['remedy']}", problem


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# ---- list ----


def test_list_is_searched_filtered_and_ordered(service: Service) -> None:
    start = 1_700_000_000.0
    service.run("beads 1", started_at=start)
    service.run("Cells", recorded=True, recording="recordings/cells.ome.zarr", started_at=start + 86_400)
    service.run("beads 2", notes="100 % of the light", started_at=start + 2 * 86_400)
    running = service.store.runs.create(model_id="other", record=False, name="abc")
    everything = ["abc", "beads 2", "Cells", "beads 1"]
    assert service.names() == everything
    assert service.names(order="oldest") == everything[::-1]
    assert service.names(order="name") == ["abc", "beads 1", "beads 2", "Cells"]
    assert service.names(order="longest")[-1] == "abc"  # the ended ones began years ago
    assert service.names(search="CELL") == ["Cells"]
    assert service.names(search="100 %") == ["beads 2"]  # no wildcard
    assert service.names(search=running.id) == ["abc"]
    assert service.names(state="running") == ["abc"]
    assert service.names(model="other") == ["abc"]
    assert service.names(recorded=True) == ["Cells"]
    assert service.names(recorded=False) == ["abc", "beads 2", "beads 1"]
    assert service.names(started_from="2023-11-15T00:00:00", started_to="2023-11-16T00:00:00Z") == ["Cells"]
    assert service.names(search="beads", order="oldest") == ["beads 1", "beads 2"]


@pytest.mark.parametrize("order", ["newest", "oldest", "name", "longest"])
def test_pages_follow_each_other_in_every_order(service: Service, order: str) -> None:
    for number in range(5):
        service.run(f"n{number % 2}", batches=0, started_at=1_700_000_000.0 + number)
    whole = [run["id"] for run in service.client.get("/runs", params={"order": order}).json()["items"]]
    paged: list[str] = []
    cursor = None
    while True:
        parameters = {"order": order, "limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = service.client.get("/runs", params=parameters).json()
        paged += [run["id"] for run in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole
    assert len(set(paged)) == 5


def test_what_a_list_refuses(service: Service) -> None:
    get = service.client.get
    assert_problem(get("/runs", params={"order": "size"}), 422, "order", "longest")
    assert_problem(get("/runs", params={"state": "done"}), 422, "state")
    assert_problem(get("/runs", params={"started_from": "yesterday"}), 422, "started_from")
    assert_problem(
        get("/runs", params={"started_from": "2024-01-02T00:00:00", "started_to": "2024-01-01T00:00:00"}),
        422,
        "must not be later",
    )
    service.run("a"), service.run("b")
    cursor = get("/runs", params={"order": "name", "limit": 1}).json()["next"]
    assert service.client.delete(f"/runs/{service.store.runs.list().items[-1].id}").status_code == 204
    eventually(lambda: not service.store.removals.pending(), "the run is gone")
    assert_problem(get("/runs", params={"order": "name", "cursor": cursor}), 422, "deleted meanwhile", "cursor")


# ---- texts and revisions ----


def test_name_and_notes_can_be_changed_in_any_state(service: Service) -> None:
    run = service.store.runs.create(model_id="reference", record=False, name="old", notes="first").id
    answer = service.client.patch(f"/runs/{run}", json={"name": "new µ"})
    assert (answer.status_code, answer.json()["name"], answer.json()["notes"]) == (200, "new µ", "first")
    answer = service.client.patch(f"/runs/{run}", json={"notes": ""})
    assert (answer.json()["name"], answer.json()["notes"]) == ("new µ", "")
    assert service.client.patch(f"/runs/{run}", json={}).json()["name"] == "new µ"
    assert_problem(service.client.patch("/runs/none", json={"name": "x"}), 404, "no run 'none'")
    assert_problem(service.client.patch(f"/runs/{run}", json={"state": "finished"}), 422, "body.state")
    assert_problem(service.client.patch(f"/runs/{run}", json={"name": None}), 422, "body.name")
    assert_problem(service.client.patch(f"/runs/{run}", json={"name": "a\nb"}), 422, "body.name")


def test_revisions_say_what_made_them(service: Service) -> None:
    run = service.run(settings={"tracking": {"preset": "default"}, "version": "0.1.0"}).id
    recompute(service.store, run, 5.0, (1, 2), 2)
    made = {"form": "smoothed", "model_ids": ["reference"], "tracking": {"preset": "default"}, "version": "0.1.0"}
    service.store.catch_ups.complete(run, made)
    found = service.client.get(f"/runs/{run}/revisions").json()
    assert [each["id"] for each in found["items"]] == [3, 2, 1]
    newest, older, live = found["items"]
    assert {name: newest[name] for name in made} == made
    assert older["version"] is None
    assert (live["form"], live["model_ids"], live["version"]) == ("live", ["reference"], "0.1.0")
    assert live["made_at"] is not None
    assert_problem(service.client.get("/runs/none/revisions"), 404, "no run 'none'")


# ---- frames ----


@pytest.mark.parametrize("number", RECORDED)
def test_a_recorded_frame_comes_as_counts_tiff_and_picture(service: Service, number: int) -> None:
    run = service.recorded_run().id

    def get(accept: str, **parameters: float) -> httpx.Response:
        answer = service.client.get(f"/runs/{run}/frames/{number}", headers={"Accept": accept}, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer

    raw = get("application/octet-stream")
    assert raw.headers["bathyscope-shape"] == "8, 12"
    np.testing.assert_array_equal(np.frombuffer(raw.content, "<u2").reshape(8, 12), recorded_counts(number))
    with tifffile.TiffFile(io.BytesIO(get("image/tiff").content)) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), recorded_counts(number))
        assert f'PhysicalSizeX="{RECORDED_PIXEL_UM}"' in (tiff.ome_metadata or "")
    low, high = 100.0 * number + 2, 100.0 * number + 7
    answer = get("image/png", low_adu=low, high_adu=high)
    picture = imagecodecs.png_decode(answer.content)
    assert picture[0].tolist() == [0, 0, 0, 51, 102, 153, 204, 255, 255, 255, 255, 255]
    assert float(answer.headers["bathyscope-low-adu"]) == low
    browser = get("image/avif,image/webp,*/*;q=0.8")
    assert browser.headers["content-type"] == "image/png"
    assert imagecodecs.png_decode(browser.content)[0, [0, -1]].tolist() == [0, 255]


def test_what_is_no_recorded_frame_is_said(service: Service) -> None:
    run, plain = service.recorded_run().id, service.run().id
    get = service.client.get
    for number in (3, 4, 8, 10, 2**60):
        assert_problem(get(f"/runs/{run}/frames/{number}"), 404, f"no frame {number}")
    assert_problem(get(f"/runs/{plain}/frames/0"), 404, "no recording", "record: true")
    assert_problem(get("/runs/none/frames/0"), 404, "no run 'none'")
    assert_problem(get(f"/runs/{run}/frames/-1"), 422, "path.frame")
    assert_problem(get(f"/runs/{run}/frames/0", headers={"Accept": "text/html"}), 406, "image/png")
    assert_problem(get(f"/runs/{run}/frames/0", params={"low_adu": 9, "high_adu": 9}), 422, "must be lower")
    shard = service.folder / str(service.store.runs.get(run).recording) / "0" / "c" / "1" / "0" / "0"
    shard.write_bytes(b"damaged")
    assert_problem(get(f"/runs/{run}/frames/7"), 422, "cannot be read", "damaged")
    shard.unlink()
    assert_problem(get(f"/runs/{run}/frames/7"), 422, "missing", "Put it back")
    assert get(f"/runs/{run}/frames/2").status_code == 200


# ---- deletion ----


def rows_left(service: Service) -> int:
    tables = (
        "runs",
        "localization_batches",
        "recorded_frames",
        "analysed_frames",
        "tracks",
        "track_points",
        "track_events",
    )
    with service.store._database.reading() as connection:
        return sum(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables)


def test_a_deleted_run_leaves_nothing_but_an_event(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.removals._ROWS_PER_STEP", 7)
    run = service.recorded_run()
    recompute(service.store, run.id, 5.0, (1, 2), 2)
    folder = service.folder / str(run.recording)
    assert service.client.delete(f"/runs/{run.id}").status_code == 204
    assert_problem(service.client.get(f"/runs/{run.id}"), 404, run.id)
    assert_problem(service.client.get(f"/runs/{run.id}/tracks"), 404, run.id)
    assert service.names() == []
    eventually(lambda: rows_left(service) == 0 and not folder.exists(), "rows and files are gone")
    (event,) = service.client.get("/events", params={"run": run.id}).json()["items"]
    assert event["kind"] == "run_deleted"
    assert event["details"]["bytes"] > 0
    assert_problem(service.client.delete(f"/runs/{run.id}"), 404, run.id)


def test_a_deleted_recording_leaves_the_tracks(service: Service) -> None:
    run = service.recorded_run()
    assert service.client.delete(f"/runs/{run.id}/recording").status_code == 204
    found = service.client.get(f"/runs/{run.id}").json()
    assert (found["recording"], found["record"]) == (None, True)
    assert_problem(service.client.get(f"/runs/{run.id}/frames/0"), 404, "no recording")
    eventually(lambda: not service.store.removals.pending(), "the recording is gone")
    assert not (service.folder / str(run.recording)).exists()
    assert service.store.frames.count(run.id) == 0
    assert service.client.get(f"/runs/{run.id}/tracks").json()["items"]
    assert service.client.delete(f"/runs/{run.id}").status_code == 204


def test_a_run_in_use_is_not_deleted(service: Service) -> None:
    delete = service.client.delete
    on = service.store.runs.create(model_id="reference", record=False).id
    assert_problem(delete(f"/runs/{on}"), 409, f"Run {on} is on", "Stop it")
    run = service.run().id

    job = Jobs(service.folder).create("export", "", {"run": run}, step="compute")
    assert_problem(delete(f"/runs/{run}"), 409, job.id, "export")
    Jobs(service.folder).move(job.id, "done")

    def caught_up() -> bool:
        service.peer.publish_status(catching_up=run)
        return delete(f"/runs/{run}").status_code == 409

    eventually(caught_up, "the status arrives")
    assert_problem(delete(f"/runs/{run}"), 409, "engine", "Try again")
    assert_problem(delete(f"/runs/{run}/recording"), 409, "engine")

    def free() -> bool:
        service.peer.publish_status(catching_up=None)
        return delete(f"/runs/{run}").status_code == 204

    eventually(free, "the engine has finished")


def test_a_run_that_is_downloaded_is_not_deleted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    run = service.run().id
    halfway = threading.Event()
    stream = service.store.tracks.stream

    def slow(selection: TrackSelection) -> Iterator[Tracks]:
        yield from stream(selection)
        assert halfway.wait(20)

    monkeypatch.setattr(service.store.tracks, "stream", slow)
    with service.client.stream("GET", f"/runs/{run}/tracks", headers={"Accept": "text/csv"}) as answer:
        assert_problem(service.client.delete(f"/runs/{run}"), 409, "1 request reads it", "Try again")
        halfway.set()
        answer.read()
    eventually(lambda: service.client.delete(f"/runs/{run}").status_code == 204, "the download has ended")


def test_a_file_that_cannot_be_deleted_is_tried_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.deletions._PERIOD_S", 0.05)
    run = service.recorded_run()

    def refuse(_: Path) -> Iterator[None]:
        raise PermissionError(13, "in use by another program")

    with monkeypatch.context() as patched:
        patched.setattr("service.files.run_removal.delete_folder", refuse)
        assert service.client.delete(f"/runs/{run.id}").status_code == 204
        time.sleep(0.2)
        assert [each.run_id for each in service.store.removals.pending()] == [run.id]
    other = service.run().id
    assert service.client.delete(f"/runs/{other}").status_code == 204
    eventually(lambda: rows_left(service) == 0, "tried again")
    assert not (service.folder / str(run.recording)).exists()


def test_retention_says_what_it_would_delete_and_deletes_it(service: Service) -> None:
    run = service.recorded_run()
    deletions = service.app.state.deletions
    for found in (service.client.get("/retention"), service.client.post("/retention", json={"dry_run": True})):
        assert found.json()["delete"] == []  # no rule
    deletions.rules = RetentionPart(keep_days=1e-9, what="run")
    for found in (service.client.get("/retention"), service.client.post("/retention", json={"dry_run": True})):
        assert found.json()["deleted"] is False
        (item,) = found.json()["delete"]
        assert (item["run_id"], item["part"]) == (run.id, "run")
        assert "days" in item["reason"]
    assert service.names() == ["frames"]

    job = Jobs(service.folder).create("export", "", {"run": run.id}, step="compute")
    found = service.client.post("/retention", json={})
    assert (found.json()["deleted"], found.json()["delete"]) == (True, [])
    assert job.id in found.json()["keep"][0]["reason"]
    Jobs(service.folder).move(job.id, "done")
    assert [item["run_id"] for item in service.client.post("/retention", json={}).json()["delete"]] == [run.id]
    eventually(lambda: rows_left(service) == 0, "it is gone")
    assert service.client.get("/events").json()["items"][0]["details"]["why"].startswith("retention: it ended")
    assert_problem(service.client.post("/retention", json={"dry": True}), 422, "body.dry")


def test_the_service_applies_the_rules_by_itself(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    recorded_run(tmp_path, store)
    with link() as address:
        settings = Settings(data_dir=tmp_path, retention=RetentionPart(most_gb=1e-9))
        server = Server(settings, address, store, Path("none"))
        eventually(lambda: not list(tmp_path.glob("recordings/*")), "deleted at the start")
        server.close()
    store.close()


def test_a_deletion_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    run = store.runs.create(model_id="reference", record=False).id
    store.runs.finish(run)
    store.removals.request(run)  # and the process is killed here
    with link() as address:
        server = Server(Settings(data_dir=tmp_path), address, store, Path("none"))
        eventually(lambda: not store.removals.pending(), "the rest is deleted at the start")
        server.close()
    store.close()
