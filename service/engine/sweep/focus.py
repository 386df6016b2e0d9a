"""Search for focus: the position of the drive at which the image has most fine detail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.calibration.sweep import fine_detail, fit_peak
from models.errors import DataError
from models.quantities import FOCUS_RANGE_UM, Z_STEP_UM
from service.engine.sweep.drive import Progress, approach, go, settle

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["FocusCurve", "FocusSearch", "find_focus", "search_focus"]

_FINER = 8
"""Steps of the finer search in one of the coarse search."""

_FEWEST, _MOST = 5, 1000
"""Positions of the coarse search: fewer have no peak between others, more are a wrong step."""

_FOCUS_CONTRAST = 1.3
"""Least ratio of fine detail in the sharpest image to that in the median one; below it there is no focus."""


@dataclass(frozen=True, slots=True)
class FocusSearch:
    """Where focus is searched.

    Attributes
    ----------
    range_um : float
        Distance to each side of the present position, µm; less where the soft limits are nearer.
    step_um : float
        Step of the coarse search, µm.
    """

    range_um: float = 60.0
    step_um: float = 4.0

    def check(self) -> None:
        """Refuse values that are out of range, or a number of positions that is no search.

        Raises
        ------
        DataError
        """
        FOCUS_RANGE_UM.check(self.range_um)
        Z_STEP_UM.check(self.step_um)
        positions = int(2 * self.range_um / self.step_um) + 1
        if not _FEWEST <= positions <= _MOST:
            raise DataError(
                f"A search of {self.range_um:g} µm to each side in steps of {self.step_um:g} µm has {positions} "
                f"positions; it has {_FEWEST} to {_MOST}.",
                f"Choose a {'smaller' if positions < _FEWEST else 'larger'} step, or another range.",
            )


@dataclass(frozen=True, slots=True)
class FocusCurve:
    """Sharpness along the drive, and its peak.

    Attributes
    ----------
    focus_um : float
        Position of the peak, µm.
    contrast : float
        Fine detail at the sharpest position of the coarse search over that of the median one.
    stage_um, sharpness : ndarray of float64, shape (N,)
        Positions of all images, rising, and their fine detail (counts²).
    """

    focus_um: float
    contrast: float
    stage_um: NDArray[np.float64]
    sharpness: NDArray[np.float64]


def find_focus(microscope: Microscope, settle_s: float, progress: Progress = lambda done, step: None) -> float:
    """Position of the drive at which the image has most fine detail, µm; see `search_focus`."""
    return search_focus(microscope, settle_s, FocusSearch(), progress).focus_um


def search_focus(
    microscope: Microscope, settle_s: float, search: FocusSearch, progress: Progress = lambda done, step: None
) -> FocusCurve:
    """Find the position of the drive at which the image has most fine detail.

    A coarse search around the present position within the soft limits, then a
    finer one around the best, whose peak is that of a parabola (`fit_peak`).
    The drive ends somewhere in the search.

    Raises
    ------
    DataError
        When no image is clearly sharper than the others, or the sharpest is at the end of the search.
    """
    limits = microscope.stage_limits
    start = microscope.stage_um
    low, high = max(start - search.range_um, limits.low_um), min(start + search.range_um, limits.high_um)
    best, contrast = start, 0.0
    all_positions: list[NDArray[np.float64]] = []
    all_detail: list[NDArray[np.float64]] = []
    for fraction, step in ((0.0, search.step_um), (0.7, search.step_um / _FINER)):
        if fraction:
            low, high = max(best - 2 * search.step_um, limits.low_um), min(best + 2 * search.step_um, limits.high_um)
        positions = np.arange(low, high + 1e-9, step)
        if len(positions) < _FEWEST:
            raise DataError(
                f"The focus drive may move only from {limits.low_um:g} to {limits.high_um:g} µm; that is no search "
                f"from {start:g} µm in steps of {step:g} µm.",
                "Choose a smaller step, or widen the soft limits in the microscope's settings if the way is free.",
            )
        detail = np.empty(len(positions))
        for index, position in enumerate(positions):
            done = fraction + (0.7 if not fraction else 0.3) * index / len(positions)
            check = partial(progress, done, "searching focus")
            if index == 0:
                approach(microscope, float(position), check)
            go(microscope, float(position), check)
            settle(settle_s, check)
            check()
            detail[index] = fine_detail(microscope.snap().pixels.astype(np.float32))
        all_positions.append(positions)
        all_detail.append(detail)
        sharpest = int(detail.argmax())
        if not fraction:
            contrast = float(detail.max() / max(float(np.median(detail)), 1e-12))
            if contrast < _FOCUS_CONTRAST or sharpest in (0, len(detail) - 1):
                raise DataError(
                    f"No focus was found from {low:g} to {high:g} µm: the sharpest image, at {positions[sharpest]:g} "
                    f"µm, has {contrast:.2f} times the fine detail of the median one (at least {_FOCUS_CONTRAST} is "
                    "needed, and it must not be the first or the last).",
                    "Focus on the beads by hand, check light and exposure, and start again.",
                )
        best = fit_peak(positions, detail / detail.max())
    stage_um, sharpness = np.concatenate(all_positions), np.concatenate(all_detail)
    order = np.argsort(stage_um, kind="stable")
    return FocusCurve(best, contrast, stage_um[order], sharpness[order])
