"""Top of a camera's range, determined from its counts.

Files of 16 bits often contain the counts of a camera of 12 or 14 bits, at the
low or the high end of the word, or with an offset subtracted. The highest count
is the top of the range when more pixels have it than have the counts right
below, since light alone would give both equally often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["top_of_range"]

# Fewest pixels at the top, and how many counts below it they are compared with.
_FEWEST_AT_TOP = 3
_BELOW_TOP = 8
# A top other than 2^n - 1 must have this many pixels, this many times more than the counts below, and they must touch
# each other at several places: clipped light forms plateaus, noise does not.
_FEWEST_AT_ODD_TOP = 20
_ODD_TOP_RATIO = 5.0
_PLATEAU_PX = 4
_FEWEST_PLATEAUS = 3
# Depths of cameras whose counts are saved as 16 bits.
_CAMERA_DEPTHS = range(8, 17)


def top_of_range(frames: NDArray[Any], bit_depth: int) -> int:
    """Count at which pixels are saturated, ADU.

    Parameters
    ----------
    frames : ndarray of unsigned integers, shape (..., H, W)
        Camera counts.
    bit_depth : int
        Bits of a count, as the file states them.
    """
    stated = (1 << bit_depth) - 1
    highest = int(frames.max())
    if highest >= stated:
        return stated
    at_top = int((frames == highest).sum())
    if at_top < _FEWEST_AT_TOP:
        return stated
    planes = frames.reshape(-1, *frames.shape[-2:])
    spacing = _spacing(planes)
    below = int((frames >= highest - _BELOW_TOP * spacing).sum()) - at_top
    if at_top > below and highest in {(2**depth - 1) * spacing for depth in _CAMERA_DEPTHS}:
        return highest
    cut_off = at_top >= max(_FEWEST_AT_ODD_TOP, _ODD_TOP_RATIO * below) and _plateaus(planes, highest)
    return highest if cut_off else stated


def _spacing(planes: NDArray[Any]) -> int:
    """Distance between the counts that occur: 16 when 12 bits are at the high end of 16."""
    counts = np.unique(planes[:: max(len(planes) // 8, 1)]).astype(np.int64)
    return max(int(np.gcd.reduce(np.diff(counts))), 1) if len(counts) > 1 else 1


def _plateaus(planes: NDArray[Any], count: int) -> bool:
    """Whether pixels with this count touch each other, at several places."""
    places = 0
    for plane in planes:
        at = plane == count
        if at.any():
            labels, _ = ndimage.label(at)
            places += int((np.bincount(labels.ravel())[1:] >= _PLATEAU_PX).sum())
        if places >= _FEWEST_PLATEAUS:
            return True
    return False
