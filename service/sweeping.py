"""A sweep taken with the microscope: find focus, step through it, put everything back.

The microscope is left as it was found (position, exposure, light), whatever
happens on the way, Ctrl-C included. Only after a stop the drive stays where
it is: who stops a microscope wants nothing to move. The drive always arrives
from the same side, so that its backlash does not enter the steps.

The engine of a service sweeps the microscope that it owns. The command line
opens one itself, which is refused while a service runs on the same data
directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.calibration.depth_axis import DepthAxis, depth_axis
from models.calibration.sweep import Sweep, fine_detail, fit_peak
from models.errors import DataError

if TYPE_CHECKING:
    from hardware.microscope import Microscope
    from service.settings import MicroscopePart

__all__ = [
    "StageHalted",
    "StageSweep",
    "SweepRequest",
    "axis_of",
    "find_focus",
    "left_as_found",
    "pixel_size_of",
    "sweep_around_focus",
    "sweep_stage",
    "take_sweep",
]

# Planes beyond focus that make its peak visible when the wanted range begins there, and margin at the far end, µm.
_BEYOND_FOCUS_UM = 8.0
_BEYOND_END_UM = 3.0
# Way that the drive backs off before it moves up to a position, µm: more than the backlash of focus drives.
_BACKLASH_UM = 5.0
# Half of the way that is searched for focus, and the first step of the search, µm.
_SEARCH_UM = 60.0
_SEARCH_STEP_UM = 4.0
# Fine detail in the sharpest picture of a search over that of the median one; less is no focus.
_FOCUS_CONTRAST = 1.3

# Part of the whole time that finding focus takes, about.
_FOCUS_SHARE = 0.4
# How often the wait after a move looks whether the sweep is to end, s.
_LOOK_S = 0.05

Told = Callable[[float, str], None]
"""Called with the share done and what is being done before every move and exposure; may raise to end the sweep."""

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint16]]


class StageHalted(RuntimeError):
    """The user has stopped the microscope, so the drive must not be moved any more, not even back."""


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What is asked of a sweep.

    Attributes
    ----------
    z_range_um : (low, high)
        Depths to be covered, µm from focus.
    z_step_um : float
        Step of the drive, µm.
    repeats : int
        Exposures at each plane.
    settle_s : float
        Wait after each move, s.
    pixel_size_um : float or None
        Camera pixel at the sample, where the microscope does not know it.
    exposure_s : float or None
        Exposure of the sweep; None: as it is set.
    """

    z_range_um: tuple[float, float]
    z_step_um: float
    repeats: int = 2
    settle_s: float = 0.05
    pixel_size_um: float | None = None
    exposure_s: float | None = None

    def check(self) -> None:
        """Refuse what is no sweep.

        Raises
        ------
        DataError
            For a step that is not positive, or a range that is not finite or not rising.
        """
        if not np.isfinite(self.z_step_um) or self.z_step_um <= 0:
            raise DataError(
                f"The step of the sweep is {self.z_step_um} µm; it must be positive.", "Give a step, for example 1 µm."
            )
        if not np.isfinite(self.z_range_um).all() or self.z_range_um[0] >= self.z_range_um[1]:
            raise DataError(
                f"The z-range is {self.z_range_um[0]} to {self.z_range_um[1]} µm; both must be finite, "
                "and its low end must be below its high end.",
                "Give the low and the high end, for example 0 and 40 µm.",
            )


@dataclass(frozen=True)
class StageSweep:
    """Exposures at many positions of the focus drive.

    Attributes
    ----------
    planes : ndarray of uint16, shape (Z, R, H, W)
        Camera counts.
    stage_um : ndarray of float64, shape (Z,)
        Positions read back, µm.
    """

    planes: NDArray[np.uint16]
    stage_um: NDArray[np.float64]


