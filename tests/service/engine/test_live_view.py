"""The camera view without a run: it shows frames and gives way; simulated, and the real DemoCamera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware.core_session import democamera_installation
from hardware.limits import LimitedMicroscope
from hardware.microscope import MicroscopeError, StageLimits
from hardware.simulated import SimulatedMicroscope
from service.engine import microscope_slot
from service.engine.lease import Lease, LeaseState
from service.engine.live_control import LiveControl
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.run import RunOutputs
from service.engine.steering import Steering
from service.engine.stop_command import StopCommand
from service.protocol import wire
from service.protocol.errors import EngineRefusal
from service.settings import Settings, load_settings
from tests.conftest import need
from tests.service.engine_samples import DotScene, dot_camera


class Sent:
    """What was published, in place of the socket."""

    def __init__(self) -> None:
        self.previews: list[tuple[float, dict[str, Any], Any]] = []

    def send(self, topic: str, message: bytes) -> None:
        assert topic == "preview"
        _, header, columns = wire.decode(message)
        self.previews.append((time.monotonic(), header, columns["pixels"]))


class Events:
    def __init__(self) -> None:
        self.added: list[tuple[str, str]] = []

    def add(self, kind: str, message: str, *, run_id: str | None = None, details: Any = None) -> None:
        self.added.append((kind, message))


class Rig:
    """A microscope, its lease, and its camera view."""

    def __init__(self, folder: Path, microscope: dict[str, Any], camera: dict[str, Any]) -> None:
        settings = load_settings(
            command_line={"data_dir": folder, "microscope": microscope, "camera": camera}, environment={}
        )
        self.lease, self.events, self.sent = Lease(), Events(), Sent()
        self.slot = MicroscopeSlot(settings, self.lease, self.events, threading.Event(), lambda: None)  # type: ignore[arg-type]
        outputs: Any = RunOutputs(None, self.sent, "e1")  # type: ignore[arg-type]
        self.live = LiveControl(self.lease, self.slot, outputs, self.events)  # type: ignore[arg-type]
        self.steering = Steering(self.lease, self.slot, self.events, lambda: None)  # type: ignore[arg-type]
        self.slot.open(lambda microscope: None)

    @property
    def camera_runs(self) -> bool:
        assert self.slot.microscope is not None
        return self.slot.microscope.is_running

    def close(self) -> None:
        self.live.end()
        self.slot.close()


def simulated() -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"exposure_s": 0.01}


def dot_microscope(settings: Settings) -> LimitedMicroscope:
    """The simulated microscope in front of a scene that is drawn at once."""
    inner = SimulatedMicroscope(DotScene(), dot_camera(), exposure_s=settings.camera.exposure_s)
    return LimitedMicroscope(inner, StageLimits(-150.0, 150.0, 100.0))


def democamera() -> tuple[dict[str, Any], dict[str, Any]]:
    need("mm_test_adapters")
    app_path, config_file = democamera_installation()
    own = {"app_path": app_path, "config_file": config_file, "buffer_mb": 32}
    own["properties"] = {"Camera": {"Mode": "Fluorescent Beads", "PixelType": "16bit"}}
    return {"driver": "micromanager", "micromanager": own}, {"exposure_s": 0.02, "roi": [0, 0, 128, 96]}


@pytest.fixture(params=[simulated, democamera])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    if request.param is simulated:
        monkeypatch.setattr(microscope_slot, "open_instrument", dot_microscope)
    rig = Rig(tmp_path, *request.param())
    yield rig
    rig.close()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with monkeypatch.context() as patch:
        patch.setattr(microscope_slot, "open_instrument", dot_microscope)
        rig = Rig(tmp_path, *simulated())
        yield rig
        rig.close()


def wait_for(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_frames_are_shown_at_ten_a_second_until_it_is_switched_off(rig: Rig) -> None:
    rig.live.switch(True)
    assert rig.lease.state is LeaseState.LIVE
    wait_for(lambda: len(rig.sent.previews) >= 6)
    rig.live.switch(False)
    assert rig.lease.state is LeaseState.FREE
    assert not rig.camera_runs
    times = [time_s for time_s, _, _ in rig.sent.previews]
    assert times[5] - times[1] > 0.3  # the time of a message varies by what else the computer does
    _, header, pixels = rig.sent.previews[3]
    assert (header["epoch"], header["run"], header["sequence"]) == ("e1", None, 3)
    assert header["width"] * header["height"] == len(pixels)
    assert sum(header["histogram"]["pixels"]) > 1000
    assert header["saturated"] == 0
    time.sleep(0.3)
    shown = len(rig.sent.previews)
    time.sleep(0.3)
    assert len(rig.sent.previews) == shown
    rig.live.switch(False)  # it is off already
    rig.live.switch(True, 0.2)
    wait_for(lambda: rig.lease.state is LeaseState.FREE)
    assert rig.events.added == []


def test_whoever_needs_the_microscope_gets_it(rig: Rig) -> None:
    rig.live.switch(True)
    wait_for(lambda: rig.sent.previews)
    with rig.lease.held():
        microscope = rig.slot.free_microscope()  # as a run and a sweep do
        assert rig.lease.state is LeaseState.FREE
        assert not microscope.is_running
        assert microscope.snap().pixels.any()


def test_a_frame_and_camera_settings_pause_it_and_stages_do_not(rig: Rig) -> None:
    rig.live.switch(True, 60.0)
    view = rig.lease.tenure.live
    wait_for(lambda: rig.sent.previews)
    rig.slot.move({"stage_um": 5.0})
    rig.slot.set({"shutter_open": True})
    assert rig.lease.tenure.live is view
    assert rig.slot.facts["stage"]["stage_um"] == 5.0
    with rig.live.paused():
        assert rig.slot.snap().pixels.any()
    with rig.live.paused():
        rig.slot.set({"exposure_s": 0.03})
    again = rig.lease.tenure.live
    assert again is not None
    assert again is not view
    assert view is not None
    assert again.end_s == view.end_s
    wait_for(lambda: again.frame_age_s is not None and again.frame_age_s < 1)
    rig.slot.move({"stage_um": 0.0})


def test_properties_and_presets_of_the_real_core(tmp_path: Path) -> None:
    rig = Rig(tmp_path, *democamera())
    try:
        assert {group["name"]: group["current"] for group in rig.slot.facts["presets"]}["Channel"] == "DAPI"
        rig.slot.set({"preset": {"group": "Channel", "name": "FITC"}})
        assert {group["name"]: group["current"] for group in rig.slot.facts["presets"]}["Channel"] == "FITC"
        assert rig.slot.facts["light"]["channel"] == "FITC"
        assert list(rig.slot.facts["stage"]["focus_drives"]) == ["Z"]
        assert rig.slot.facts["stage"]["focus_drives"]["Z"] == rig.slot.facts["stage"]["limits"]
        rig.slot.set({"focus_drive": "Z"})
        with pytest.raises(MicroscopeError, match="focus drive XY was asked for; the configuration has Z"):
            rig.slot.set({"focus_drive": "XY"})
        with pytest.raises(EngineRefusal, match="Give it alone"):
            rig.slot.set({"preset": {"group": "Channel", "name": "DAPI"}, "exposure_s": 0.01})
        rig.live.switch(True)
        by_id = {each["id"]: each for each in rig.slot.properties("Camera")}
        assert by_id["Camera/Gain"]["limits"] == [-5.0, 8.0]
        assert by_id["Camera/Gain"]["not_settable"] is None
        assert by_id["Camera/CameraID"]["not_settable"] == "it is read only"
        assert "past its soft limits" in rig.slot.properties("Z")[-1]["not_settable"]
        with rig.live.paused():
            assert rig.slot.set_property("Camera", "Gain", "2")["value"] == "2"
        assert rig.lease.state is LeaseState.LIVE
        assert rig.events.added[-1] == ("property_set", "Gain of Camera is 2.")
        with pytest.raises(MicroscopeError, match="past its soft limits"):
            rig.slot.set_property("Z", "Position", "9")
        rig.steering.begin("a", "follow.py")
        with pytest.raises(EngineRefusal, match="has control"):
            rig.slot.set_property("Camera", "Gain", "1")
        rig.steering.end("a")
    finally:
        rig.close()


def test_a_script_has_control_beside_it(small: Rig) -> None:
    small.live.switch(True)
    small.steering.begin("a", "follow.py")
    small.steering.change("a", by_um=1.0)
    assert small.lease.state is LeaseState.LIVE
    small.steering.end("a")
    small.live.switch(True)  # it stays as it is


def test_the_stop_ends_it_also_while_it_is_paused(rig: Rig) -> None:
    stop = StopCommand(rig.lease, rig.slot, rig.steering, rig.live)
    rig.live.switch(True)
    assert stop("microscope.stop", {})["confirmed"]
    assert rig.lease.state is LeaseState.FREE
    rig.live.switch(True)
    with rig.live.paused():
        assert stop("microscope.stop", {})["confirmed"]
    assert rig.lease.state is LeaseState.FREE


def test_an_owner_is_not_disturbed(small: Rig) -> None:
    run: Any = type("Run", (), {"id": "r1"})()
    small.lease.become(LeaseState.RUN, run=run)
    for on in (True, False):
        if on:
            with pytest.raises(EngineRefusal, match="Run r1 is on") as refusal:
                small.live.switch(on)
            assert refusal.value.kind == "conflict"
        else:
            small.live.switch(on)
    small.lease.become(LeaseState.FREE)


def test_a_camera_that_fails_ends_it_with_an_event_and_is_opened_again(small: Rig) -> None:
    small.live.switch(True)
    driver: Any = small.slot.microscope.inner  # type: ignore[union-attr]

    def gone(timeout_s: float) -> None:
        raise MicroscopeError("camera_stopped", "The cable is out.", "Plug it in.")

    driver.next_frame = gone
    wait_for(lambda: small.lease.state is LeaseState.AWAY)
    assert [kind for kind, _ in small.events.added] == ["live_view_failed", "microscope_away"]
    assert "cable is out" in small.events.added[0][1]
    with pytest.raises(EngineRefusal, match="cable is out"):
        small.live.switch(True)
    small.slot.open(lambda microscope: None)
    small.live.switch(True)
    wait_for(lambda: small.lease.state is LeaseState.LIVE)


def test_a_camera_that_does_not_start_leaves_it_off(small: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = small.slot.microscope.inner  # type: ignore[union-attr]

    def refuse() -> None:
        raise MicroscopeError("settings", "The trigger is not set.", "Set it.")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "start_sequence", refuse)
        with pytest.raises(MicroscopeError, match="trigger is not set"):
            small.live.switch(True)
    assert small.lease.state is LeaseState.FREE
    small.live.switch(True)
    monkeypatch.setattr(driver, "start_sequence", refuse)
    with small.live.paused():
        pass
    assert small.events.added[-1][0] == "microscope_trouble"
    assert small.lease.state is LeaseState.FREE


def test_a_camera_that_does_not_stop_refuses_the_others(small: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.microscope_slot._LIVE_PATIENCE_S", 0.0)
    small.live.switch(True)
    driver = small.slot.microscope.inner  # type: ignore[union-attr]
    stop, may_stop = driver.stop_sequence, threading.Event()

    def slow() -> None:
        may_stop.wait(30)
        stop()

    monkeypatch.setattr(driver, "stop_sequence", slow)
    with pytest.raises(EngineRefusal, match="has not ended yet"):
        small.slot.snap()
    may_stop.set()
    wait_for(lambda: small.lease.state is LeaseState.FREE)
