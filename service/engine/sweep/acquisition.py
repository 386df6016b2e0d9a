"""Acquisition of a sweep: find focus, step through it, and pass the exposures to a sink.

The engine sweeps the microscope that it owns, as a step of a calibration job.
The command line opens a microscope itself, which is refused while a service
runs on the same data directory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.engine.sweep.drive import ROUNDING_UM, Progress, approach, go, settle
from service.engine.sweep.exposing import prepare_exposures
from service.engine.sweep.focus import find_focus
from service.engine.sweep.request import SweepRequest, SweepSize

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["ExposureSink", "sweep_around_focus", "sweep_stage"]

_FOCUS_SHARE = 0.4
"""Approximate part of the whole time that the search for focus takes."""


class ExposureSink(Protocol):
    """Receives the exposures of a sweep in their order."""

    def begin(self, size: SweepSize) -> None:
        """Prepare for exposures of this size; called once, before the first exposure."""
        ...

    def add(self, pixels: NDArray[np.uint16]) -> None:
        """Keep the next exposure, shape (H, W)."""
        ...


def sweep_stage(
    microscope: Microscope,
    positions_um: NDArray[np.float64],
    repeats: int,
    settle_s: float,
    sink: ExposureSink,
    progress: Progress = lambda done, step: None,
) -> NDArray[np.float64]:
    """Expose `repeats` frames at each of the rising positions into `sink`.

    Returns
    -------
    ndarray of float64, shape (Z,)
        Positions read back, µm.

    Raises
    ------
    DataError
        When the positions lie beyond the soft limits, or there are none (nothing was moved then); when the size of
        the frames changes.
    """
    if not len(positions_um) or repeats < 1:
        raise DataError("The sweep has no positions or no repeats.", "Ask for at least one of each.")
    limits = microscope.stage_limits
    if positions_um.min() < limits.low_um - ROUNDING_UM or positions_um.max() > limits.high_um + ROUNDING_UM:
        raise DataError(
            f"The sweep goes from {positions_um.min():.1f} to {positions_um.max():.1f} µm; the soft limits of the "
            f"focus drive are {limits.low_um:g} to {limits.high_um:g} µm.",
            "Choose a smaller z-range, or widen the limits in the settings if the way is free.",
        )
    size: SweepSize | None = None
    reached = np.empty(len(positions_um))
    for index, position in enumerate(positions_um):
        check = partial(progress, index / len(positions_um), "sweeping")
        if index == 0:
            approach(microscope, float(position), check)
        reached[index] = go(microscope, float(position), check)
        settle(settle_s, check)
        for _ in range(repeats):
            check()
            pixels = microscope.snap().pixels
            if size is None:
                size = SweepSize(len(positions_um), repeats, (pixels.shape[0], pixels.shape[1]))
                sink.begin(size)
            if pixels.shape != size.shape:
                raise DataError(
                    f"At {reached[index]:g} µm the camera gave {pixels.shape[1]} x {pixels.shape[0]} pixels, "
                    f"and {size.shape[1]} x {size.shape[0]} before.",
                    "Let no other program change the camera during a sweep.",
                )
            sink.add(pixels)
    return reached


def _positions(
    axis: DepthAxis, focus_um: float, request: SweepRequest, limits: tuple[float, float]
) -> NDArray[np.float64]:
    """Rising positions that cover the range and, where the limits allow, focus and a margin."""
    ends, needed = (
        sorted(axis.stage(depth_um, focus_um) for depth_um in depths)
        for depths in (request.covered_um, request.z_range_um)
    )
    step_um = request.z_step_um
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
    sink: ExposureSink,
    progress: Progress = lambda done, step: None,
) -> tuple[NDArray[np.float64], float]:
    """Switch the light on, find focus, sweep into `sink`. To be called within `left_as_found`.

    Returns
    -------
    stage_um : ndarray of float64, shape (Z,)
        Positions of the drive, read back, µm.
    focus_um : float
        Approximate position of focus, stage coordinates, µm.

    Raises
    ------
    DataError
        When focus is not found, or the range is beyond the soft limits.
    MicroscopeError
        Whatever the microscope refuses.
    """
    prepare_exposures(microscope, request.exposure_s)
    focus = find_focus(microscope, request.settle_s, lambda done, step: progress(_FOCUS_SHARE * done, step))
    limits = microscope.stage_limits
    positions = _positions(axis, focus, request, (limits.low_um, limits.high_um))
    reached = sweep_stage(
        microscope,
        positions,
        request.repeats,
        request.settle_s,
        sink,
        lambda done, step: progress(_FOCUS_SHARE + (1 - _FOCUS_SHARE) * done, step),
    )
    return reached, focus
