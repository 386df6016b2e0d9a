"""Search for focus: the position of the drive at which the image has most fine detail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from models.calibration.sweep import fine_detail, fit_peak
from models.errors import DataError
from service.engine.sweep.drive import Progress, approach, go, settle

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["find_focus"]

_SEARCH_UM = 60.0
"""Half of the range of the search, µm."""

_SEARCH_STEP_UM = 4.0
"""Step of the coarse search, µm."""

_FOCUS_CONTRAST = 1.3
"""Least ratio of fine detail in the sharpest image to that in the median one; below it there is no focus."""


def find_focus(microscope: Microscope, settle_s: float, progress: Progress = lambda done, step: None) -> float:
    """Position of the drive at which the image has most fine detail, µm.

    A coarse search around the present position within the soft limits, then a
    finer one around the best.

    Raises
    ------
    DataError
        When no image is clearly sharper than the others, or the sharpest is at the end of the search.
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
            check = partial(progress, done, "searching focus")
            if index == 0:
                approach(microscope, float(position), check)
            go(microscope, float(position), check)
            settle(settle_s, check)
            check()
            detail[index] = fine_detail(microscope.snap().pixels.astype(np.float32))
        contrast = float(detail.max() / max(float(np.median(detail)), 1e-12))
        sharpest = int(detail.argmax())
        if not fraction and (contrast < _FOCUS_CONTRAST or sharpest in (0, len(detail) - 1)):
            raise DataError(
                f"No focus was found from {low:g} to {high:g} µm: the sharpest image, at {positions[sharpest]:g} µm, "
                f"has {contrast:.2f} times the fine detail of the median one (at least {_FOCUS_CONTRAST} is needed, "
                "and it must not be the first or the last).",
                "Focus on the beads by hand, check light and exposure, and start again.",
            )
        best = fit_peak(positions, detail / detail.max())
    return best
