"""A live sweep finds focus, stays within limits, and leaves the microscope as it was."""

from __future__ import annotations

from pathlib import Path

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.limits import LimitedMicroscope
from hardware.microscope import StageLimits
from hardware.simulated import SimulatedMicroscope
from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.sweep_request import SweepRequest, SweepSize
from service.sweeping import _positions, find_focus, left_as_found, sweep_stage, take_sweep
from tests.models.bead_sweeps import CAMERA, pattern


class Slide:
    """Four beads on a slide that is in focus at 12.5 µm."""

    shape = (64, 64)
    pixel_size_um = 1.0
    focus_um = 12.5

    def render(self, time_s: float, exposure_s: float, stage_um: float) -> NDArray[np.float32]:
        rows, columns = np.indices(self.shape)
        image = np.full(self.shape, 20.0)
        for x, y in ((16, 16), (48, 16), (16, 48), (48, 48)):
            image += 30_000 * pattern(columns - x, rows - y, stage_um - self.focus_um)
        return image.astype(np.float32)

    def truth(self, time_s: float, stage_um: float) -> NDArray[np.float64]:
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
