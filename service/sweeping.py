"""A sweep taken with the microscope: find focus, step through it, put everything back.

The microscope is left as it was found (position, exposure, light), whatever
happens on the way, Ctrl-C included. The drive always arrives from the same
side, so that its backlash does not enter the steps. A service that runs on
the same data directory owns the microscope, and then this is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.depth_axis import DepthAxis, depth_axis
from models.errors import DataError
from models.sweep import Sweep, fine_detail, fit_peak

if TYPE_CHECKING:
    from hardware.limits import LimitedMicroscope
    from hardware.microscope import Microscope
    from service.settings import Settings

__all__ = ["StageSweep", "find_focus", "sweep_stage", "take_sweep"]

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

Told = Callable[[float, str], None]


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
def _left_as_found(microscope: Microscope) -> Iterator[None]:
    """Give back position, exposure and light."""
    position, camera, light = microscope.stage_um, microscope.camera_settings, microscope.light
    try:
        yield
    finally:
        try:
            if light.shutter_open is not None or light.channel is not None:
                microscope.set_light(shutter_open=light.shutter_open, channel=light.channel)
        finally:
            try:
                if microscope.camera_settings != camera:
                    microscope.apply_camera(camera)
            finally:
                _go(microscope, position)


def _go(microscope: Microscope, target_um: float) -> float:
    """Move in steps that the limits allow."""
    longest = microscope.stage_limits.max_step_um
    position = microscope.stage_um
    while abs(target_um - position) > longest:
        position = microscope.move_stage(position + float(np.sign(target_um - position)) * longest)
    return microscope.move_stage(target_um)


def _approach(microscope: Microscope, target_um: float) -> None:
    """Back off below the target, as far as the limits allow, so that the drive then arrives from below."""
    _go(microscope, max(target_um - _BACKLASH_UM, microscope.stage_limits.low_um))


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
        _approach(microscope, float(positions[0]))
        detail = np.empty(len(positions))
        for index, position in enumerate(positions):
            told(fraction + (0.7 if not fraction else 0.3) * index / len(positions), "searching focus")
            microscope.move_stage(float(position))
            time.sleep(settle_s)
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
) -> StageSweep:
    """Expose `repeats` frames at each of the rising positions.

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
            "Choose a smaller --z-range-um, or widen the limits in the settings if the way is free.",
        )
    _approach(microscope, float(positions_um[0]))
    planes: list[NDArray[np.uint16]] = []
    reached = np.empty(len(positions_um))
    for index, position in enumerate(positions_um):
        told(index / len(positions_um), "sweeping")
        reached[index] = _go(microscope, float(position))
        time.sleep(settle_s)
        planes.append(np.stack([microscope.snap().pixels for _ in range(repeats)]))
    return StageSweep(np.stack(planes), reached)


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


def take_sweep(
    config: Path | None,
    data: Path | None,
    z_range_um: tuple[float, float],
    z_step_um: float,
    pixel_size_um: float | None,
    repeats: int,
    settle_s: float,
) -> tuple[Sweep, DepthAxis]:
    """Open the microscope of the settings, sweep, and give the microscope back as it was.

    Parameters
    ----------
    config, data : Path or None
        Settings file, and data directory instead of the settings' one.
    z_range_um : (low, high)
        Depths to be covered, µm from focus.
    z_step_um : float
        Step of the drive, µm.
    pixel_size_um : float or None
        Where the microscope does not know it.
    repeats : int
        Exposures at each plane.
    settle_s : float
        Wait after each move, s.

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
    from service.settings import load_settings

    if not np.isfinite(z_step_um) or z_step_um <= 0:
        raise DataError(
            f"The step of the sweep is {z_step_um} µm; it must be positive.", "Give --z-step-um, for example 1."
        )
    if not np.isfinite(z_range_um).all() or z_range_um[0] >= z_range_um[1]:
        raise DataError(
            f"The z-range is {z_range_um[0]} to {z_range_um[1]} µm; both must be finite, "
            "and its low end must be below its high end.",
            "Give --z-range-um LOW HIGH, for example 0 40.",
        )
    settings = load_settings(config, {"data_dir": data})
    part = settings.microscope
    axis = depth_axis(part.moves, part.immersion_index, part.sample_index)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DataError(
            f"A running service holds the data directory {settings.data_dir}, and with it the microscope.",
            "Stop the service and calibrate again.",
        ) from None
    try:
        microscope = _open(settings)
        try:
            pixel = _pixel_size(microscope, pixel_size_um)
            with _left_as_found(microscope):
                if microscope.light.shutter_open is not None:
                    microscope.set_light(shutter_open=True)
                with progress("Searching focus", 1.0) as advance:
                    focus = find_focus(microscope, settle_s, advance)
                note(f"Focus near {focus:.1f} µm (stage).")
                limits = microscope.stage_limits
                positions = _positions(axis, focus, z_range_um, z_step_um, (limits.low_um, limits.high_um))
                with progress("Sweeping", 1.0) as advance:
                    taken = sweep_stage(microscope, positions, repeats, settle_s, advance)
            return Sweep(taken.planes, taken.stage_um, pixel, microscope.description.bit_depth), axis
        finally:
            microscope.close()
    finally:
        lock.release()


def _open(settings: Settings) -> LimitedMicroscope:
    from hardware.microscope import CameraSettings, Roi
    from hardware.opening import open_microscope

    part = settings.microscope
    if part.driver == "replay":
        raise DataError(
            "The driver is replay, and a movie has no focus drive.", "Calibrate from its sweep file instead."
        )
    scene = detector = None
    if part.driver == "simulated":
        from models.model import Model
        from models.scene import reference_scene
        from models.weights import reference_model

        simulated = part.simulated
        scene = reference_scene((simulated.height, simulated.width), simulated.emitters, simulated.seed)
        detector = Model.load(reference_model()).camera
    microscope = open_microscope(part.model_dump(), scene=scene, detector=detector)
    try:
        roi = None if settings.camera.roi is None else Roi(*settings.camera.roi)
        microscope.apply_camera(CameraSettings(settings.camera.exposure_s, roi, settings.camera.binning))
    except BaseException:
        microscope.close()
        raise
    return microscope


def _pixel_size(microscope: Microscope, flag: float | None) -> float:
    known = microscope.description.pixel_size_um
    if known is not None:
        known *= microscope.camera_settings.binning
    if known is None and flag is None:
        raise DataError(
            "The microscope does not state its pixel size at the sample.",
            "Give --pixel-size-um, or set the pixel size in Micro-Manager.",
        )
    if known is not None and flag is not None and abs(flag / known - 1) > 0.01:
        raise DataError(
            f"The pixel size is {flag:g} µm according to --pixel-size-um, but {known:g} µm according to the "
            "microscope; they must agree to 1 %.",
            "Correct the one that is wrong.",
        )
    return float(flag if flag is not None else known)  # type: ignore[arg-type]
