"""A sweep in the engine leaves the microscope as it was, however it ends: simulated, and the real DemoCamera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, MicroscopeError, StageLimits
from hardware.simulated import SimulatedMicroscope
from models.calibration.depth_axis import DepthAxis
from service.engine.sweep.request import SweepRequest
from service.engine.sweep.run import SweepRun
from service.files.job import Job
from service.files.jobs import Jobs
from service.files.sweep import read_sweep
from tests.conftest import need
from tests.models.bead_sweeps import CAMERA
from tests.service.engine.sweep.test_acquisition import Slide

REQUEST = SweepRequest((0.0, 20.0), 1.0, repeats=1, settle_s=0.02, exposure_s=0.002)
FOUND = CameraSettings(0.001)


@pytest.fixture
def microscope() -> Iterator[LimitedMicroscope]:
    inner = SimulatedMicroscope(Slide(), CAMERA, exposure_s=FOUND.exposure_s)
    microscope = LimitedMicroscope(inner, StageLimits(-40.0, 60.0, 15.0))
    microscope.move_stage(5.0)
    microscope.set_light(shutter_open=False)
    yield microscope
    microscope.close()


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@pytest.fixture
def job(jobs: Jobs) -> Job:
    return jobs.create("calibrate", "beads", {}, step="sweep", state="running")


def sweep_of(job: Job, jobs: Jobs, microscope: LimitedMicroscope, request: SweepRequest = REQUEST) -> SweepRun:
    return SweepRun(job, jobs, microscope, DepthAxis(1, 1.0), request, 1.0, 0.0, SweepRun.write_down)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def in_the_middle(jobs: Jobs, job: Job, percent: float = 60.0) -> bool:
    now = jobs.get(job.id)
    assert now.state == "running", now.error
    progress = now.progress
    return progress is not None and progress.done >= percent


def assert_left_as_found(microscope: LimitedMicroscope) -> None:
    assert microscope.stage_um == 5.0
    assert microscope.camera_settings == FOUND
    assert microscope.light.shutter_open is False


def test_what_was_swept_waits_for_the_worker(jobs: Jobs, job: Job, microscope: LimitedMicroscope) -> None:
    sweep = sweep_of(job, jobs, microscope)
    sweep.start()
    assert sweep.wait(60)
    assert sweep.age_s < 60
    assert_left_as_found(microscope)
    after = jobs.get(job.id)
    assert (after.state, after.step, after.progress) == ("queued", "compute", None)
    assert "focus near 12" in after.log
    planes, known = read_sweep(jobs.folder(job.id))
    assert planes.planes.shape[1:] == (1, 64, 64)
    assert planes.z_um[0] <= 12.5 - 5
    assert planes.z_um[-1] >= 12.5 + 20
    assert planes.planes.max() > 1000  # the light was on
    assert known["sign"] == 1


@pytest.mark.parametrize("percent", [5.0, 60.0], ids=["while focus is searched", "between two planes"])
def test_cancelled_in_the_middle(jobs: Jobs, job: Job, microscope: LimitedMicroscope, percent: float) -> None:
    sweep = sweep_of(job, jobs, microscope)
    sweep.start()
    wait_for(lambda: in_the_middle(jobs, job, percent))
    assert microscope.light.shutter_open is True
    assert microscope.camera_settings.exposure_s == REQUEST.exposure_s
    jobs.cancel(job.id)
    assert sweep.wait(60)
    assert_left_as_found(microscope)
    after = jobs.get(job.id)
    assert (after.state, after.step, after.error) == ("cancelled", "sweep", None)
    assert not (jobs.folder(job.id) / "sweep.npy").exists()


def test_a_long_wait_is_cut_short(jobs: Jobs, job: Job, microscope: LimitedMicroscope) -> None:
    sweep = sweep_of(job, jobs, microscope, SweepRequest((0.0, 20.0), 1.0, settle_s=600.0))
    sweep.start()
    wait_for(lambda: microscope.light.shutter_open)
    jobs.cancel(job.id)
    assert sweep.wait(30)
    assert_left_as_found(microscope)


def test_after_a_stop_nothing_moves(jobs: Jobs, job: Job, microscope: LimitedMicroscope) -> None:
    sweep = sweep_of(job, jobs, microscope)
    sweep.start()
    wait_for(lambda: in_the_middle(jobs, job))
    sweep.halt()
    assert sweep.wait(60)
    assert microscope.stage_um != 5.0
    assert microscope.camera_settings == FOUND
    assert microscope.light.shutter_open is False
    after = jobs.get(job.id)
    assert after.state == "cancelled"
    assert after.error is not None
    assert "Before the sweep it was at 5.00 µm" in after.error.problem


def test_a_stop_on_the_way_back_is_a_stop(jobs: Jobs, job: Job, microscope: LimitedMicroscope) -> None:
    sweep = sweep_of(job, jobs, microscope)
    put_back = microscope.apply_camera

    def stop_meanwhile(settings: CameraSettings) -> CameraSettings:
        if settings == FOUND:
            sweep.halt()
        return put_back(settings)

    microscope.apply_camera = stop_meanwhile  # type: ignore[method-assign]
    sweep.start()
    assert sweep.wait(60)
    assert microscope.stage_um != 5.0
    assert jobs.get(job.id).state == "cancelled"


def test_an_engine_that_ends_puts_everything_back(jobs: Jobs, job: Job, microscope: LimitedMicroscope) -> None:
    sweep = sweep_of(job, jobs, microscope)
    sweep.start()
    wait_for(lambda: in_the_middle(jobs, job))
    sweep.interrupt()
    assert sweep.wait(60)
    assert_left_as_found(microscope)
    assert jobs.get(job.id).state == "interrupted"


@pytest.mark.parametrize(
    ("error", "says", "lost"),
    [
        (MicroscopeError("no_frame", "The cable fell out.", "Put it back."), "cable", True),
        (MicroscopeError("not_arrived", "The stage stands elsewhere.", "Look."), "elsewhere", False),
        (OSError("The disk is full"), "disk is full", False),
    ],
)
def test_failures_are_told_and_the_microscope_is_put_back(
    jobs: Jobs, job: Job, microscope: LimitedMicroscope, error: Exception, says: str, lost: bool
) -> None:
    snap, taken = microscope.snap, 0

    def fail() -> object:
        nonlocal taken
        taken += 1
        if taken == 40:
            raise error
        return snap()

    microscope.snap = fail  # type: ignore[method-assign, assignment]
    sweep = sweep_of(job, jobs, microscope)
    sweep.start()
    assert sweep.wait(60)
    assert_left_as_found(microscope)
    after = jobs.get(job.id)
    assert after.state == "failed"
    assert after.error is not None
    assert says in after.error.problem
    assert sweep.microscope_failed is lost


def test_a_field_without_focus_fails(jobs: Jobs, job: Job) -> None:
    away = LimitedMicroscope(SimulatedMicroscope(Slide(), CAMERA, exposure_s=0.001), StageLimits(-40.0, 4.0, 15.0))
    sweep = sweep_of(job, jobs, away)
    sweep.start()
    assert sweep.wait(60)
    error = jobs.get(job.id).error
    assert error is not None
    assert "No focus was found" in error.problem
    assert away.stage_um == 0.0
    away.close()


def test_democamera_is_put_back_when_its_sweep_is_cancelled(jobs: Jobs, job: Job) -> None:
    need("mm_test_adapters")
    from hardware.core_session import democamera_installation
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    adapters, configuration = democamera_installation()
    beads = {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BitDepth": "16", "BeadDensity": "10"}
    inner = MicroManagerMicroscope(
        MicroManagerSettings(app_path=adapters, config_file=configuration, buffer_mb=32, properties={"Camera": beads})
    )
    scope = LimitedMicroscope(inner, StageLimits(-100.0, 100.0, 20.0))
    try:
        scope.apply_camera(CameraSettings(0.007))
        scope.set_light(channel="FITC")
        scope.move_stage(8.5)
        before = (scope.camera_settings, scope.light.channel, scope.stage_um)
        assert scope.light.automatic
        sweep = sweep_of(job, jobs, scope, SweepRequest((0.0, 40.0), 0.2, repeats=1, settle_s=0.0, exposure_s=0.003))
        sweep.start()
        # Early in a long sweep, so that a busy machine cannot finish it before it is cancelled.
        wait_for(lambda: in_the_middle(jobs, job, 5.0))
        assert scope.camera_settings.exposure_s == pytest.approx(0.003)
        jobs.cancel(job.id)
        assert sweep.wait(60)
        assert (scope.camera_settings, scope.light.channel, scope.stage_um) == before
        assert scope.light.automatic  # where it is at this moment is the core's affair
        assert jobs.get(job.id).state == "cancelled"
        # A shutter that was closed by hand is opened for the sweep, and closed again.
        scope.set_light(shutter_open=False)
        again = jobs.create("calibrate", "", {}, step="sweep", state="running")
        sweep = sweep_of(again, jobs, scope)
        sweep.start()
        wait_for(lambda: in_the_middle(jobs, again, 1.0))
        assert scope.light.shutter_open is True
        jobs.cancel(again.id)
        assert sweep.wait(60)
        assert scope.light.shutter_open is False
        assert scope.stage_um == pytest.approx(8.5)
    finally:
        scope.close()
