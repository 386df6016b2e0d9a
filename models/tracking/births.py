"""New tracks: where they begin, and with which velocity.

One localization has no velocity. Where emitters flow together, the velocity of
the neighbours is the best guess: the directed model of a new track begins with
their mean, weighted by distance, and with their spread. The other models begin
at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
        square = ((places_um[places] - self.position_um[tracks]) ** 2).sum(axis=1)
        weight = np.exp(-0.5 / _REACH_UM**2 * square)
        total = np.bincount(places, weight, count)
        velocity = self.velocity_um_s[tracks]

        def mean_of(values: F64) -> F64:
            sums = [np.bincount(places, weight * column, count) for column in values.T]
            return np.stack(sums, axis=1) / np.maximum(total, 1e-9)[:, None]

        mean = mean_of(velocity)
        variance = np.maximum(mean_of(velocity**2) - mean**2, 0.0)
        shear = _SHEAR_UM_S**2 + (_RELATIVE_SHEAR**2) * (mean**2).sum(axis=1, keepdims=True)
        return mean, variance + shear, total > _LEAST_WEIGHT

    def __len__(self) -> int:
        return len(self.position_um)


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
