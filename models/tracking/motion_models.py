"""A bank of interacting motion models, for all tracks at once.

Each track carries one Gaussian for each model, and the probability of each
model. The models of the bank:

- *stationary* and *diffusive*: the position takes independent random steps
  with variance 2 D t along each axis; the velocity is forgotten.
- *directed*: constant velocity, disturbed by white acceleration with the
  spectral density q: the velocity changes by a variance q t in the time t.

Before each prediction the models of a track interact: with the probability
1 - s a track changes its model, and the new model is drawn from the shares of
the models in the run (interacting multiple models: Blom and Bar-Shalom, IEEE
Transactions on Automatic Control 33, 780, 1988; with the transition matrix
s I + (1 - s) 1 πᵀ the mixing needs the moments over all models only once).

The axes are independent: measurement noise is given along the axes, the
process noise is equal along all axes, and of the covariance that the mixing
adds between axes only the diagonal is kept. So a Gaussian is a mean and a
2 x 2 covariance of position and velocity for each axis, and every step is
elementwise on arrays of shape (tracks, models, axes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bank", "Gaussians", "combined", "log_likelihood", "mix", "predict", "update"]

F64 = NDArray[np.float64]

Gaussians = F64
"""Means and covariances, shape (5, N, M, 3): position (µm), velocity (µm/s), variance of the position, covariance of
position and velocity, variance of the velocity, of N tracks, M models and the axes x, y, z."""

LOG_2PI_3 = float(3 * np.log(2 * np.pi))


@dataclass(frozen=True)
class Bank:
    """The motion models of a run.

    Attributes
    ----------
    diffusion_um2_s : ndarray of float64, shape (M,)
        Diffusion coefficient of each model, µm²/s.
    acceleration_um2_s3 : ndarray of float64, shape (M,)
        Spectral density of the acceleration, µm²/s³; 0 for models without velocity.
    directed : ndarray of bool, shape (M,)
        Whether the velocity carries the position.
    memory_s : float
        Time after which models without velocity have forgotten it, s.
    speed_um_s : float
        Standard deviation of a forgotten velocity along each axis, µm/s.
    """

    diffusion_um2_s: F64
    acceleration_um2_s3: F64
    directed: NDArray[np.bool_]
    memory_s: float
    speed_um_s: float

    def __len__(self) -> int:
        return len(self.directed)


def mix(gaussians: Gaussians, weights: F64, stay: float | F64, shares: F64) -> tuple[Gaussians, F64]:
    """Let the models of each track interact.

    Parameters
    ----------
    gaussians : ndarray, shape (5, N, M, 3)
    weights : ndarray of float64, shape (N, M)
        Probability of each model.
    stay : float or ndarray of float64, shape (N, 1)
        Probability that a track keeps its model.
    shares : ndarray of float64, shape (M,)
        Probability of each model after a change.

    Returns
    -------
    gaussians, weights
        Before the prediction; same shapes.
    """
    kept = stay * weights
    drawn = (1 - stay) * shares
    total = kept + drawn
    fraction = (kept / total)[:, :, None]
    centred = gaussians[:2] - np.einsum("nm,knma->kna", weights, gaussians[:2])[:, :, None]
    moments = gaussians.copy()
    moments[:2] = centred
    moments[2] += centred[0] ** 2
    moments[3] += centred[0] * centred[1]
    moments[4] += centred[1] ** 2
    overall = np.einsum("nm,knma->kna", weights, moments)[:, :, None]
    mixed = fraction * moments + (1 - fraction) * overall
    mixed[2] -= mixed[0] ** 2
    mixed[3] -= mixed[0] * mixed[1]
    mixed[4] -= mixed[1] ** 2
    mixed[:2] += gaussians[:2] - centred
    return mixed, total


def predict(gaussians: Gaussians, bank: Bank, step_s: float | F64) -> Gaussians:
    """Carry all Gaussians forward in time.

    The process noise of the directed models is that of white acceleration in continuous time (Bar-Shalom, Li and
    Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, section 6.2.2).

    Parameters
    ----------
    gaussians : ndarray, shape (5, N, M, 3)
    bank : Bank
    step_s : float or ndarray of float64, shape (N,)
        Time to carry them, s; negative steps carry them back.
    """
    position, velocity, pp, pv, vv = gaussians
    step = np.asarray(step_s)[..., None]
    length = np.abs(step)
    # Coefficients of each model (and track, where the steps differ), with an axis for x, y, z.
    carried = np.where(bank.directed, step, 0.0)[..., None]
    kept = np.where(bank.directed, 1.0, np.exp(-length / bank.memory_s))[..., None]
    forgotten = np.where(bank.directed, 0.0, bank.speed_um_s**2)[:, None] * (1 - kept**2)
    density = bank.acceleration_um2_s3
    noise_pp = (2 * bank.diffusion_um2_s * length + density * length**3 / 3)[..., None]
    noise_pv = (density * step * length / 2)[..., None]
    noise_vv = (density * length)[..., None] + forgotten
    ahead = np.empty_like(gaussians)
    ahead[0] = position + carried * velocity
    ahead[1] = kept * velocity
    ahead[2] = pp + carried * (2 * pv + carried * vv) + noise_pp
    ahead[3] = kept * (pv + carried * vv) + noise_pv
    ahead[4] = kept**2 * vv + noise_vv
    return ahead


def log_likelihood(gaussians: Gaussians, measured_um: F64, variance_um2: F64) -> F64:
    """Log-likelihood of a measured position of each track under each model, shape (N, M).

    Parameters
    ----------
    gaussians : ndarray, shape (5, N, M, 3)
        Predicted.
    measured_um, variance_um2 : ndarray of float64, shape (N, 3)
        Positions, µm, and their variances along the axes, µm².
    """
    spread = gaussians[2] + variance_um2[:, None]
    residual = measured_um[:, None] - gaussians[0]
    # The logarithm of the product is one logarithm instead of three.
    volume = spread[..., 0] * spread[..., 1] * spread[..., 2]
    result: F64 = -0.5 * ((residual * residual / spread).sum(axis=2) + np.log(volume) + LOG_2PI_3)
    return result


def update(gaussians: Gaussians, weights: F64, measured_um: F64, variance_um2: F64) -> tuple[Gaussians, F64]:
    """Correct predictions by measured positions, and the probabilities of the models by their likelihoods.

    Parameters
    ----------
    gaussians : ndarray, shape (5, N, M, 3)
        Predicted.
    weights : ndarray of float64, shape (N, M)
    measured_um, variance_um2 : ndarray of float64, shape (N, 3)

    Returns
    -------
    gaussians, weights
        Same shapes.
    """
    logs = log_likelihood(gaussians, measured_um, variance_um2)
    posterior = weights * np.exp(logs - logs.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    variance = variance_um2[:, None]
    spread = gaussians[2] + variance
    residual = (measured_um[:, None] - gaussians[0]) / spread
    corrected = np.empty_like(gaussians)
    corrected[0] = gaussians[0] + gaussians[2] * residual
    corrected[1] = gaussians[1] + gaussians[3] * residual
    remaining = variance / spread
    corrected[2] = gaussians[2] * remaining
    corrected[3] = gaussians[3] * remaining
    corrected[4] = gaussians[4] - gaussians[3] ** 2 / spread
    return corrected, posterior


def combined(gaussians: Gaussians, weights: F64) -> F64:
    """Mean and covariance over the models, shape (5, N, 3), in the order of `Gaussians`."""
    means = np.einsum("nm,knma->kna", weights, gaussians)
    away = gaussians[:2] - means[:2, :, None]
    means[2] += np.einsum("nm,nma->na", weights, away[0] ** 2)
    means[3] += np.einsum("nm,nma->na", weights, away[0] * away[1])
    means[4] += np.einsum("nm,nma->na", weights, away[1] ** 2)
    return means