@contextmanager
def left_as_found(microscope: Microscope, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Give back light, camera settings and position when the block ends, however it ends.

    After a `StageHalted` the position is not given back. `check` is called
    before each move on the way back and may raise it.
    """
    position, camera, light = microscope.stage_um, microscope.camera_settings, microscope.light
    halted = False
    try:
        yield
    except StageHalted:
        halted = True
        raise
    finally:
        try:
            shutter = None if light.automatic else light.shutter_open
            if shutter is not None or light.channel is not None:
                microscope.set_light(shutter_open=shutter, channel=light.channel)
        finally:
            try:
                if microscope.camera_settings != camera:
                    microscope.apply_camera(camera)
            finally:
                if not halted:
                    _go(microscope, position, check)


def _go(microscope: Microscope, target_um: float, check: Callable[[], None] = lambda: None) -> float:
    """Move in steps that the limits allow."""
    longest = microscope.stage_limits.max_step_um
    position = microscope.stage_um
    while abs(target_um - position) > longest:
        check()
        position = microscope.move_stage(position + float(np.sign(target_um - position)) * longest)
    check()
    return microscope.move_stage(target_um)


def _approach(microscope: Microscope, target_um: float, check: Callable[[], None]) -> None:
    """Back off below the target, as far as the limits allow, so that the drive then arrives from below."""
    _go(microscope, max(target_um - _BACKLASH_UM, microscope.stage_limits.low_um), check)


def _settle(settle_s: float, check: Callable[[], None]) -> None:
    """Wait, and look now and then whether the sweep is to end."""
    end_s = time.monotonic() + settle_s
    while (left_s := end_s - time.monotonic()) > 0:
        check()
        time.sleep(min(left_s, _LOOK_S))


def find_focus(microscope: Microscope, settle_s: float, told: Told = lambda done, what: None) -> float:
    """Position of the drive at which the picture has most fine detail, µm.

    A coarse search around the present position within the soft limits, then a
    finer one around the best.

    Raises
    ------
    DataError
        When no picture is clearly sharper than the others, or the sharpest is at the end of the search.
    """
    limits = microscope.stage_limits
    start = microscope.stage_um
    low, high = max(start - _SEARCH_UM, limits.low_um), min(start + _SEARCH_UM, limits.high_um)
    best, step = start, _SEARCH_STEP_UM
    for fraction, step in ((0.0, _SEARCH_STEP_UM), (0.7, _SEARCH_STEP_UM / 8)):
        if fraction:
            low, high = max(best - 2 * _SEARCH_STEP_UM, limits.low_um), min(best + 2 * _SEARCH_STEP_UM, limits.high_um)
        positions = np.arange(low, high + 1e-9, step)
        if len(positions) < 5:
            raise DataError(
                f"The focus drive may move only from {limits.low_um:g} to {limits.high_um:g} µm; that is no search.",
                "Widen the soft limits in the microscope's settings, if the way is free.",
            )
        detail = np.empty(len(positions))
        for index, position in enumerate(positions):
            done = fraction + (0.7 if not fraction else 0.3) * index / len(positions)
            check = partial(told, done, "searching focus")
            if index == 0:
                _approach(microscope, float(position), check)
            _go(microscope, float(position), check)
            _settle(settle_s, check)
            check()
            detail[index] = fine_detail(microscope.snap().pixels.astype(np.float32))
        contrast = float(detail.max() / max(float(np.median(detail)), 1e-12))
        sharpest = int(detail.argmax())
        if not fraction and (contrast < _FOCUS_CONTRAST or sharpest in (0, len(detail) - 1)):
            raise DataError(
                f"No focus was found from {low:g} to {high:g} µm: the sharpest picture, at {positions[sharpest]:g} µm, "
                f"has {contrast:.2f} times the fine detail of the median one (at least {_FOCUS_CONTRAST} is needed, "
                "and it must not be the first or the last).",
                "Focus on the beads by hand, check light and exposure, and start again.",
            )
        best = fit_peak(positions, detail / detail.max())
    return best


def sweep_stage(
    microscope: Microscope,
    positions_um: NDArray[np.float64],
    repeats: int,
    settle_s: float,
    told: Told = lambda done, what: None,
    allocate: Allocate = lambda shape: np.empty(shape, np.uint16),
) -> StageSweep:
    """Expose `repeats` frames at each of the rising positions; `allocate` gives the room for them.

    Raises
    ------
    DataError
        When the positions lie beyond the soft limits; nothing was moved then.
    """
    limits = microscope.stage_limits
    if positions_um.min() < limits.low_um - 1e-6 or positions_um.max() > limits.high_um + 1e-6:
        raise DataError(
            f"The sweep goes from {positions_um.min():.1f} to {positions_um.max():.1f} µm; the soft limits of the "
            f"focus drive are {limits.low_um:g} to {limits.high_um:g} µm.",
            "Choose a smaller z-range, or widen the limits in the settings if the way is free.",
        )
    planes: NDArray[np.uint16] | None = None
    reached = np.empty(len(positions_um))
    for index, position in enumerate(positions_um):
        check = partial(told, index / len(positions_um), "sweeping")
        if index == 0:
            _approach(microscope, float(position), check)
        reached[index] = _go(microscope, float(position), check)
        _settle(settle_s, check)
        for repeat in range(repeats):
            check()
            pixels = microscope.snap().pixels
            if planes is None:
                planes = allocate((len(positions_um), repeats, *pixels.shape))
            planes[index, repeat] = pixels
    if planes is None:
        raise DataError("The sweep has no positions or no repeats.", "Ask for at least one of each.")
    return StageSweep(planes, reached)


def _positions(
    axis: DepthAxis, focus_um: float, z_range_um: tuple[float, float], step_um: float, limits: tuple[float, float]
) -> NDArray[np.float64]:
    """Rising positions that cover the range and, where the limits allow, focus and a margin."""
    low = min(z_range_um[0] - _BEYOND_END_UM, -_BEYOND_FOCUS_UM)
    high = max(z_range_um[1] + _BEYOND_END_UM, _BEYOND_FOCUS_UM)
    ends = sorted((axis.stage(low, focus_um), axis.stage(high, focus_um)))
    needed = sorted((axis.stage(z_range_um[0], focus_um), axis.stage(z_range_um[1], focus_um)))
    first = min(max(ends[0], limits[0]), needed[0])
    last = max(min(ends[1], limits[1]), needed[1])
    count = int(np.ceil((last - first) / step_um - 1e-9))
    # Whole steps that end inside the limits.
    if first + count * step_um > max(limits[1], needed[1]):
        count -= 1
    return np.asarray(first + step_um * np.arange(count + 1), np.float64)


def sweep_around_focus(
    microscope: Microscope,
    axis: DepthAxis,
    request: SweepRequest,
    told: Told = lambda done, what: None,
    allocate: Allocate = lambda shape: np.empty(shape, np.uint16),
) -> tuple[StageSweep, float]:
    """Light on, find focus, sweep. Put it into `left_as_found`.

    Returns
    -------
    taken : StageSweep
    focus_um : float
        About where focus is, stage coordinates.

    Raises
    ------
    DataError
        When focus is not found, or the range is beyond the soft limits.
    MicroscopeError
        Whatever the microscope refuses.
    """
    light = microscope.light
    if light.shutter_open is False and not light.automatic:
        microscope.set_light(shutter_open=True)
    if request.exposure_s is not None:
        microscope.apply_camera(replace(microscope.camera_settings, exposure_s=request.exposure_s))
    focus = find_focus(microscope, request.settle_s, lambda done, what: told(_FOCUS_SHARE * done, what))
    limits = microscope.stage_limits
    positions = _positions(axis, focus, request.z_range_um, request.z_step_um, (limits.low_um, limits.high_um))
    taken = sweep_stage(
        microscope,
        positions,
        request.repeats,
        request.settle_s,
        lambda done, what: told(_FOCUS_SHARE + (1 - _FOCUS_SHARE) * done, what),
        allocate,
    )
    return taken, focus


def axis_of(part: MicroscopePart) -> DepthAxis:
    """How the positions of the microscope's drive become depth; of the simulated one it is known.

    Raises
    ------
    DataError
        When the settings do not say what the drive moves.
    """
    if part.driver == "simulated" and part.moves is None:
        return depth_axis("objective", 1.0, 1.0)  # as the simulated scene is rendered
    return depth_axis(part.moves, part.immersion_index, part.sample_index)


def take_sweep(config: Path | None, data: Path | None, request: SweepRequest) -> tuple[Sweep, DepthAxis]:
    """Open the microscope of the settings, sweep, and give the microscope back as it was.

    Parameters
    ----------
    config, data : Path or None
        Settings file, and data directory instead of the settings' one.
    request : SweepRequest

    Returns
    -------
    sweep : Sweep
        In stage coordinates.
    axis : DepthAxis
        How they become depth.

    Raises
    ------
    DataError
        When a service holds the data directory, or the settings lack what is needed.
    MicroscopeError
        Whatever the microscope refuses.
    """
    import filelock

    from service.console import note, progress
    from service.opening import open_instrument
    from service.settings import load_settings

    request.check()
    settings = load_settings(config, {"data_dir": data})
    axis = axis_of(settings.microscope)
    if settings.microscope.driver == "replay":
        raise DataError(
            "The driver is replay, and a movie has no focus drive.", "Calibrate from its sweep file instead."
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DataError(
            f"A running service holds the data directory {settings.data_dir}, and with it the microscope.",
            "Stop the service, or let it calibrate: POST /api/v1/calibrations.",
        ) from None
    try:
        microscope = open_instrument(settings)
        try:
            pixel = pixel_size_of(microscope, request.pixel_size_um)
            with left_as_found(microscope), progress("Sweeping", 1.0) as advance:
                taken, focus = sweep_around_focus(microscope, axis, request, advance)
            note(f"Focus near {focus:.1f} µm (stage).")
            return Sweep(taken.planes, taken.stage_um, pixel, microscope.description.bit_depth), axis
        finally:
            microscope.close()
    finally:
        lock.release()


def pixel_size_of(microscope: Microscope, stated_um: float | None) -> float:
    """Camera pixel at the sample as it is binned, µm: what the microscope knows, or what is stated.

    Raises
    ------
    DataError
        When neither is there, or they contradict each other.
    """
    known = microscope.description.pixel_size_um
    if known is not None:
        known *= microscope.camera_settings.binning
    if known is None and stated_um is None:
        raise DataError(
            "The microscope does not state its pixel size at the sample.",
            "State it, or set the pixel size in Micro-Manager.",
        )
    if known is not None and stated_um is not None and abs(stated_um / known - 1) > 0.01:
        raise DataError(
            f"The pixel size is stated to be {stated_um:g} µm, but {known:g} µm according to the "
            "microscope; they must agree to 1 %.",
            "Correct the one that is wrong.",
        )
    return float(stated_um if stated_um is not None else known)  # type: ignore[arg-type]
