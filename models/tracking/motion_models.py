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
elementwise. Tracks are the last axis of all arrays: the others are short, and numpy is fast along long ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bank", "Gaussians", "combined", "log_likelihood", "mix", "posterior", "predict", "update"]

F64 = NDArray[np.float64]

Gaussians = F64
"""Means and covariances, shape (5, M, 3, N): position (µm), velocity (µm/s), variance of the position, covariance of
position and velocity, variance of the velocity; of M models, the axes x, y, z, and N tracks."""

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
    gaussians : ndarray, shape (5, M, 3, N)
    weights : ndarray of float64, shape (M, N)
        Probability of each model.
    stay : float or ndarray of float64, shape (N,)
        Probability that a track keeps its model.
    shares : ndarray of float64, shape (M,)
        Probability of each model after a change.

    Returns
    -------
    gaussians, weights
        Before the prediction; same shapes.
    """
    kept = stay * weights
    total = kept + (1 - stay) * shares[:, None]
    own = (kept / total)[:, None]
    each = weights[:, None]
    mean = (each * gaussians[:2]).sum(axis=1)
    # About the mean over the models, so that the means over the models are 0 and nothing large is subtracted.
    away = gaussians[:2] - mean[:, None]
    second = gaussians[2:].copy()
    second[:2] += away[0] * away
    second[2] += away[1] * away[1]
    overall = (each * second).sum(axis=1)[:, None]
    mixed = np.empty_like(gaussians)
    shift = own * away
    mixed[:2] = mean[:, None] + shift
    mixed[2:] = overall + own * (second - overall)
    mixed[2:4] -= shift[0] * shift
    mixed[4] -= shift[1] * shift[1]
    return mixed, total


def predict(gaussians: Gaussians, bank: Bank, step_s: float | F64) -> Gaussians:
    """Carry all Gaussians forward in time.

    The process noise of the directed models is that of white acceleration in continuous time (Bar-Shalom, Li and
    Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, section 6.2.2).

    Parameters
    ----------
    gaussians : ndarray, shape (5, M, 3, N)
    bank : Bank
    step_s : float or ndarray of float64, shape (N,)
        Time to carry them, s; negative steps carry them back.
    """
    position, velocity, pp, pv, vv = gaussians
    # One coefficient for each model, and for each track where the steps differ: shape (M, 1, 1) or (M, 1, N).
    step = np.atleast_1d(np.asarray(step_s, np.float64))
    length = np.abs(step)
    directed = bank.directed[:, None, None]
    density = bank.acceleration_um2_s3[:, None, None]
    carried = directed * step
    kept = np.where(directed, 1.0, np.exp(-length / bank.memory_s))
    forgotten = bank.speed_um_s**2 * (1 - kept**2)
    coupled = pv + carried * vv
    ahead = np.empty_like(gaussians)
    ahead[0] = position + carried * velocity
    ahead[1] = kept * velocity
    ahead[2] = pp + carried * (pv + coupled)
    ahead[2] += 2 * bank.diffusion_um2_s[:, None, None] * length + density * length**3 / 3
    ahead[3] = kept * coupled + density * step * length / 2
    ahead[4] = kept**2 * vv + (density * length + forgotten)
    return ahead


def log_likelihood(position_um: F64, spread_um2: F64, measured_um: F64, variance_um2: F64) -> F64:
    """Log-likelihood of a measured position of each track under each model, shape (M, N).

    Parameters
    ----------
    position_um, spread_um2 : ndarray of float64, shape (M, 3, N)
        Predicted positions, µm, and their variances, µm².
    measured_um, variance_um2 : ndarray of float64, shape (3, N)
        Measured positions, µm, and their variances along the axes, µm².
    """
    innovation = spread_um2 + variance_um2
    residual = measured_um - position_um
    residual *= residual
    residual /= innovation
    # The logarithm of the product is one logarithm instead of three.
    volume = innovation[:, 0] * innovation[:, 1] * innovation[:, 2]
    result: F64 = -0.5 * (residual.sum(axis=1) + np.log(volume) + LOG_2PI_3)
    return result


def posterior(weights: F64, logs: F64) -> F64:
    """Probabilities of the models after measurements with the log-likelihoods `logs`; all of shape (M, N)."""
    likely: F64 = weights * np.exp(logs - logs.max(axis=0))
    likely /= likely.sum(axis=0)
    return likely


def update(gaussians: Gaussians, measured_um: F64, variance_um2: F64) -> Gaussians:
    """Correct predictions, shape (5, M, 3, N), by measured positions and their variances, shape (3, N)."""
    innovation = gaussians[2] + variance_um2
    residual = (measured_um - gaussians[0]) / innovation
    corrected = np.empty_like(gaussians)
    corrected[:2] = gaussians[:2] + gaussians[2:4] * residual
    corrected[2:4] = gaussians[2:4] * (variance_um2 / innovation)
    corrected[4] = gaussians[4] - gaussians[3] ** 2 / innovation
    return corrected


def combined(gaussians: Gaussians, weights: F64) -> F64:
    """Mean and covariance over the models, shape (5, 3, N), in the order of `Gaussians`."""
    each = weights[:, None]
    moments: F64 = (each * gaussians).sum(axis=1)
    away = gaussians[:2] - moments[:2, None]
    weighted = each * away
    moments[2:4] += (weighted[0] * away).sum(axis=1)
    moments[4] += (weighted[1] * away[1]).sum(axis=0)
    return moments
