"""The folders of jobs, and the runner with real worker processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from models.camera import CameraModel
from models.errors import DataError
from service.files.job import Fault, Job
from service.files.jobs import Jobs
from service.jobs import runner as module
from service.jobs import worker
from service.jobs.runner import Runner
from service.settings import Settings, load_settings
from service.store.errors import UnknownItem
from service.store.store import Store
from tests.models.test_training import small_calibration

TRAINING = {"calibration": "small", "minutes": 60.0, "size": "full", "architecture": "cascade", "seed": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings(command_line={"data_dir": tmp_path}, environment={})
    store = Store.open(settings.database)
    store.migrate()
    store.close()
    return settings


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@pytest.fixture
def runner(settings: Settings) -> Iterator[Runner]:
    runner = Runner(settings)
    yield runner
    runner.end()


def until(runner: Runner, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        runner.update()
        time.sleep(0.02)


def events(settings: Settings) -> list[str]:
    store = Store.open(settings.database)
    kinds = [event.kind for event in store.events.list().items]
    store.close()
    return kinds


def test_a_job_whose_request_lacks_everything_fails_alone(settings: Settings, jobs: Jobs, runner: Runner) -> None:
    odd = jobs.create("train", "", {}, step="compute")
    (jobs.folder("broken")).mkdir()
    (jobs.folder("broken") / "job.json").write_text('{"a":' * 50_000)
    until(runner, lambda: jobs.get(odd.id).is_over)
    assert jobs.get(odd.id).state == "failed"
    assert sorted(events(settings)) == ["training_failed", "training_started"]


# ---- folders ----


def test_a_job_is_what_its_files_say(jobs: Jobs) -> None:
    job = jobs.create("train", "by night", TRAINING, step="compute")
    assert (job.state, job.step, job.name, job.request) == ("queued", "compute", "by night", TRAINING)
    assert job.started_at is None
    assert job.progress is None
    jobs.move(job.id, "running")
    jobs.report_progress(job.id, 0.0, 10.0, "min")
    jobs.log(job.id, "one\ntwo")
    running = jobs.get(job.id)
    assert running.started_at is not None
    assert running.progress is not None
    assert (running.progress.done, running.progress.total, running.progress.eta_s) == (0.0, 10.0, None)
    assert [line.split(" ", 1)[1] for line in running.log.splitlines()] == ["one", "two"]
    jobs.move(job.id, "failed", error=Fault("It rained.", "Wait."))
    failed = jobs.get(job.id)
    assert failed.is_over
    assert failed.error == Fault("It rained.", "Wait.")
    assert failed.ended_at is not None
    assert failed.started_at == running.started_at
    assert jobs.open_jobs() == []


def test_progress_has_the_remaining_time_and_is_not_written_at_every_call(jobs: Jobs) -> None:
    job = jobs.create("train", "", TRAINING, step="compute", state="running")
    jobs.report_progress(job.id, 0.0, 4.0, "min")
    jobs.report_progress(job.id, 1.0, 4.0, "min")  # at once after the first
    assert _progress(jobs, job) == 0.0
    time.sleep(0.26)
    jobs.report_progress(job.id, 2.0, 4.0, "min")
    progress = jobs.get(job.id).progress
    assert progress is not None
    assert progress.done == 2.0
    assert progress.eta_s == pytest.approx(0.3, abs=0.2)  # half was done in 0.26 s
    jobs.report_progress(job.id, 4.0, 4.0, "min")  # the last one always
    assert _progress(jobs, job) == 4.0


def _progress(jobs: Jobs, job: Job) -> float:
    progress = jobs.get(job.id).progress
    assert progress is not None
    return progress.done


def test_the_list_has_pages_newest_first(jobs: Jobs, tmp_path: Path) -> None:
    made = sorted((jobs.create("train", "", TRAINING, step="compute").id for _ in range(3)), reverse=True)
    first = jobs.page(2)
    assert [job.id for job in first.items] == made[:2]
    assert first.next == made[1]
    rest = jobs.page(2, first.next)
    assert [job.id for job in rest.items] == made[2:]
    assert rest.next is None
    (tmp_path / "jobs" / "left-by-hand").mkdir()
    assert len(jobs.page().items) == 3
    with pytest.raises(DataError, match="cursor"):
        jobs.page(2, "../1")


@pytest.mark.parametrize("name", ["none", "..", "../../etc", "a/b", "", "x" * 65])
def test_a_name_that_is_no_job_is_refused(jobs: Jobs, name: str) -> None:
    with pytest.raises(UnknownItem):
        jobs.get(name)
    with pytest.raises(UnknownItem):
        jobs.cancel(name)


def test_a_log_shows_its_last_whole_lines(jobs: Jobs) -> None:
    job = jobs.create("train", "", TRAINING, step="compute")
    jobs.log(job.id, "\n".join(f"line {n}" for n in range(500)))
    lines = jobs.get(job.id).log.splitlines()
    assert lines[-1].endswith("line 499")
    assert all(line.split(" ")[1] == "line" for line in lines)
    assert len(lines) < 500


# ---- the runner and its workers ----


def test_trainings_wait_for_each_other_and_a_cancelled_one_leaves_nothing(
    runner: Runner, jobs: Jobs, settings: Settings, tmp_path: Path
) -> None:
    small_calibration().save(tmp_path / "calibrations" / "small")
    first = jobs.create("train", "", TRAINING, step="compute")
    second = jobs.create("train", "", TRAINING, step="compute")
    until(runner, lambda: (p := jobs.get(first.id).progress) and p.unit == "min")
    assert jobs.get(second.id).state == "queued"
    worker = psutil.Process(runner._workers["train"].process.pid)
    assert worker.nice() == 19
    until(runner, lambda: list((tmp_path / "models").iterdir()))  # it writes aside

    jobs.cancel(second.id)
    until(runner, lambda: jobs.get(second.id).is_over)
    assert jobs.get(second.id).state == "cancelled"
    assert jobs.get(second.id).started_at is None

    jobs.cancel(first.id)
    until(runner, lambda: jobs.get(first.id).is_over)
    job = jobs.get(first.id)
    assert (job.state, job.result, job.error) == ("cancelled", None, None)
    assert not worker.is_running()
    assert list((tmp_path / "models").iterdir()) == []
    assert jobs.cancel(first.id).state == "cancelled"  # nothing more to cancel
    assert events(settings) == ["training_cancelled", "training_cancelled", "training_started"]


def test_an_impossible_job_fails_with_the_reason(runner: Runner, jobs: Jobs, settings: Settings) -> None:
    gone = jobs.create("train", "", TRAINING, step="compute")
    broken = jobs.create("calibrate", "", {"z_range_um": [0.0, 10.0]}, step="compute")
    until(runner, lambda: jobs.get(gone.id).is_over and jobs.get(broken.id).is_over)
    job = jobs.get(gone.id)
    assert job.state == "failed"
    assert job.error is not None
    assert "no calibration 'small'" in job.error.problem
    assert "no calibration 'small'" in job.log
    failed = jobs.get(broken.id)
    assert failed.error is not None
    assert "FileNotFoundError" in failed.error.problem
    assert "Traceback" in failed.log
    assert sorted(events(settings)) == ["calibration_failed", "training_failed", "training_started"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_worker_that_is_killed_and_a_service_that_ends(
    runner: Runner, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "worker_process", _sleep)
    killed = jobs.create("train", "", TRAINING, step="compute")
    until(runner, lambda: jobs.get(killed.id).state == "running")
    runner._workers["train"].process.kill()
    until(runner, lambda: jobs.get(killed.id).is_over)
    error = jobs.get(killed.id).error
    assert error is not None
    assert "exit status -9" in error.problem

    ended = jobs.create("train", "", TRAINING, step="compute")
    until(runner, lambda: jobs.get(ended.id).state == "running")
    runner.end()
    job = jobs.get(ended.id)
    assert job.state == "interrupted"
    assert job.error is not None
    assert "service ended" in job.error.problem


def _sleep(*_: Any) -> None:
    time.sleep(600)


def test_a_job_that_ran_when_the_service_was_killed_is_marked(
    runner: Runner, jobs: Jobs, settings: Settings, tmp_path: Path
) -> None:
    cut_off = jobs.create("train", "", TRAINING, step="compute", state="running")
    aside = tmp_path / "models" / f".{cut_off.id}.abcd"
    aside.mkdir(parents=True)
    # This one had renamed its result, and was killed before it could say so.
    done = jobs.create("train", "", TRAINING, step="compute", state="running")
    (tmp_path / "models" / done.id).mkdir()
    swept = jobs.create("calibrate", "", {}, step="sweep", state="running")  # the engine's business

    runner.begin()
    assert jobs.get(cut_off.id).state == "interrupted"
    assert not aside.exists()
    assert jobs.get(done.id).state == "done"
    assert jobs.get(done.id).result == f"models/{done.id}"
    assert jobs.get(swept.id).state == "running"
    assert sorted(events(settings)) == ["training_done", "training_interrupted"]


def test_without_the_database_the_event_is_lost_but_not_the_job(jobs: Jobs, tmp_path: Path) -> None:
    settings = load_settings(command_line={"data_dir": tmp_path}, environment={})  # no tables
    job = jobs.create("train", "", TRAINING, step="compute")
    jobs.cancel(job.id)
    Runner(settings).update()
    assert json.loads((tmp_path / "jobs" / job.id / "state.json").read_text())["state"] == "cancelled"


@pytest.mark.parametrize("measured", [True, False])
def test_a_calibration_uses_the_camera_that_was_stated(
    settings: Settings, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, measured: bool
) -> None:
    camera = {"offset_adu": 98.5, "electrons_per_adu": 0.47, "read_noise_e": 1.6, "bit_depth": 12, "source": "given"}
    asked = {"z_range_um": [0.0, 10.0], "camera": camera if measured else None}
    job = jobs.create("calibrate", "", asked, step="compute")
    np.save(jobs.folder(job.id) / "sweep.npy", np.zeros((8, 1, 16, 16), np.uint16))
    known = {"stage_um": list(range(8)), "pixel_size_um": 1.0, "bit_depth": 12, "sign": 1, "axial_scale": 1.0}
    (jobs.folder(job.id) / "sweep.json").write_text(json.dumps(known))
    given: list[CameraModel | None] = []

    def stop_here(*_: Any, camera: CameraModel | None, **__: Any) -> None:
        given.append(camera)
        raise DataError("Enough.", "Look at the camera.")

    monkeypatch.setattr("models.calibration.calibrating.calibrate", stop_here)
    with pytest.raises(DataError, match="Enough"):
        worker._calibrate(job, jobs, settings)
    assert given == [CameraModel(**camera) if measured else None]
