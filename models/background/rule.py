"""The rule that decides whether a map of static light is used.

A map contains everything that stood still: autofluorescence, uneven
illumination, but also beads that do not move, and a part of the light of slow
emitters. It is used when three conditions hold.

1. It has structure: its standard deviation in squares of 8 pixels exceeds that
   of the noise of one frame there. Less structure hardly disturbs a network.
2. The structure stands still: the maps from two halves of the time correlate.
3. Emitters do not explain it: detections of the model in the map, fitted
   jointly with the model's PSF, leave at least 7 % of its variance. Immobile
   and slow emitters leave 0 to 3 %, autofluorescence 10 to 23 %.

The variances of (1) and (2) come from maps of disjoint times, so noise does
not count as structure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.background.estimator import LightEstimator
from models.binning import whole_bins
from models.camera import CameraModel

__all__ = ["EmitterShare", "has_changed", "is_static_light"]

F32 = NDArray[np.float32]

EmitterShare = Callable[[F32], float]
"""Share of the variance of a map (H, W), photo-electrons, that emitters explain; see `models.background.explained`."""

_BINNING = 8
_LEAST_STRUCTURE = 1.0
_LEAST_CORRELATION = 0.8
_MOST_EXPLAINED = 0.93
_STAYS_UNTIL = 0.95
"""A map that is in use stays until emitters explain this share, so that it does not come and go."""

_DARKER, _DARKER_SIGMAS = 0.2, 2.0
"""A square is darker than the map when it lacks this share of the light and so many standard deviations more."""

_CHANGED_SHARE = 0.08
"""Of the squares; a movie in which nothing changes has none."""


def is_static_light(
    estimator: LightEstimator, light_e: F32, camera: CameraModel, explained: EmitterShare, *, in_use: bool
) -> bool:
    """Whether the map is used.

    Parameters
    ----------
    estimator : LightEstimator
        With at least two blocks.
    light_e : ndarray of float32, shape (H, W)
        Its map.
    camera : CameraModel
    explained : EmitterShare
    in_use : bool
        Whether a map is in use already.
    """
    older, newer = (_squares(half) for half in estimator.halves())
    covariance = np.cov(older, newer)
    stands_still = float(covariance[0, 1])
    noise = (max(float(light_e.mean()), 0.0) + camera.read_noise_e**2) / _BINNING**2
    if stands_still <= _LEAST_STRUCTURE**2 * noise:
        return False
    if stands_still < _LEAST_CORRELATION * float(np.sqrt(covariance[0, 0] * covariance[1, 1])):
        return False
    return explained(light_e) < (_STAYS_UNTIL if in_use else _MOST_EXPLAINED)


def has_changed(estimator: LightEstimator, light_e: F32, camera: CameraModel) -> bool:
    """Whether frames of the newest block are darker than the map in many places, as after a move of the stage.

    Emitters only add light, so they never make a place darker.
    """
    newest, before = estimator.lowest_of_newest(), estimator.squares(light_e)
    noise = np.sqrt((np.maximum(before, 0) + camera.read_noise_e**2) / _BINNING**2)
    return float(np.mean(newest < (1 - _DARKER) * before - _DARKER_SIGMAS * noise)) > _CHANGED_SHARE


def _squares(light_e: F32) -> NDArray[np.float64]:
    """Means over squares of pixels, flat."""
    side = max(1, min(_BINNING, *(size // 4 for size in light_e.shape)))
    means: NDArray[np.float64] = whole_bins(light_e.astype(np.float64), side).ravel() / side**2
    return means
