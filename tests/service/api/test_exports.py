"""Exports over HTTP, on a real server, with the jobs process's own runner and workers."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.table_files import read_table
from models.tables import Tracks
from service.export.formats import FORMATS
from service.files.jobs import Jobs
from service.jobs import worker
from service.jobs.runner import Runner
from service.settings import Settings
from service.store.store import Store
from tests.service.api_peer import Peer, Server, link
from tests.service.export.samples import readable_tracks, stored_run


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[tuple[httpx.Client, str]]:
    """A client, and the id of a run."""
    store = Store.open(settings.database)
    store.migrate()
    run = stored_run(store)
    with link() as address:
        peer = Peer(address, store)
        server = Server(settings, address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}/api/v1", timeout=30) as client:
            yield client, run
        server.close()
        peer.close()
    store.close()


@pytest.fixture
def runner(settings: Settings) -> Iterator[Runner]:
    runner = Runner(settings)
    yield runner
    runner.end()


def finished(client: httpx.Client, runner: Runner, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (job := client.get(f"/jobs/{job_id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        runner.update()
        time.sleep(0.02)
    found: dict[str, Any] = job
    return found


def start(client: httpx.Client, run: str, **wanted: Any) -> dict[str, Any]:
    answer = client.post(f"/runs/{run}/export", json=wanted)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    return job


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert all(word in json.dumps(response.json()) for word in words), response.text
    assert response.json()["remedy"]


def test_the_revision_that_was_asked_for_is_a_file_to_download(
    served: tuple[httpx.Client, str], runner: Runner, tmp_path: Path
) -> None:
    client, run = served
    for revision, shift_um in ((1, 0.0), (None, 1000.0)):
        job = start(client, run, format="parquet", revision=revision)
        assert job["kind"] == "export"
        assert job["request"] == {"run": run, "format": "parquet", "revision": revision or 2}
        assert_problem(client.get(f"/jobs/{job['id']}/result"), 404, "queued", "Wait")
        done = finished(client, runner, job["id"])
        assert (done["state"], done["error"]) == ("done", None)
        assert done["progress"]["done"] == 10
        assert done["progress"]["unit"] == "points"
        answer = client.get(f"/{done['result']}")
        assert done["result"] == f"jobs/{job['id']}/result"
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        name = f"{run}-tracks-{revision or 2}.parquet"
        assert f'filename="{name}"' in answer.headers["content-disposition"]
        (tmp_path / name).write_bytes(answer.content)
        found, expected = read_table(tmp_path / name, Tracks), readable_tracks()
        np.testing.assert_array_equal(found.track_id, expected.track_id)
        np.testing.assert_array_equal(found.x_um, expected.x_um + shift_um)
    kinds = [event["kind"] for event in client.get("/events").json()["items"]]
    assert kinds.count("export_done") == 2


def test_all_formats_can_be_downloaded(served: tuple[httpx.Client, str], runner: Runner, tmp_path: Path) -> None:
    client, run = served
    jobs = {name: start(client, run, format=name) for name in FORMATS}
    for name, job in jobs.items():
        done = finished(client, runner, job["id"])
        assert done["state"] == "done", done["error"]
        answer = client.get(f"/jobs/{job['id']}/result")
        assert answer.headers["content-type"].startswith(FORMATS[name].media_type)
        path = tmp_path / f"tracks{FORMATS[name].suffixes[0]}"
        if FORMATS[name].is_folder:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                archive.extractall(tmp_path)
            path = tmp_path / f"{run}-tracks-2.geff"
        else:
            path.write_bytes(answer.content)
        assert FORMATS[name].is_ours(path)
        if name == "trackmate":
            # The pixel size comes from the model of the run.
            assert 'pixelwidth="0.65"' in path.read_text(encoding="utf-8")


def test_figures_of_tracks_come_with_the_file(served: tuple[httpx.Client, str], runner: Runner) -> None:
    client, run = served
    job = start(client, run, format="csv", measures=True, exposure_s=0.005)
    done = finished(client, runner, job["id"])
    assert done["state"] == "done", done["error"]
    assert done["request"]["measures"] is True
    text = client.get(f"/jobs/{job['id']}/result").text
    header, first = (line.split(",") for line in text.splitlines()[:2])
    assert float(first[header.index("track_duration_s")]) == pytest.approx(0.04)
    too_long = start(client, run, format="csv", measures=True, exposure_s=3.0)
    failed = finished(client, runner, too_long["id"])
    assert failed["state"] == "failed"
    assert "The exposure is 3 s" in str(failed["error"])


@pytest.mark.parametrize("measures", [False, True])
def test_only_the_tracks_that_were_asked_for_are_written(
    served: tuple[httpx.Client, str], runner: Runner, tmp_path: Path, measures: bool
) -> None:
    client, run = served
    job = start(client, run, format="csv", tracks=[8, 3, 8], measures=measures)
    assert job["request"]["tracks"] == [3, 8]
    done = finished(client, runner, job["id"])
    assert done["state"] == "done", done["error"]
    assert done["progress"]["total"] == 9
    (tmp_path / "tracks.csv").write_bytes(client.get(f"/jobs/{job['id']}/result").content)
    assert read_table(tmp_path / "tracks.csv", Tracks).track_id.tolist() == [3] * 5 + [8] * 4
    failed = finished(client, runner, start(client, run, format="csv", tracks=[8, 9])["id"])
    assert failed["state"] == "failed"
    assert "has no track 9 in revision 2" in str(failed["error"])


def test_the_longest_list_of_tracks_is_accepted(served: tuple[httpx.Client, str], runner: Runner) -> None:
    client, run = served
    longest = [2**53 - number for number in range(3_000)]
    failed = finished(client, runner, start(client, run, format="csv", tracks=longest)["id"])
    assert f"no track {min(longest)}" in str(failed["error"])


def test_what_cannot_be_exported_is_refused_at_once(served: tuple[httpx.Client, str]) -> None:
    client, run = served
    before = len(client.get("/jobs").json()["items"])
    assert_problem(client.post("/runs/none/export", json={"format": "csv"}), 404, "no run 'none'")
    assert_problem(client.post(f"/runs/{run}/export", json={"format": "csv", "revision": 9}), 404, "no revision 9")
    assert_problem(client.post(f"/runs/{run}/export", json={"format": "xls"}), 422, "format", "geff")
    assert_problem(client.post(f"/runs/{run}/export", json={"format": "csv", "colour": 1}), 422, "colour")
    assert_problem(client.post(f"/runs/{run}/export", json={}), 422, "format")
    for tracks in ([], [-1], [0.5], list(range(3_001))):
        assert_problem(client.post(f"/runs/{run}/export", json={"format": "csv", "tracks": tracks}), 422, "tracks")
    assert len(client.get("/jobs").json()["items"]) == before


def test_a_run_without_recording_cannot_be_reprocessed(served: tuple[httpx.Client, str]) -> None:
    client, run = served
    before = len(client.get("/jobs").json()["items"])
    assert_problem(client.post("/runs/none/reprocess", json={}), 404, "no run 'none'")
    assert_problem(client.post(f"/runs/{run}/reprocess", json={"colour": 1}), 422, "colour")
    assert_problem(client.post(f"/runs/{run}/reprocess", json={"tracking": {"fit": "never"}}), 422, "fit")
    assert_problem(client.post(f"/runs/{run}/reprocess", json={}), 409, "has no recording")
    assert len(client.get("/jobs").json()["items"]) == before


def test_a_job_without_a_file_says_so(served: tuple[httpx.Client, str], runner: Runner, settings: Settings) -> None:
    client, run = served
    jobs = Jobs(settings.data_dir)
    training = jobs.create("train", "", {}, step="compute", state="running")
    jobs.move(training.id, "done", result="models/abc")
    assert_problem(client.get(f"/jobs/{training.id}/result"), 404, "has no file here", "/api/v1/models/abc")
    assert_problem(client.get("/jobs/none/result"), 404, "none")
    cancelled = start(client, run, format="csv")
    client.delete(f"/jobs/{cancelled['id']}")
    assert finished(client, runner, cancelled["id"])["state"] == "cancelled"
    assert_problem(client.get(f"/jobs/{cancelled['id']}/result"), 404, "cancelled", "again")


def test_files_of_exports_are_removed_after_a_week(
    served: tuple[httpx.Client, str], runner: Runner, settings: Settings
) -> None:
    client, run = served
    old, new = (finished(client, runner, start(client, run, format="napari")["id"]) for _ in range(2))
    for job, days in ((old, 8), (new, 6)):
        then = time.time() - days * 86_400
        os.utime(settings.data_dir / job["result"], (then, then))
    worker._remove_old_exports(settings.data_dir)
    assert_problem(client.get(f"/{old['result']}"), 404, "removed", "again")
    assert client.get(f"/{new['result']}").status_code == 200


def test_a_run_that_is_gone_fails_the_job_with_the_reason(
    served: tuple[httpx.Client, str], runner: Runner, settings: Settings
) -> None:
    client, _ = served
    job = Jobs(settings.data_dir).create("export", "", {"run": "gone", "format": "geff", "revision": 1}, step="compute")
    failed = finished(client, runner, job.id)
    assert failed["state"] == "failed"
    assert "no run 'gone'" in failed["error"]["problem"]
    assert not list((settings.data_dir / "jobs" / job.id).glob("*result*"))
