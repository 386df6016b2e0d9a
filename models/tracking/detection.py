"""How well emitters are found: what the existence of tracks is computed from, estimated while the run goes on.

Misses come in bursts (an emitter that is hidden by another one stays hidden
for a while), so the probability of a detection depends on whether the track
was seen in the frame before: a Markov chain with two states.

The volume is the box of all localizations so far. The probability of a
localization is that of the network, so its odds are the ratio of real to false
localizations like it; the density of real ones is the sum of the
probabilities over the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Densities", "Detection"]

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PRIOR = np.array([[9.0, 10.0], [3.0, 5.0]])
"""Detections and trials, after a frame with a detection and after one without."""

_KEPT = 0.99
"""Weight of the trials so far, from frame to frame."""

_SMALLEST_BOX_UM = np.array([50.0, 50.0, 20.0])
_MARGIN_UM = 5.0
"""How far outside the box an emitter may still be found."""

_LEAST_NEW_SHARE, _LEAST_NEW = 0.02, 0.1
"""Localizations of emitters without a track are never fewer than this share of all, and this number, per frame."""


@dataclass(frozen=True, slots=True)
class Densities:
    """Real localizations per µm³ in a frame.

    Attributes
    ----------
    real : of all emitters
    new : of emitters that have no track
    """

    real: float
    new: float


class Detection:
    """Detection probability and density of emitters of a run."""

    def __init__(self) -> None:
        self._trials = _PRIOR.copy()
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)
        self._real: float | None = None

    def probability(self, seen_before: Bools) -> F64:
        """Probability that an emitter is found, by whether it was found in the frame before."""
        (hit_found, hit_trials), (miss_found, miss_trials) = self._trials.tolist()
        after_hit, after_miss = hit_found / hit_trials, miss_found / miss_trials
        result: F64 = np.where(seen_before, after_hit, after_miss)
        return result

    def densities(self, measured_um: F64, odds: F64, expected: float) -> Densities:
        """Take the localizations of a frame.

        Parameters
        ----------
        measured_um : ndarray of float64, shape (3, K)
        odds : ndarray of float64, shape (K,)
            That they are real.
        expected : float
            Number of localizations expected from the tracks.
        """
        now, volume = _crowd(np.ascontiguousarray(measured_um), odds, self._low, self._high)
        self._real = now if self._real is None else self._real + 0.1 * (now - self._real)
        new = max(now - expected, _LEAST_NEW_SHARE * self._real, _LEAST_NEW)
        return Densities(max(self._real, new, 0.5) / volume, new / volume)

    def outside(self, position_um: F64) -> Bools:
        """Which positions, shape (3, N), are outside the box of all localizations so far."""
        result: Bools = _outside(np.ascontiguousarray(position_um), self._low, self._high)
        return result

    def learn(self, seen_before: Bools, seen: Bools) -> None:
        """Take whether tracks that surely exist were found, in the frame before and in this one; shape (N,)."""
        _learn(self._trials, seen_before, seen)


@numba.njit(cache=True, nogil=True)
def _crowd(measured: Any, odds: Any, low: Any, high: Any) -> Any:
    """Widen the box to the localizations; the number of real ones and the volume of the box."""
    now, volume = 0.0, 1.0
    for n in range(len(odds)):
        now += odds[n] / (1 + odds[n])
    for axis in range(3):
        for n in range(len(odds)):
            low[axis], high[axis] = min(low[axis], measured[axis, n]), max(high[axis], measured[axis, n])
        volume *= max(high[axis] - low[axis], _SMALLEST_BOX_UM[axis])
    return now, volume


@numba.njit(cache=True, nogil=True)
def _outside(position: Any, low: Any, high: Any) -> Any:
    outside = np.zeros(position.shape[1], np.bool_)
    if not np.isfinite(low[0]):
        return outside  # no localization so far
    for axis in range(3):
        middle, half = (high[axis] + low[axis]) / 2, (high[axis] - low[axis]) / 2
        reach = max(half, _SMALLEST_BOX_UM[axis] / 2) + _MARGIN_UM
        for n in range(position.shape[1]):
            outside[n] |= abs(position[axis, n] - middle) > reach
    return outside


@numba.njit(cache=True, nogil=True)
def _learn(trials: Any, seen_before: Any, seen: Any) -> None:
    for row in range(2):
        for column in range(2):
            trials[row, column] = trials[row, column] * _KEPT + _PRIOR[row, column] * (1 - _KEPT)
    for n in range(len(seen)):
        row = 0 if seen_before[n] else 1
        trials[row, 1] += 1
        trials[row, 0] += seen[n]
