"""A live sweep finds focus, stays within limits, and leaves the microscope as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, Frame, MicroscopeDescription, MicroscopeError, StageLimits
from hardware.simulated import SimulatedMicroscope
from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.commands.live_sweep import take_sweep
from service.engine.sweep.acquisition import _positions, sweep_stage
from service.engine.sweep.focus import find_focus
from service.engine.sweep.geometry import axis_of
from service.engine.sweep.request import SweepRequest, SweepSize
from service.engine.sweep.restore import StageHalted, left_as_found
from service.settings import load_settings
from tests.models.bead_sweeps import CAMERA, pattern


class Slide:
    """Four beads on a slide that is in focus at 12.5 µm."""

    shape = (64, 64)
    pixel_size_um = 1.0
    focus_um = 12.5

    def render(
        self, time_s: float, exposure_s: float, stage_um: float, xy_um: tuple[float, float]
    ) -> NDArray[np.float32]:
        rows, columns = np.indices(self.shape)
        image = np.full(self.shape, 20.0)
        for x, y in ((16, 16), (48, 16), (16, 48), (48, 48)):
            image += 30_000 * pattern(columns - x, rows - y, stage_um - self.focus_um)
        return image.astype(np.float32)

    def truth(self, time_s: float, stage_um: float, xy_um: tuple[float, float]) -> NDArray[np.float64]:
        return np.empty((0, 4))


class Exposures:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.size: SweepSize | None = None
        self.frames: list[NDArray[np.uint16]] = []

    def begin(self, size: SweepSize) -> None:
        self.size = size

    def add(self, pixels: NDArray[np.uint16]) -> None:
        self.frames.append(pixels)


def microscope(limits: StageLimits = StageLimits(-40.0, 60.0, 15.0)) -> LimitedMicroscope:  # noqa: B008  frozen
    return LimitedMicroscope(SimulatedMicroscope(Slide(), CAMERA, exposure_s=0.001), limits)


def test_focus_is_found_within_the_limits_and_steps() -> None:
    with_limits = microscope()
    try:
        assert find_focus(with_limits, 0.0) == pytest.approx(12.5, abs=0.5)  # one step of the fine search
    finally:
        with_limits.close()


def test_search_beside_the_focus_is_refused() -> None:
    away = microscope(StageLimits(-40.0, 4.0, 15.0))
    try:
        with pytest.raises(DataError, match="No focus was found"):
            find_focus(away, 0.0)
    finally:
        away.close()


def test_search_without_room_is_refused() -> None:
    stuck = microscope(StageLimits(-2.0, 2.0, 15.0))
    try:
        with pytest.raises(DataError, match="may move only from"):
            find_focus(stuck, 0.0)
    finally:
        stuck.close()


def test_sweep_has_planes_repeats_and_positions() -> None:
    opened = microscope()
    try:
        exposures = Exposures()
        reached = sweep_stage(opened, np.arange(0.0, 9.0), 2, 0.0, exposures)
    finally:
        opened.close()
    assert exposures.size == SweepSize(9, 2, (64, 64))
    assert len(exposures.frames) == 18
    assert reached == pytest.approx(np.arange(0.0, 9.0))


def test_sweep_beyond_the_limits_moves_nothing() -> None:
    opened = microscope()
    try:
        opened.move_stage(3.0)
        with pytest.raises(DataError, match="soft limits"):
            sweep_stage(opened, np.arange(50.0, 70.0), 1, 0.0, Exposures())
        assert opened.stage_um == 3.0
    finally:
        opened.close()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, RuntimeError])
def test_microscope_is_left_as_found_however_it_ends(ending: type[BaseException]) -> None:
    opened = microscope()
    opened.move_stage(5.0)
    opened.set_light(shutter_open=False)
    before = opened.camera_settings

    def end() -> None:
        with left_as_found(opened):
            opened.set_light(shutter_open=True)
            sweep_stage(opened, np.arange(20.0, 22.0), 1, 0.0, Exposures())
            raise ending

    try:
        with pytest.raises(ending):
            end()
        assert opened.stage_um == 5.0
        assert opened.light.shutter_open is False
        assert opened.camera_settings == before
    finally:
        opened.close()


def test_positions_cover_range_focus_and_margin() -> None:
    rising = _positions(DepthAxis(1, 1.0), 10.0, SweepRequest((0.0, 40.0), 1.0), (-150.0, 150.0))
    assert rising[0] <= 10.0 - 5
    assert rising[-1] >= 10.0 + 40
    falling = _positions(DepthAxis(-1, 2.0), 10.0, SweepRequest((3.0, 40.0), 1.0), (-150.0, 150.0))
    assert falling[0] <= 10.0 - 20
    assert falling[-1] >= 10.0 + 2
    assert np.all(np.diff(falling) > 0)


def test_positions_keep_to_the_limits_where_the_range_allows() -> None:
    positions = _positions(DepthAxis(1, 1.0), 0.0, SweepRequest((0.0, 40.0), 1.0), (-2.0, 41.0))
    assert positions[0] >= -2.0
    assert positions[-1] <= 41.0


class Watched(LimitedMicroscope):
    """Writes down where the drive goes, and whether it rose before each exposure."""

    def __init__(self) -> None:
        super().__init__(SimulatedMicroscope(Slide(), CAMERA, exposure_s=0.001), StageLimits(-40.0, 60.0, 15.0))
        self.moves: list[tuple[float, float]] = []
        self.rising: list[bool] = []

    def move_stage(self, stage_um: float) -> float:
        self.moves.append((self.stage_um, stage_um))
        return super().move_stage(stage_um)

    def snap(self) -> Frame:
        came, went = next((move for move in reversed(self.moves) if move[0] != move[1]), (0.0, 0.0))
        self.rising.append(went > came)
        return super().snap()


@pytest.mark.parametrize("start_um", [-30.0, 12.5, 50.0])
def test_every_exposure_is_reached_from_below(start_um: float) -> None:
    """Backlash is the same at all planes only when the drive never turns round between them."""
    opened = Watched()
    try:
        opened.move_stage(0.0)
        for step_um in np.linspace(0.0, start_um, 5)[1:]:
            opened.move_stage(float(step_um))
        sweep_stage(opened, np.arange(10.0, 20.0), 1, 0.0, Exposures())
        assert opened.rising == [True] * 10
        first = opened.moves[-10]
        assert first[1] - first[0] == pytest.approx(5.0)  # the way that is backed off
        opened.rising.clear()
        opened.move_stage(15.0)
        find_focus(opened, 0.0)
        assert all(opened.rising[1:])  # the first is at the lower limit, where there is no room to back off
    finally:
        opened.close()


def test_the_approach_keeps_to_the_limits() -> None:
    opened = Watched()
    try:
        sweep_stage(opened, np.arange(-38.0, -30.0), 1, 0.0, Exposures())
        assert min(went for _, went in opened.moves) == -40.0
        assert all(opened.rising)
    finally:
        opened.close()


def leave(opened: LimitedMicroscope, ending: BaseException | None, check: Callable[[], None] = lambda: None) -> None:
    with left_as_found(opened, check):
        opened.apply_camera(CameraSettings(0.002))
        opened.move_stage(10.0)
        if ending is not None:
            raise ending


def test_a_sweep_does_not_begin_where_it_could_not_bring_the_drive_back() -> None:
    opened = microscope()
    opened.inner.move_stage(75.0)
    try:
        with pytest.raises(
            MicroscopeError, match="stands at 75 µm, outside its soft limits of -40 to 60 µm"
        ) as refusal:
            leave(opened, KeyboardInterrupt())
        assert refusal.value.cause == "stage_limit"
        assert (opened.stage_um, opened.camera_settings) == (75.0, CameraSettings(0.001))
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (DataError("No focus was found.", "Focus by hand."), DataError),
        (MicroscopeError("no_frame", "The cable fell out.", "Put it back."), MicroscopeError),
        (StageHalted(), StageHalted),
        (KeyboardInterrupt(), MicroscopeError),
    ],
)
def test_what_could_not_be_put_back_is_told_beside_the_first_error(
    ending: BaseException, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = microscope()
    opened.move_stage(5.0)

    def refuse(**_: object) -> None:
        raise MicroscopeError("device", "The shutter is stuck.", "Oil it.")

    monkeypatch.setattr(opened, "set_light", refuse)
    try:
        with pytest.raises(kind) as raised:
            leave(opened, ending)
        text = str(raised.value)
        assert "Not everything was put back: The shutter is stuck." in text
        assert getattr(ending, "problem", "") in text
        assert getattr(ending, "remedy", "") in text
        if isinstance(raised.value, MicroscopeError) and isinstance(ending, MicroscopeError):
            assert raised.value.cause == "no_frame"
        # The other parts are given back all the same; after a halt nothing moves.
        assert opened.camera_settings == CameraSettings(0.001)
        assert opened.stage_um == (10.0 if isinstance(ending, StageHalted) else 5.0)
    finally:
        opened.close()


def test_a_sweep_that_succeeds_but_cannot_be_put_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = microscope()
    opened.move_stage(5.0)
    apply = opened.apply_camera

    def refuse(settings: CameraSettings) -> CameraSettings:
        if settings.exposure_s == 0.001:
            raise MicroscopeError("not_read_back", "The exposure stays.", "Set it by hand.")
        return apply(settings)

    monkeypatch.setattr(opened, "apply_camera", refuse)
    try:
        with pytest.raises(MicroscopeError, match="The exposure stays") as raised:
            leave(opened, None)
        assert raised.value.cause == "not_read_back"
        assert opened.stage_um == 5.0
    finally:
        opened.close()


def test_a_halt_on_the_way_back_moves_nothing_more() -> None:
    opened = microscope()
    opened.move_stage(5.0)

    def halt() -> None:
        raise StageHalted

    try:
        with pytest.raises(StageHalted):
            leave(opened, DataError("No focus was found.", "Focus by hand."), halt)
        assert opened.stage_um == 10.0
    finally:
        opened.close()


class Focusing(SimulatedMicroscope):
    """A simulated microscope with continuous focus, which moves the drive while it is on."""

    holding = True

    @property
    def continuous_focus(self) -> bool:
        return self.holding

    def set_continuous_focus(self, on: bool) -> None:
        self.holding = on

    def move_stage(self, stage_um: float) -> float:
        assert not self.holding
        return super().move_stage(stage_um)


@pytest.mark.parametrize(
    ("ending", "on"), [(DataError("a", "b"), True), (KeyboardInterrupt(), True), (StageHalted(), False)]
)
def test_continuous_focus_is_off_during_a_sweep_and_on_again_after_it(ending: BaseException, on: bool) -> None:
    inner = Focusing(Slide(), CAMERA, exposure_s=0.001)
    opened = LimitedMicroscope(inner, StageLimits(-40.0, 60.0, 15.0))
    try:
        with pytest.raises(type(ending)) as raised:
            leave(opened, ending)
        assert inner.holding is on
        if not on:
            assert "continuous focus was on and has been left off" in str(raised.value)
        inner.holding = False
        with pytest.raises(type(ending)):
            leave(opened, ending)
        assert inner.holding is False
    finally:
        opened.close()


def test_a_frame_of_another_size_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = microscope()
    exposures = Exposures()

    def narrow(*_: object) -> None:
        if len(exposures.frames) == 3:
            opened.apply_camera(CameraSettings(0.001, binning=2))

    try:
        with pytest.raises(DataError, match="At 13 µm the camera gave 32 x 32 pixels, and 64 x 64 before"):
            sweep_stage(opened, np.arange(10.0, 20.0), 1, 0.0, exposures, narrow)
    finally:
        opened.close()


@pytest.mark.parametrize("z_range_um", [(0.0, 40.0), (3.0, 55.0), (-20.0, 20.0), (-31.5, -7.25)])
@pytest.mark.parametrize("step_um", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("axis", [DepthAxis(1, 1.0), DepthAxis(-1, 1.33)])
@pytest.mark.parametrize("limits", [(-500.0, 500.0), (-20.0, 41.0)])
def test_no_sweep_is_larger_than_its_size_says(
    z_range_um: tuple[float, float], step_um: float, axis: DepthAxis, limits: tuple[float, float]
) -> None:
    request = SweepRequest(z_range_um, step_um)
    planes = request.size(axis, (64, 64)).planes
    assert len(_positions(axis, 7.3, request, (-500.0, 500.0))) == planes
    assert len(_positions(axis, 7.3, request, limits)) <= planes


def description(direction: int) -> MicroscopeDescription:
    return MicroscopeDescription("micromanager", "Camera", "Piezo", (64, 64), 16, 1.0, focus_direction=direction)


@pytest.mark.parametrize(
    ("moves", "direction", "sign"),
    [("objective", 0, -1), ("sample", 0, 1), ("objective", 1, -1), ("sample", -1, 1), (None, 1, -1), (None, -1, 1)],
)
def test_the_sign_of_depth_follows_what_is_stated(moves: str | None, direction: int, sign: int) -> None:
    part = load_settings(command_line={"microscope": {"moves": moves}}, environment={}).microscope
    assert axis_of(part, description(direction)).sign == sign


def test_the_sign_of_depth_is_that_of_the_drive_in_use() -> None:
    drive = {"low_um": 0, "high_um": 9, "moves": "sample"}
    given = {"moves": "objective", "focus_drives": {"Piezo": drive, "Spare": {**drive, "moves": None}}}
    part = load_settings(command_line={"microscope": given}, environment={}).microscope
    assert axis_of(part, description(0)).sign == 1
    assert axis_of(part, replace(description(0), focus_stage="Z")).sign == -1
    assert axis_of(part, replace(description(1), focus_stage="Spare")).sign == -1  # as FocusDirection says


@pytest.mark.parametrize(
    ("moves", "direction", "says"),
    [
        ("objective", -1, "moves is objective, but FocusDirection of Piezo is -1 .* takes them apart"),
        ("sample", 1, "moves is sample, but FocusDirection of Piezo is 1 .* brings objective and sample together"),
        (None, 0, "microscope.moves is not made; it must be objective or sample"),
    ],
)
def test_signs_that_contradict_each_other_or_are_missing_are_named(
    moves: str | None, direction: int, says: str
) -> None:
    part = load_settings(command_line={"microscope": {"moves": moves}}, environment={}).microscope
    with pytest.raises(DataError, match=says):
        axis_of(part, description(direction))


def settings_file(folder: Path, text: str = 'driver = "simulated"\nmoves = "sample"\n') -> Path:
    path = folder / "bathyscope.toml"
    path.write_text(f'data_dir = "{folder / "data"}"\n[microscope]\n{text}', encoding="utf-8")
    return path


def test_running_service_keeps_the_microscope(tmp_path: Path) -> None:
    config = settings_file(tmp_path)
    (tmp_path / "data").mkdir()
    with filelock.FileLock(tmp_path / "data" / ".lock"), pytest.raises(DataError, match="running service"):
        take_sweep(config, None, SweepRequest((0.0, 40.0), 1.0))


@pytest.mark.parametrize(
    ("text", "z_range", "step", "says"),
    [
        ('driver = "simulated"\nmoves = "sample"\n', (0.0, 40.0), float("nan"), "step of the sweep is nan µm"),
        ('driver = "simulated"\nmoves = "sample"\n', (0.0, 40.0), 1e-7, "plausible values are 0.001 to 20 µm"),
        ('driver = "simulated"\nmoves = "sample"\n', (40.0, 0.0), 1.0, "below its high end"),
        ('driver = "replay"\nmoves = "sample"\n[microscope.replay]\nmovie = "m.tif"\n', (0.0, 40.0), 1.0, "replay"),
    ],
)
def test_live_sweep_says_what_it_lacks(
    tmp_path: Path, text: str, z_range: tuple[float, float], step: float, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        take_sweep(settings_file(tmp_path, text), None, SweepRequest(z_range, step))
