from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.limits import LimitedMicroscope, check_limits, check_move
from hardware.microscope import CameraSettings, Microscope, MicroscopeError, Roi, StageLimits, XYLimits
from hardware.simulated import SimulatedMicroscope

if TYPE_CHECKING:
    from tests.hardware.conftest import PlainDetector, PlainScene

LIMITS = StageLimits(-50.0, 100.0, 30.0)
anything = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6)


@pytest.fixture
def microscope(scene: PlainScene, detector: PlainDetector) -> Iterator[LimitedMicroscope]:
    limited = LimitedMicroscope(SimulatedMicroscope(scene, detector, exposure_s=0.001), LIMITS)
    yield limited
    limited.close()


@given(target=anything, position=finite)
def test_only_what_is_within_limits_and_step_passes(target: float, position: float) -> None:
    allowed = (
        math.isfinite(target)
        and LIMITS.low_um - 1e-6 <= target <= LIMITS.high_um + 1e-6
        and abs(target - position) <= LIMITS.max_step_um + 1e-6
    )
    if allowed:
        assert check_move(target, position, LIMITS) == target
    else:
        with pytest.raises(MicroscopeError) as refusal:
            check_move(target, position, LIMITS)
        assert refusal.value.cause == "stage_limit"
        assert "Nothing was moved." in refusal.value.remedy


@given(target=anything)
def test_a_position_that_is_no_number_forbids_every_move(target: float) -> None:
    with pytest.raises(MicroscopeError, match="µm"):
        check_move(target, math.nan, LIMITS)


@given(low=anything, high=anything, step=anything)
def test_limits_must_make_sense(low: float, high: float, step: float) -> None:
    limits = StageLimits(low, high, step)
    if all(map(math.isfinite, (low, high, step))) and low < high and step > 0:
        assert check_limits(limits) is limits
    else:
        with pytest.raises(MicroscopeError, match="finite, the first below the second"):
            check_limits(limits)


@pytest.mark.parametrize("target", [math.nan, math.inf, -math.inf, 100.1, -50.1, 31.0])
def test_a_refused_move_moves_nothing(microscope: LimitedMicroscope, target: float) -> None:
    with pytest.raises(MicroscopeError, match="asked to go to") as refusal:
        microscope.move_stage(target)
    assert str(target).rstrip("0").rstrip(".") in refusal.value.problem
    assert microscope.stage_um == 0.0


def test_steps_lead_where_one_leap_does_not(microscope: LimitedMicroscope) -> None:
    assert [microscope.move_stage(target) for target in (30, 60, 90, 100)] == [30, 60, 90, 100]
    assert microscope.stage_um == 100
    assert microscope.stage_limits == LIMITS


def test_a_move_back_from_beyond_the_limits_is_allowed(microscope: LimitedMicroscope) -> None:
    microscope.inner.move_stage(120.0)
    assert microscope.move_stage(95.0) == 95.0


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings(math.nan),
        CameraSettings(math.inf),
        CameraSettings(0.0),
        CameraSettings(-1.0),
        CameraSettings(0.01, binning=0),
        CameraSettings(0.01, Roi(-1, 0, 8, 8)),
        CameraSettings(0.01, Roi(0, 0, 0, 8)),
    ],
)
def test_camera_settings_that_no_camera_has_are_refused(
    microscope: LimitedMicroscope, settings: CameraSettings
) -> None:
    before = microscope.camera_settings
    with pytest.raises(MicroscopeError, match="was asked to"):
        microscope.apply_camera(settings)
    assert microscope.camera_settings == before


def test_it_is_a_microscope_in_every_part(microscope: LimitedMicroscope) -> None:
    assert isinstance(microscope, Microscope)
    assert microscope.description.driver == "simulated"
    assert microscope.apply_camera(CameraSettings(0.002)) == CameraSettings(0.002)
    assert microscope.snap().pixels.shape == (32, 48)
    microscope.start_sequence()
    assert microscope.is_running
    assert microscope.next_frame(5.0).index == 0
    microscope.stop_sequence()
    assert microscope.light.shutter_open
    assert not microscope.set_light(shutter_open=False).shutter_open
    assert microscope.stop()


def test_the_only_drive_is_chosen_already(microscope: LimitedMicroscope) -> None:
    microscope.choose_focus_drive("Simulated stage")
    assert microscope.focus_drives == {"Simulated stage": LIMITS}
    with pytest.raises(MicroscopeError, match="drive Z was asked for; the simulated microscope has Simulated stage"):
        microscope.choose_focus_drive("Z")
    assert microscope.stage_limits == LIMITS


def test_errors_cross_process_boundaries_whole() -> None:
    error = pickle.loads(pickle.dumps(MicroscopeError("stage_limit", "Too far.", "Go back.")))
    assert (error.cause, error.problem, error.remedy) == ("stage_limit", "Too far.", "Go back.")


XY = XYLimits(StageLimits(-100.0, 100.0, 80.0), StageLimits(0.0, 50.0, 20.0))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ((101.0, 0.0), "in x was asked to go to 101 µm"),
        ((0.0, -1.0), "in y was asked to go to -1 µm; its soft limits are 0 to 50 µm"),
        ((90.0, 0.0), "in x is at 0 µm .* a step of 90 µm"),
        ((0.0, math.nan), "in y was asked to go to nan µm"),
    ],
)
def test_both_axes_of_the_xy_stage_are_limited(
    scene: PlainScene, detector: PlainDetector, target: tuple[float, float], says: str
) -> None:
    limited = LimitedMicroscope(SimulatedMicroscope(scene, detector, exposure_s=0.001), LIMITS, XY)
    with pytest.raises(MicroscopeError, match=says) as refusal:
        limited.move_xy(*target)
    assert refusal.value.cause == "stage_limit"
    assert limited.xy_um == (0.0, 0.0)
    assert limited.move_xy(70.0, 15.0) == limited.xy_um == (70.0, 15.0)
    assert limited.xy_limits == XY


def test_an_xy_stage_without_limits_is_not_moved(microscope: LimitedMicroscope) -> None:
    with pytest.raises(MicroscopeError, match="limits are not set"):
        microscope.move_xy(0.0, 0.0)
    with pytest.raises(MicroscopeError, match="finite, the first below the second"):
        LimitedMicroscope(microscope.inner, LIMITS, XYLimits(LIMITS, StageLimits(1.0, 0.0, 1.0)))
