"""How wrong a map of static light is, as a variance of each pixel for a fit.

The map has errors that neighbouring pixels share, so they matter as much as
independent errors that are larger by the square root of the number of pixels:
the variance is the mean square of the error over squares of 8 x 8 pixels,
times 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.binning import whole_bins

__all__ = ["BENEATH_TRACKS", "FROM_FRAMES", "error_variance_e2"]

F32 = NDArray[np.float32]

FROM_FRAMES = 0.3
"""Error of the estimate from frames alone, in the standard deviation of its structure. Light of emitters that never
leaves a place is a part of it."""
BENEATH_TRACKS = 0.15
"""The same, at least, of a map that was fitted together with tracks."""

_SHARED_PX = 8


def error_variance_e2(light_e: F32, share: float, before_e: F32 | None = None) -> float:
    """Variance of a pixel for the error of a map, photo-electrons squared.

    Parameters
    ----------
    light_e : ndarray of float32, shape (H, W)
        Photo-electrons.
    share : float
        Least error, in the standard deviation of the structure; maps of several rounds may agree in an error.
    before_e : ndarray of float32, shape (H, W), optional
        The map of the round before: the error is about as large as its change.
    """
    now = _squares(light_e)
    if now.size == 0:
        return 0.0
    change = 0.0 if before_e is None else float(np.mean((now - _squares(before_e)) ** 2))
    return _SHARED_PX**2 * max(change, share**2 * float(np.var(now)))


def _squares(light_e: F32) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = whole_bins(light_e.astype(np.float64), _SHARED_PX) / _SHARED_PX**2
    return squares
