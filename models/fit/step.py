"""One step of a joint fit, kept within bounds, compiled."""

from __future__ import annotations

from typing import Any

import numba

__all__ = ["FEWEST_PHOTONS", "apply_step"]

# Longest step, so that a poor start does not jump over its optimum: pixels, and µm or share of depth.
_LONGEST_STEP_PX = 1.5
_LONGEST_STEP_UM = 1.0
_LONGEST_STEP_OF_DEPTH = 0.05
# Photons change at most by this factor in a step.
_PHOTON_FACTOR = 4.0

FEWEST_PHOTONS = 1.0
"""Least photons of an emitter in a fit; with fewer it could not grow again."""

# A step that changes the log-likelihood by less than about the square of this is skipped, and the pattern kept.
_NEGLIGIBLE = 0.02


@numba.njit(cache=True, nogil=True)
def apply_step(emitters: Any, step: Any, scale: Any, low: Any, high: Any) -> Any:
    """Emitters after a step, within bounds.

    Parameters
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x, y (pixels), z (µm), photons.
    step : ndarray of float64, shape (4 N + 1,)
        Step of all parameters, the background last.
    scale : ndarray of float64, shape (4 N + 1,)
        Roots of the diagonal of the normal matrix: one over the step that changes the log-likelihood by a half.
    low, high : ndarray of float64, shape (N, 3)
        Bounds of positions.

    Returns
    -------
    ndarray of float64, shape (N, 4)
    """
    new = emitters.copy()
    for e in range(len(emitters)):
        stays = True
        for axis in range(3):
            stays = stays and abs(step[4 * e + axis]) * scale[4 * e + axis] < _NEGLIGIBLE
        for axis in range(3):
            if not stays:
                longest = _LONGEST_STEP_PX
                if axis == 2:
                    longest = max(_LONGEST_STEP_UM, _LONGEST_STEP_OF_DEPTH * abs(emitters[e, 2]))
                new[e, axis] += min(max(step[4 * e + axis], -longest), longest)
            new[e, axis] = min(max(new[e, axis], low[e, axis]), high[e, axis])
        photons = emitters[e, 3]
        wanted = min(max(photons + step[4 * e + 3], photons / _PHOTON_FACTOR), photons * _PHOTON_FACTOR)
        new[e, 3] = max(wanted, FEWEST_PHOTONS)
    return new
