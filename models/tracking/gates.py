"""Gates: where a localization of a track may be.

Each motion model of a track has a gate, an ellipsoid around its prediction.
Candidates are searched in a ball that holds all of them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.tracking.motion_models import Gaussians

__all__ = ["gates", "reflected"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_LEAST_WEIGHT = 2e-4
"""Models below this probability do not widen the gate of a track. The gate must hold a change to any model."""


def gates(gaussians: Gaussians, weights: F64, gate: float, largest_variance_um2: float) -> tuple[F64, F64]:
    """Centre (3, N) and radius (N,) of a ball that holds the gates of all models of a track, µm.

    Parameters
    ----------
    gaussians, weights : ndarray, shapes (5, M, 3, N) and (M, N)
    gate : float
        Largest squared Mahalanobis distance.
    largest_variance_um2 : float
        Of the localizations of the frame.
    """
    balls: tuple[F64, F64] = _gates(
        np.ascontiguousarray(gaussians), np.ascontiguousarray(weights), gate, largest_variance_um2
    )
    return balls


@numba.njit(cache=True, nogil=True)
def _gates(gaussians: Any, weights: Any, gate: float, variance: float) -> Any:
    _, models, axes, count = gaussians.shape
    centre, reach = np.zeros((axes, count)), np.zeros(count)
    for m in range(models):
        for axis in range(axes):
            for n in range(count):
                centre[axis, n] += weights[m, n] * gaussians[0, m, axis, n]
    for m in range(models):
        for n in range(count):
            if weights[m, n] > _LEAST_WEIGHT:
                away, spread = 0.0, 0.0
                for axis in range(axes):
                    away = max(away, abs(gaussians[0, m, axis, n] - centre[axis, n]))
                    spread = max(spread, gaussians[2, m, axis, n])
                reach[n] = max(reach[n], np.sqrt(gate * (spread + variance)) + away)
    return centre, reach


def reflected(
    gaussians: Gaussians, weights: F64, gate: float, depth_um: F64, tracks: I64, measured_um: F64, variance_um2: F64
) -> Bools:
    """Pairs that only a reversal at focus would explain: the track is predicted on the other side of focus.

    A particle that falls through focus is found at |z|. There, only the most probable model may explain a
    localization, and not a change of motion.

    Parameters
    ----------
    gaussians, weights : ndarray, shapes (5, M, 3, N) and (M, N)
    gate : float
        Largest squared distance along z, in variances.
    depth_um : ndarray of float64, shape (N,)
        Predicted depths.
    tracks : ndarray of int64, shape (P,)
        Rows of the tracks.
    measured_um, variance_um2 : ndarray of float64, shape (P,)
        Measured depths and their variances.
    """
    gaussians = np.ascontiguousarray(gaussians)
    far: Bools = _reflected(
        gaussians[0, :, 2],
        gaussians[2, :, 2],
        np.ascontiguousarray(weights),
        gate,
        depth_um,
        tracks,
        measured_um,
        variance_um2,
    )
    return far


@numba.njit(cache=True, nogil=True)
def _reflected(
    position: Any, spread: Any, weights: Any, gate: float, depth: Any, tracks: Any, measured: Any, variance: Any
) -> Any:
    far = np.zeros(len(tracks), np.bool_)
    for p in range(len(tracks)):
        track = tracks[p]
        if depth[track] * measured[p] < 0:
            model = 0
            for m in range(1, len(weights)):
                if weights[m, track] > weights[model, track]:
                    model = m
            away = measured[p] - position[model, track]
            far[p] = away * away > gate * (spread[model, track] + variance[p])
    return far
