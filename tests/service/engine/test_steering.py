"""Control of stages and light: one client at a time, within the limits, also during a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware.microscope import MicroscopeError
from service.engine import steering as steering_module
from service.engine.lease import Lease, LeaseState
from service.engine.live_control import LiveControl
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.steering import Steering
from service.engine.stop_command import StopCommand
from service.protocol.errors import EngineRefusal
from service.settings import load_settings


class Events:
    def __init__(self) -> None:
        self.added: list[tuple[str, dict[str, Any]]] = []

    def add(self, kind: str, message: str, *, run_id: str | None = None, details: Any = None) -> None:
        self.added.append((kind, details))


class Rig:
    """A microscope, its lease, and who steers it."""

    def __init__(self, folder: Path) -> None:
        simulated = {"height": 32, "width": 32, "emitters": 1}
        limits = {"xy_low_um": [-50, -50], "xy_high_um": [50, 50], "stage_low_um": -20, "stage_high_um": 20}
        settings = load_settings(
            command_line={"data_dir": folder, "microscope": {"simulated": simulated, **limits}}, environment={}
        )
        self.lease, self.events = Lease(), Events()
        self.slot = MicroscopeSlot(settings, self.lease, self.events, threading.Event(), lambda: None)  # type: ignore[arg-type]
        self.steering = Steering(self.lease, self.slot, self.events, lambda: None)  # type: ignore[arg-type]
        self.slot.open(lambda microscope: None)

    @property
    def place(self) -> tuple[float, ...]:
        assert self.slot.microscope is not None
        return (self.slot.microscope.stage_um, *self.slot.microscope.xy_um)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.slot.close()


def test_one_client_has_control_and_others_are_told_who(rig: Rig) -> None:
    assert rig.steering.begin("a", "follow.py")["stage"]["x_limits"]["high_um"] == 50
    for refused in (
        lambda: rig.steering.begin("b", "other.py"),
        lambda: rig.slot.move({"stage_um": 1.0}),
        lambda: rig.slot.set({"exposure_s": 0.01}),
    ):
        with pytest.raises(EngineRefusal, match=r"follow\.py has control") as refusal:
            refused()
        assert refusal.value.kind == "conflict"
    with pytest.raises(EngineRefusal, match="no control any more"):
        rig.steering.change("b", stage_um=1.0)
    rig.steering.end("b")  # not its own
    rig.steering.end("a")
    rig.slot.move({"stage_um": 1.0, "x_um": 2.0})
    assert rig.place == (1.0, 2.0, 0.0)
    rig.steering.report()
    assert [kind for kind, _ in rig.events.added] == ["control_begun", "stage_moved", "control_ended"]
    asked = rig.events.added[1][1]
    assert (asked["from"]["x_um"], asked["to"]["x_um"]) == (0.0, 2.0)


def test_moves_are_absolute_or_relative_and_stamped_by_the_clock_of_the_frames(rig: Rig) -> None:
    rig.steering.begin("a", "follow.py")
    before_s = time.monotonic()
    answer = rig.steering.change("a", stage_um=5.0, x_by_um=3.0, y_um=-4.0)
    assert before_s <= answer["commanded_s"] <= time.monotonic()
    assert rig.place == (5.0, 3.0, -4.0)
    rig.steering.change("a", by_um=-1.5, x_by_um=3.0)
    assert rig.place == (3.5, 6.0, -4.0)
    assert rig.steering.change("a", shutter_open=False)["light"]["shutter_open"] is False


@pytest.mark.parametrize(
    "wanted", [{"x_um": 51.0}, {"x_um": 1.0, "stage_um": 21.0}, {"y_by_um": -50.1}, {"by_um": 21.0}]
)
def test_a_move_beyond_a_limit_moves_nothing(rig: Rig, wanted: dict[str, float]) -> None:
    rig.steering.begin("a", "follow.py")
    with pytest.raises(MicroscopeError, match="soft limits") as refusal:
        rig.steering.change("a", **wanted)
    assert refusal.value.cause == "stage_limit"
    assert rig.place == (0.0, 0.0, 0.0)


def test_control_goes_on_during_a_run_and_not_beside_a_sweep(rig: Rig) -> None:
    rig.lease.become(LeaseState.RUN)
    rig.steering.begin("a", "follow.py")
    rig.steering.change("a", by_um=1.0)
    assert rig.place == (1.0, 0.0, 0.0)
    rig.lease.become(LeaseState.FREE)
    rig.steering.change("a", by_um=1.0)
    rig.steering.end("a")
    sweep: Any = type("Sweep", (), {"id": "s1", "kind": "calibration"})()
    rig.lease.become(LeaseState.SWEEP, sweep=sweep)
    with pytest.raises(EngineRefusal, match="Calibration s1 is on"):
        rig.steering.begin("a", "follow.py")
    rig.lease.become(LeaseState.FREE)


def test_a_client_without_a_sign_of_life_loses_control(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.steering.begin("a", "follow.py")
    rig.steering.change("a", by_um=1.0)
    monkeypatch.setattr(steering_module, "_LAPSE_S", 0.05)
    rig.steering.renew("a")
    time.sleep(0.1)
    assert rig.steering.controller() is None
    with pytest.raises(EngineRefusal, match="no control any more"):
        rig.steering.renew("a")
    rig.steering.report()
    kind, details = rig.events.added[-1]
    assert (kind, details["commands"]) == ("control_ended", 1)


def test_the_stop_takes_control_away(rig: Rig) -> None:
    rig.steering.begin("a", "follow.py")
    live = LiveControl(rig.lease, rig.slot, None, rig.events)  # type: ignore[arg-type]
    stop = StopCommand(rig.lease, rig.slot, rig.steering, live)
    assert stop("microscope.stop", {})["confirmed"]
    with pytest.raises(EngineRefusal, match="the microscope was stopped"):
        rig.steering.change("a", by_um=1.0)
    assert rig.place == (0.0, 0.0, 0.0)


def test_a_move_that_stops_on_its_way_is_an_event_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = rig.slot.microscope.inner  # type: ignore[union-attr]
    move = driver.move_stage

    def stuck(stage_um: float) -> float:
        move(stage_um / 2)
        raise MicroscopeError("not_arrived", "It stands elsewhere.", "Check it.")

    monkeypatch.setattr(driver, "move_stage", stuck)
    with pytest.raises(MicroscopeError, match="stands elsewhere"):
        rig.slot.move({"stage_um": 8.0})
    kind, details = rig.events.added[-1]
    assert (kind, details["to"]["stage_um"]) == ("stage_moved", 4.0)
