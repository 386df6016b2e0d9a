"""Sweeps and jobs on a disk that is really full: nothing dies, nothing is forgotten, and the room is given back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, StageLimits
from hardware.simulated import SimulatedMicroscope
from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.engine.engine import Engine
from service.engine.lease import LeaseState
from service.engine.sweep.exposure_file import SweepFile
from service.engine.sweep.request import SweepRequest, SweepSize
from service.engine.sweep.run import SweepRun
from service.files.jobs import Jobs
from service.jobs.runner import Runner
from service.protocol.addresses import LinkAddress
from service.settings import Settings, load_settings
from service.store.store import Store
from tests.models.bead_sweeps import CAMERA
from tests.service.conftest import SIZE_BYTES
from tests.service.engine.sweep.test_acquisition import Slide

SHAPE = (64, 64)
# 27 planes of 8 KiB fit, with little room beside them.
FITS = SweepRequest((0.0, 15.0), 1.0, repeats=1, settle_s=0.0)
TOO_LARGE = SweepRequest((0.0, 15.0), 1.0, repeats=3, settle_s=0.0)


@pytest.fixture
def settings(tmp_path: Path, small_disk: Path) -> Settings:
    """A data directory whose jobs are on a disk of 256 KiB."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "jobs").symlink_to(small_disk)
    settings = load_settings(command_line={"data_dir": data}, environment={})
    store = Store.open(settings.database)
    store.migrate()
    store.close()
    return settings


@pytest.fixture
def jobs(settings: Settings) -> Jobs:
    return Jobs(settings.data_dir)


@pytest.fixture
def microscope() -> Iterator[LimitedMicroscope]:
    inner = SimulatedMicroscope(Slide(), CAMERA, exposure_s=0.001)
    microscope = LimitedMicroscope(inner, StageLimits(-40.0, 60.0, 15.0))
    microscope.move_stage(5.0)
    yield microscope
    microscope.close()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    address = LinkAddress.create()
    engine = Engine(settings, address, lambda values: None)
    yield engine
    engine.close()
    LinkAddress.remove(address.folder)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):  # the end of the room
        while file.write(b"x" * 4096):
            pass
    return path


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def swept(jobs: Jobs, microscope: LimitedMicroscope, request: SweepRequest, floor_gb: float = 0.0) -> SweepRun:
    job = jobs.create("calibrate", "", {}, step="sweep", state="running")
    return SweepRun(job, jobs, microscope, DepthAxis(1, 1.0), request, 1.0, floor_gb, SweepRun.write_down)


@pytest.mark.parametrize(
    ("request_", "floor_gb", "says"),
    [
        (TOO_LARGE, 0.0, r"27 planes of 3 exposures of 64 x 64 pixels, 0\.000664 GB"),
        (FITS, 0.0001, r"0\.0001 GB are left free \(engine\.free_space_floor_gb\)"),
    ],
)
def test_a_sweep_that_does_not_fit_fails_with_its_size(
    jobs: Jobs, microscope: LimitedMicroscope, small_disk: Path, request_: SweepRequest, floor_gb: float, says: str
) -> None:
    sweep = swept(jobs, microscope, request_, floor_gb)
    sweep.start()
    assert sweep.wait(60)
    job = jobs.get(sweep.id)
    assert job.state == "failed"
    assert job.error is not None
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(job.error.problem)
    assert not list(small_disk.rglob("sweep.*"))
    assert (microscope.stage_um, microscope.camera_settings) == (5.0, CameraSettings(0.001))


def test_a_disk_that_fills_during_a_sweep_fails_the_job_and_not_the_engine(
    jobs: Jobs, microscope: LimitedMicroscope, small_disk: Path
) -> None:
    sweep = swept(jobs, microscope, FITS)
    sweep.start()
    wait_for(lambda: (path := jobs.folder(sweep.id) / "sweep.npy").exists() and path.stat().st_size > 3 * 8192)
    fill(small_disk)
    assert sweep.wait(60)
    job = jobs.get(sweep.id)
    assert job.state == "failed"
    assert job.error is not None
    assert "room" in job.error.problem or "are free" in job.error.problem
    assert not list(small_disk.rglob("sweep.*"))
    assert microscope.stage_um == 5.0


def test_exposures_are_on_the_disk_as_numpy_reads_them(tmp_path: Path) -> None:
    size = SweepSize(3, 2, (4, 5))
    frames = np.random.default_rng(3).integers(0, 65536, (6, 4, 5), np.uint16)
    path = tmp_path / "sweep.npy"
    with SweepFile(path, 0.0) as file:
        file.begin(size)
        for frame in frames:
            file.add(frame[::1])
    np.testing.assert_array_equal(np.load(path), frames.reshape(3, 2, 4, 5))


def test_a_file_on_a_full_disk_is_an_error_that_can_be_told(small_disk: Path) -> None:
    size = SweepSize(8, 1, SHAPE)
    with SweepFile(small_disk / "sweep.npy", 0.0) as file:
        file.begin(size)
        file.add(np.ones(SHAPE, np.uint16))
        fill(small_disk)
        with pytest.raises(DataError, match=r"8 planes of 1 exposures|There is no room"):
            file.add(np.ones(SHAPE, np.uint16))


