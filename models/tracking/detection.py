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
        after_hit, after_miss = self._trials[:, 0] / self._trials[:, 1]
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
        if measured_um.shape[1]:
            self._low = np.minimum(self._low, measured_um.min(axis=1))
            self._high = np.maximum(self._high, measured_um.max(axis=1))
        now = float((odds / (1 + odds)).sum())
        self._real = now if self._real is None else self._real + 0.1 * (now - self._real)
        volume = float(np.prod(np.maximum(self._high - self._low, _SMALLEST_BOX_UM)))
        new = max(now - expected, _LEAST_NEW_SHARE * self._real, _LEAST_NEW)
        return Densities(max(self._real, new, 0.5) / volume, new / volume)

    def outside(self, position_um: F64) -> Bools:
        """Which positions, shape (3, N), are outside the box of all localizations so far."""
        if not np.isfinite(self._low).all():
            return np.zeros(position_um.shape[1], bool)
        middle, half = (self._high + self._low) / 2, (self._high - self._low) / 2
        reach = np.maximum(half, _SMALLEST_BOX_UM / 2) + _MARGIN_UM
        result: Bools = (np.abs(position_um - middle[:, None]) > reach[:, None]).any(axis=0)
        return result

    def learn(self, seen_before: Bools, seen: Bools) -> None:
        """Take whether tracks that surely exist were found, in the frame before and in this one; shape (N,)."""
        both, now, before = (np.count_nonzero(each) for each in (seen & seen_before, seen, seen_before))
        new = np.array([[both, before], [now - both, len(seen) - before]])
        self._trials = self._trials * _KEPT + _PRIOR * (1 - _KEPT) + new
