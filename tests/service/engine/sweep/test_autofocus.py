"""Autofocus as a job of the engine: it finds the focus, and puts everything back otherwise."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, StageLimits
from hardware.simulated import SimulatedMicroscope
from models.errors import DataError
from service.engine import microscope_slot
from service.engine.focus_control import FocusControl
from service.engine.lease import Lease, LeaseState
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.stage_jobs import StageJobs
from service.files.jobs import Jobs
from service.protocol.errors import EngineRefusal
from service.settings import load_settings
from tests.conftest import need
from tests.models.bead_sweeps import CAMERA
from tests.service.engine.sweep.test_acquisition import Slide
from tests.service.engine.sweep.test_sweep_run import in_the_middle, wait_for

FOUND = CameraSettings(0.001)
FOCUS_UM = 12.5
"""Of the slide."""


class CatchUp:
    paused = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1


class Events:
    def __init__(self) -> None:
        self.added: list[tuple[str, str]] = []

    def add(self, kind: str, message: str, *, run_id: str | None = None, details: Any = None) -> None:
        self.added.append((kind, message))


class Rig:
    """A microscope, its lease, and its autofocus."""

    def __init__(self, folder: Path, opened: LimitedMicroscope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(microscope_slot, "open_instrument", lambda settings: opened)
        settings = load_settings(command_line={"data_dir": folder}, environment={})
        self.microscope = opened
        self.lease, self.events, self.catch_up = Lease(), Events(), CatchUp()
        events: Any = self.events
        catch_up: Any = self.catch_up
        self.slot = MicroscopeSlot(settings, self.lease, events, threading.Event(), lambda: None)
        self.stage_jobs = StageJobs(settings, self.lease, self.slot, events, catch_up, lambda: None)
        self.focus = FocusControl(self.lease, self.slot, self.stage_jobs)
        self.jobs = Jobs(folder)
        self.slot.open(lambda microscope: None)
        assert self.stage_jobs.outcomes.write()

    def ended(self, job: str) -> Any:
        wait_for(lambda: self.jobs.get(job).is_over)
        assert self.catch_up.paused == 0
        return self.jobs.get(job)


def limited(limits: StageLimits) -> LimitedMicroscope:
    microscope = LimitedMicroscope(SimulatedMicroscope(Slide(), CAMERA, exposure_s=FOUND.exposure_s), limits)
    microscope.move_stage(2.0)
    microscope.set_light(shutter_open=False)
    return microscope


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path, limited(StageLimits(-40.0, 60.0, 15.0)), monkeypatch)
    yield rig
    rig.slot.close()


def assert_put_back(rig: Rig) -> None:
    assert rig.microscope.camera_settings == FOUND
    assert rig.microscope.light.shutter_open is False
    assert rig.lease.state is LeaseState.FREE


def test_the_drive_stays_in_the_focus_that_was_found(rig: Rig) -> None:
    job = rig.focus.start("beads", range_um=30.0, step_um=3.0, settle_s=0.0, exposure_s=0.002)["id"]
    after = rig.ended(job)
    assert (after.kind, after.state, after.step, after.result) == ("focus", "done", "sweep", f"jobs/{job}/result")
    assert rig.microscope.stage_um == pytest.approx(FOCUS_UM, abs=0.5)
    assert_put_back(rig)
    curve = json.loads((rig.jobs.folder(job) / "result" / "focus.json").read_text())
    assert curve["focus_um"] == rig.microscope.stage_um == rig.slot.facts["stage"]["stage_um"]
    assert (curve["start_um"], curve["focus_drive"]) == (2.0, "Simulated stage")
    assert curve["stage_um"] == sorted(curve["stage_um"])
    assert min(curve["stage_um"]) >= -28.0
    best = curve["sharpness"].index(max(curve["sharpness"]))
    assert abs(curve["stage_um"][best] - FOCUS_UM) < 1.0
    assert [kind for kind, _ in rig.events.added] == ["focus_started", "focus_found"]
    assert "found the focus at 12." in rig.events.added[1][1]


@pytest.mark.parametrize("percent", [5.0, 80.0], ids=["in the first search", "in the second search"])
def test_cancelled_it_brings_the_drive_back(rig: Rig, percent: float) -> None:
    job = rig.focus.start(settle_s=0.02, exposure_s=0.002)["id"]
    assert rig.lease.tenure.owner == {"kind": "focus", "id": job}
    with pytest.raises(EngineRefusal, match=f"Focus {job} is on and has the microscope") as refusal:
        rig.slot.move({"stage_um": 1.0})
    assert f"DELETE /jobs/{job}" in refusal.value.remedy
    wait_for(lambda: in_the_middle(rig.jobs, rig.jobs.get(job), percent))
    rig.jobs.cancel(job)
    after = rig.ended(job)
    assert (after.state, after.error, after.result) == ("cancelled", None, None)
    assert rig.microscope.stage_um == 2.0
    assert_put_back(rig)


def test_after_a_stop_nothing_moves(rig: Rig) -> None:
    job = rig.focus.start(settle_s=0.02)["id"]
    wait_for(lambda: in_the_middle(rig.jobs, rig.jobs.get(job), 20.0))
    sweep = rig.lease.sweep
    assert sweep is not None
    sweep.halt()
    after = rig.ended(job)
    assert after.state == "cancelled"
    assert "Before the autofocus it was at 2.00 µm" in after.error.problem
    assert rig.microscope.stage_um != 2.0
    assert_put_back(rig)


def test_an_engine_that_ends_puts_everything_back(rig: Rig) -> None:
    job = rig.focus.start(settle_s=0.02)["id"]
    wait_for(lambda: in_the_middle(rig.jobs, rig.jobs.get(job), 20.0))
    rig.stage_jobs.end()
    after = rig.ended(job)
    assert (after.state, after.error.problem) == (
        "interrupted",
        "The service ended during the autofocus; the stage was put back.",
    )
    assert rig.microscope.stage_um == 2.0


def test_a_field_without_focus_fails_and_the_drive_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, limited(StageLimits(-40.0, 4.0, 15.0)), monkeypatch)
    after = rig.ended(rig.focus.start(settle_s=0.0)["id"])
    assert after.state == "failed"
    assert "No focus was found from -40 to 4 µm" in after.error.problem
    assert rig.microscope.stage_um == 2.0
    assert_put_back(rig)
    assert rig.events.added[-1][0] == "focus_failed"
    rig.slot.close()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"range_um": 1.0, "step_um": 1.0}, "has 3 positions; it has 5 to 1000"),
        ({"range_um": 5000.0, "step_um": 0.1}, "has 100001 positions"),
        ({"range_um": -1.0}, "range of the search for focus is -1"),
        ({"step_um": float("nan")}, "step of the sweep is nan"),
        ({"settle_s": 1e9}, "wait after each move"),
        ({"exposure_s": 1e-300}, "exposure is 1e-300"),
    ],
)
def test_no_search_of_nonsense(rig: Rig, wanted: dict[str, float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        rig.focus.start(**wanted)  # type: ignore[arg-type]
    assert rig.jobs.page(10).items == []


def test_without_a_free_drive_it_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = rig.microscope.inner
    with monkeypatch.context() as patch:
        patch.setattr(type(driver), "continuous_focus", True)
        with pytest.raises(EngineRefusal, match="Continuous focus is on") as refusal:
            rig.focus.start()
        assert refusal.value.kind == "conflict"
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_description", replace(driver.description, focus_stage=None))
        with pytest.raises(EngineRefusal, match="has no focus drive"):
            rig.focus.start()
    assert rig.lease.state is LeaseState.FREE


def test_democamera_finds_its_beads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mm_test_adapters")
    from hardware.core_session import democamera_installation
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    adapters, configuration = democamera_installation()
    beads = {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BitDepth": "16", "BeadDensity": "10"}
    inner = MicroManagerMicroscope(
        MicroManagerSettings(app_path=adapters, config_file=configuration, buffer_mb=32, properties={"Camera": beads})
    )
    scope = LimitedMicroscope(inner, StageLimits(-30.0, 30.0, 20.0))
    scope.apply_camera(CameraSettings(0.005))
    scope.move_stage(6.0)
    rig = Rig(tmp_path, scope, monkeypatch)
    try:
        after = rig.ended(rig.focus.start(range_um=20.0, step_um=2.0, settle_s=0.0)["id"])
        assert after.state == "done", after.error
        assert scope.stage_um == pytest.approx(0.0, abs=0.5)  # its beads are sharpest at 0
        scope.move_stage(6.0)
        job = rig.focus.start(range_um=20.0, step_um=0.1, settle_s=0.0)["id"]
        wait_for(lambda: in_the_middle(rig.jobs, rig.jobs.get(job), 3.0))
        rig.jobs.cancel(job)
        assert rig.ended(job).state == "cancelled"
        assert scope.stage_um == pytest.approx(6.0)
    finally:
        rig.slot.close()