def test_the_floor_holds_until_the_last_plane(small_disk: Path) -> None:
    size = SweepSize(8, 1, SHAPE)
    with SweepFile(small_disk / "sweep.npy", (SIZE_BYTES - size.total_bytes - 16384) / 1e9) as file:
        file.begin(size)
        file.add(np.ones(SHAPE, np.uint16))
        (small_disk / "other").write_bytes(b"x" * 32768)
        with pytest.raises(DataError, match="free_space_floor_gb"):
            file.add(np.ones(SHAPE, np.uint16))


def test_what_a_dead_sweep_left_makes_the_room_for_its_end(engine: Engine, jobs: Jobs, small_disk: Path) -> None:
    job = jobs.create("calibrate", "", {}, step="sweep", state="running")
    fill(small_disk).rename(jobs.folder(job.id) / "sweep.npy")
    assert engine.stage_jobs.outcomes.write()
    assert jobs.get(job.id).state == "interrupted"
    assert not (jobs.folder(job.id) / "sweep.npy").exists()
    assert [event.kind for event in engine._outputs.store.events.list().items] == ["calibration_interrupted"]


def test_an_autofocus_of_an_earlier_engine_is_marked(engine: Engine, jobs: Jobs) -> None:
    job = jobs.create("focus", "", {}, step="sweep", state="running")
    assert engine.stage_jobs.outcomes.write()
    after = jobs.get(job.id)
    assert after.state == "interrupted"
    assert after.error is not None
    assert "ended during the autofocus, so the stage was not put back" in after.error.problem
    assert [event.kind for event in engine._outputs.store.events.list().items] == ["focus_interrupted"]


def test_a_sweep_is_marked_as_soon_as_the_disk_takes_it(engine: Engine, jobs: Jobs, small_disk: Path) -> None:
    cut_off = jobs.create("calibrate", "", {}, step="sweep", state="running")
    filler = fill(small_disk)
    assert not engine.stage_jobs.outcomes.write()
    assert jobs.get(cut_off.id).state == "running"
    filler.unlink()
    assert engine.stage_jobs.outcomes.write()
    assert jobs.get(cut_off.id).state == "interrupted"
    # Written once: a sweep that begins now is none of those that were cut off.
    begun = jobs.create("calibrate", "", {}, step="sweep", state="running")
    assert engine.stage_jobs.outcomes.write()
    assert jobs.get(begun.id).state == "running"


def test_a_sweep_that_ends_on_a_full_disk_is_written_down_later(
    engine: Engine, jobs: Jobs, microscope: LimitedMicroscope, small_disk: Path
) -> None:
    assert engine.stage_jobs.outcomes.write()
    job = jobs.create("calibrate", "", {}, step="sweep", state="running")
    sweep = SweepRun(job, jobs, microscope, DepthAxis(1, 1.0), FITS, 1.0, 0.0, engine.stage_jobs.ended)
    for state in (LeaseState.OPENING, LeaseState.FREE):
        engine.lease.become(state)
    engine.lease.become(LeaseState.SWEEP, sweep=sweep)
    filler = fill(small_disk)
    sweep.halt()
    sweep.start()
    assert sweep.wait(60)
    assert jobs.get(job.id).state == "running"
    assert engine._wake.is_set()
    filler.unlink()
    assert engine.stage_jobs.outcomes.write()
    assert jobs.get(job.id).state == "cancelled"


def test_a_job_that_ends_on_a_full_disk_is_written_down_later(settings: Settings, jobs: Jobs, small_disk: Path) -> None:
    runner = Runner(settings)
    asked = {"calibration": "gone", "minutes": 1.0, "size": "full", "architecture": "cascade", "seed": 1}
    job = jobs.create("train", "", asked, step="compute")
    runner.update()
    worker = runner._workers["train"]
    filler = fill(small_disk)
    worker.process.join(60)
    for _ in range(3):
        with pytest.raises(DataError, match="no room"):
            runner.update()
        assert jobs.get(job.id).state == "running"
    filler.unlink()
    runner.update()
    ended = jobs.get(job.id)
    assert ended.state == "failed"
    # The worker's own reason, which its folder could not take.
    assert ended.error is not None
    assert "no calibration 'gone'" in ended.error.problem
    runner.end()


def test_a_service_that_ends_on_a_full_disk_ends_its_workers(settings: Settings, jobs: Jobs, small_disk: Path) -> None:
    asked = {"calibration": "gone", "minutes": 1.0, "size": "full", "architecture": "cascade", "seed": 1}
    job = jobs.create("train", "", asked, step="compute")
    runner = Runner(settings)
    runner.update()
    process = runner._workers["train"].process
    pid = process.pid
    filler = fill(small_disk)
    with pytest.raises(DataError, match="no room"):
        runner.end()
    assert not runner._workers
    assert pid is not None
    filler.unlink()
    again = Runner(settings)
    again.begin()
    assert jobs.get(job.id).state == "interrupted"
