"""Greedy selection of non-overlapping moves by likelihood gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["select_moves"]

Array = NDArray[np.float64]


def select_moves(emitters: Array, gains: Array, radius_px: Array) -> NDArray[np.bool_]:
    """Of emitters whose centres are nearer than the smaller of their radii, select the one that gains most.

    The gains of the others were estimated with that emitter at its old position.

    Parameters
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x, y (pixels), z (µm), photons, before the move.
    gains : ndarray of float64, shape (N,)
        Likelihood gain of each if it alone moved; 0 for those that should stay.
    radius_px : ndarray of float64, shape (N,)
        Radii of their patterns, pixels.

    Returns
    -------
    ndarray of bool, shape (N,)
        True for those that move.
    """
    moving = np.zeros(len(emitters), bool)
    for row in np.argsort(-gains, kind="stable"):
        apart = np.hypot(*(emitters[moving, :2] - emitters[row, :2]).T)
        moving[row] = gains[row] > 0 and bool((apart >= np.minimum(radius_px[moving], radius_px[row])).all())
    return moving
