"""Sequences of useq-schema: what becomes a run or a sweep, and why others are refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from models.errors import DataError
from service.sequences import FocalStack, TimeSeries, check_channel, read_sequence
from tests.conftest import need

SERIES = {"time_plan": {"interval": 0.01, "loops": 500}}
STACK = {"z_plan": {"range": 40, "step": 1}}


@pytest.fixture(autouse=True)
def useq() -> Any:
    return need("useq")


@pytest.mark.parametrize(
    ("plan", "frames", "interval_s"),
    [
        ({"interval": 0.01, "loops": 500}, 500, 0.01),
        ({"interval": {"milliseconds": 20}, "loops": 3}, 3, 0.02),
        ({"interval": 0.01, "duration": 5}, 501, 0.01),
        ({"duration": 4.99, "loops": 500}, 500, 0.01),
        ({"interval": 0, "loops": 10}, 10, 0.0),
    ],
)
def test_a_time_series(plan: dict[str, Any], frames: int, interval_s: float, useq: Any) -> None:
    found = read_sequence(json.dumps({"time_plan": plan}))
    assert found == TimeSeries(frames, pytest.approx(interval_s), None, None)
    assert isinstance(found, TimeSeries)
    # useq-schema itself plans the same number of frames.
    assert useq.MDASequence(time_plan=plan).sizes["t"] == frames


@pytest.mark.parametrize(
    ("plan", "z_range_um", "z_step_um"),
    [
        ({"range": 40, "step": 1}, (-20, 20), 1),
        ({"above": 40, "below": 8, "step": 0.5}, (-8, 40), 0.5),
        ({"relative": [0, 0.5, 1, 1.5]}, (0, 1.5), 0.5),
    ],
)
def test_a_focal_stack(plan: dict[str, Any], z_range_um: tuple[float, float], z_step_um: float, useq: Any) -> None:
    found = read_sequence(json.dumps({"z_plan": plan, "channels": [{"config": "GFP", "exposure": 20}]}))
    assert found == FocalStack(z_range_um, z_step_um, 0.02, "GFP")
    planned = list(useq.MDASequence(z_plan=plan).z_plan)
    assert (min(planned), max(planned)) == z_range_um


def test_what_useq_schema_writes_is_read(useq: Any) -> None:
    sequence = useq.MDASequence(**STACK, channels=["GFP"])
    for text in (sequence.model_dump_json(exclude_unset=True), sequence.model_dump_json(), sequence.yaml()):
        assert read_sequence(text) == FocalStack((-20, 20), 1, None, "GFP")


@pytest.mark.parametrize(
    ("sequence", "what"),
    [
        ({}, "neither a time_plan nor a z_plan"),
        ({**SERIES, **STACK}, "time series of focal stacks"),
        ({**SERIES, "stage_positions": [{"x": 1, "y": 2}]}, "positions of the stage"),
        ({**SERIES, "grid_plan": {"rows": 2, "columns": 2}}, "grid of positions"),
        (
            {**STACK, "autofocus_plan": {"autofocus_motor_offset": 5, "axes": ["p"]}},
            "autofocus at its events",
        ),
        ({**SERIES, "setup": {"exposure": 5}}, "setup event"),
        ({**SERIES, "channels": ["GFP", "RFP"]}, r"2 channels \(GFP, RFP\)"),
        ({**SERIES, "channels": [{"config": "GFP", "acquire_every": 2}]}, "options of the channel 'GFP'"),
        ({**STACK, "channels": [{"config": "GFP", "z_offset": 2}]}, "options of the channel 'GFP'"),
        ({"time_plan": [{"interval": 1, "loops": 2}, {"interval": 2, "loops": 2}]}, "several phases"),
        ({"time_plan": {"interval": 0, "duration": 2}}, "a duration without an interval"),
        ({"z_plan": {"top": 40, "bottom": 0, "step": 1}}, "absolute positions"),
        ({"z_plan": {"absolute": [1, 2, 3]}}, "absolute positions"),
        ({"z_plan": {"range": 40, "step": 1, "go_up": False}}, "goes down"),
        ({"z_plan": {"relative": [0, 1, 3]}}, "even steps"),
        ({"z_plan": {"relative": [2, 1, 0]}}, "even steps"),
        ({"z_plan": {"relative": [0]}}, "even steps"),
    ],
)
def test_what_is_not_run(sequence: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=f"{what}.*it is not run") as refusal:
        read_sequence(json.dumps(sequence))
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is NoneType"),
        ("[1]", "it is list"),
        ("a: [1", "neither JSON nor YAML"),
        ("[" * 5000, "neither JSON nor YAML"),
        ("a: &x [1]\nb: *x", "aliases of YAML"),
        ("!!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
        (json.dumps({**SERIES, "bogus": 1}), "has the field 'bogus'"),
        (json.dumps({"time_plan": {"interval": 1, "loops": 3, "duration": 9}}), "has the field 'loops'"),
        (json.dumps({"z_plan": {"range": 4, "step": 1, "above": 3}}), "has the field 'above'"),
        (json.dumps({**SERIES, "channels": [{"config": "GFP", "colour": 3}]}), "has the field 'colour'"),
        (json.dumps({"time_plan": {"interval": 1e300, "loops": 3}}), "time_plan"),
        (json.dumps({"time_plan": {"interval": -1, "loops": 3}}), "3 frames every -1 s"),
        (json.dumps({**SERIES, "channels": [{"config": "GFP", "exposure": -3}]}), "exposure"),
    ],
)
def test_texts_that_are_no_sequence(text: str, reason: str) -> None:
    with pytest.raises(DataError, match="This is no sequence of useq-schema") as refusal:
        read_sequence(text)
    assert reason in refusal.value.problem


def test_a_run_has_the_rate_and_exposure_of_the_camera() -> None:
    assert TimeSeries(500, 0.01, 0.01, None).duration_s(0.0101, 0.01) == pytest.approx(5.05)
    assert TimeSeries(500, 0.0, None, None).duration_s(0.02, 0.02) == 10
    with pytest.raises(DataError, match=r"a frame every 0.02 s, and the camera is set to one every 0.01 s"):
        TimeSeries(500, 0.02, None, None).duration_s(0.01, 0.01)
    with pytest.raises(DataError, match=r"exposes 0.005 s, and the camera is set to 0.01 s"):
        TimeSeries(500, 0.0, 0.005, None).duration_s(0.01, 0.01)
    with pytest.raises(DataError, match=r"which take 1e\+08 s; a run takes 0.01 s to 30 days"):
        TimeSeries(10**10, 0.0, None, None).duration_s(0.01, 0.01)


def test_the_channel_is_the_one_that_is_on() -> None:
    light = {"channel": "GFP", "channels": ["GFP", "RFP"]}
    check_channel(None, light)
    check_channel("GFP", light)
    with pytest.raises(DataError, match="'RFP', and 'GFP' is on"):
        check_channel("RFP", light)
    with pytest.raises(DataError, match="the microscope has none"):
        check_channel("GFP", {"channel": None, "channels": []})


@pytest.mark.parametrize(("module", "package"), [("useq", "useq-schema"), ("yaml", "PyYAML")])
def test_a_package_that_is_not_installed(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: Any = None
    monkeypatch.setitem(sys.modules, module, blocked)
    with pytest.raises(DataError, match=f"the package {package}") as refusal:
        read_sequence("z_plan: {range: 4, step: 1}")
    assert "pip install 'bathyscope[useq]'" in refusal.value.remedy
