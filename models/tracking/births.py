"""New tracks: where they begin, and with which velocity.

One localization has no velocity. Where emitters flow together, the velocity of
the neighbours is the best guess: the directed model of a new track begins with
their mean, weighted by distance, and with their spread. The other models begin
at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numba
import numpy as np
from numpy.typing import NDArray

from models.tracking.association import pairs_near
from models.tracking.motion_models import Gaussians
from models.tracking.noise import ProcessNoise

__all__ = ["Flow", "new_tracks"]

F64 = NDArray[np.float64]

_REACH_UM = 12.0
"""Distance at which a neighbour's weight is exp(-1/2)."""

_FARTHEST_UM = 3 * _REACH_UM

_LEAST_WEIGHT = 0.3
_LEAST_TRACKS = 3
_SHEAR_UM_S, _RELATIVE_SHEAR = 60.0, 0.3
"""Standard deviation of the velocity against that of the neighbours: a constant and a share of the speed."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Positions (µm) and velocities (µm/s) of sure tracks, shape (N, 3) each."""

    position_um: F64
    velocity_um_s: F64

    LEAST_HITS: ClassVar[int] = 5
    """Localizations that a track must have for its velocity to be known."""

    @classmethod
    def of(cls, moments: F64, sure: NDArray[np.bool_]) -> Flow:
        """The flow of the sure ones among tracks with the moments (5, 3, N)."""
        return cls(moments[0, :, sure], moments[1, :, sure])

    def at(self, places_um: F64) -> tuple[F64, F64, NDArray[np.bool_]]:
        """Mean velocity (K, 3), its variance (K, 3), and whether there are neighbours (K,), at places (K, 3)."""
        count = len(places_um)
        places, tracks = pairs_near(places_um.T, np.full(count, _FARTHEST_UM), self.position_um.T)
        known: tuple[F64, F64, NDArray[np.bool_]] = _neighbours(
            np.ascontiguousarray(places_um),
            np.ascontiguousarray(self.position_um),
            np.ascontiguousarray(self.velocity_um_s),
            places,
            tracks,
        )
        return known

    def __len__(self) -> int:
        return len(self.position_um)


@numba.njit(cache=True, nogil=True)
def _neighbours(at: Any, position: Any, velocity: Any, places: Any, tracks: Any) -> Any:
    """Mean and variance of the velocity over the pairs of each place, and whether there are enough of them."""
    count = len(at)
    total, mean, square = np.zeros(count), np.zeros((count, 3)), np.zeros((count, 3))
    for p in range(len(places)):
        place, track = places[p], tracks[p]
        distance = 0.0
        for axis in range(3):
            distance += (at[place, axis] - position[track, axis]) ** 2
        weight = np.exp(-0.5 / _REACH_UM**2 * distance)
        total[place] += weight
        for axis in range(3):
            mean[place, axis] += weight * velocity[track, axis]
            square[place, axis] += weight * velocity[track, axis] ** 2
    variance = np.empty((count, 3))
    for place in range(count):
        speed = 0.0
        for axis in range(3):
            mean[place, axis] /= max(total[place], 1e-9)
            speed += mean[place, axis] ** 2
        shear = _SHEAR_UM_S**2 + _RELATIVE_SHEAR**2 * speed
        for axis in range(3):
            spread = square[place, axis] / max(total[place], 1e-9) - mean[place, axis] ** 2
            variance[place, axis] = max(spread, 0.0) + shear
    return mean, variance, total > _LEAST_WEIGHT


def new_tracks(measured_um: F64, variance_um2: F64, noise: ProcessNoise, flow: Flow) -> tuple[Gaussians, F64]:
    """Tracks that begin at measured positions.

    Parameters
    ----------
    measured_um, variance_um2 : ndarray of float64, shape (3, K)
    noise : ProcessNoise
    flow : Flow

    Returns
    -------
    gaussians, weights : ndarray, shapes (5, M, 3, K) and (M, K)
    """
    count, models = measured_um.shape[1], len(noise)
    gaussians = np.zeros((5, models, 3, count))
    gaussians[0] = measured_um
    gaussians[2] = variance_um2
    gaussians[4] = (noise.birth_speeds_um_s() ** 2)[:, None, None]
    if count and len(flow) >= _LEAST_TRACKS:
        mean, variance, known = flow.at(measured_um.T)
        gaussians[1, noise.flow_model][:, known] = mean[known].T
        gaussians[4, noise.flow_model][:, known] = variance[known].T
    return gaussians, np.repeat(noise.birth_shares()[:, None], count, axis=1)
