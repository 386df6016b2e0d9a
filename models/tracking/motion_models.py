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
elementwise. Tracks are the last axis of all arrays: the others are short, and compiled loops are fast along long ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bank",
    "Gaussians",
    "combined",
    "log_likelihood",
    "mix",
    "pair_likelihoods",
    "posterior",
    "predict",
    "update",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

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
    count = weights.shape[1]
    mixed: tuple[Gaussians, F64] = _mix(
        np.ascontiguousarray(gaussians), np.ascontiguousarray(weights), np.full(count, stay), shares
    )
    return mixed


@numba.njit(cache=True, nogil=True)
def _mix(gaussians: Any, weights: Any, stay: Any, shares: Any) -> Any:
    _, models, axes, count = gaussians.shape
    mixed, total, own = np.empty_like(gaussians), np.empty_like(weights), np.empty_like(weights)
    for m in range(models):
        for n in range(count):
            kept = stay[n] * weights[m, n]
            total[m, n] = kept + (1 - stay[n]) * shares[m]
            own[m, n] = kept / total[m, n]
    all_moments = np.zeros((5, axes, count))
    for axis in range(axes):
        moments = all_moments[:, axis]
        _add_moments(gaussians[:, :, axis], weights, moments)
        for m in range(models):
            for n in range(count):
                # About the mean over the models, so that nothing large is subtracted.
                away_p = gaussians[0, m, axis, n] - moments[0, n]
                away_v = gaussians[1, m, axis, n] - moments[1, n]
                shift_p, shift_v = own[m, n] * away_p, own[m, n] * away_v
                mixed[0, m, axis, n] = moments[0, n] + shift_p
                mixed[1, m, axis, n] = moments[1, n] + shift_v
                pp = gaussians[2, m, axis, n] + away_p * away_p
                pv = gaussians[3, m, axis, n] + away_p * away_v
                vv = gaussians[4, m, axis, n] + away_v * away_v
                mixed[2, m, axis, n] = moments[2, n] + own[m, n] * (pp - moments[2, n]) - shift_p * shift_p
                mixed[3, m, axis, n] = moments[3, n] + own[m, n] * (pv - moments[3, n]) - shift_p * shift_v
                mixed[4, m, axis, n] = moments[4, n] + own[m, n] * (vv - moments[4, n]) - shift_v * shift_v
    return mixed, total


@numba.njit(cache=True, nogil=True)
def _add_moments(gaussians: Any, weights: Any, moments: Any) -> None:
    """Add mean and covariance over the models along one axis, (5, M, N), to `moments` (5, N), which are 0."""
    models, count = weights.shape
    for m in range(models):
        for n in range(count):
            moments[0, n] += weights[m, n] * gaussians[0, m, n]
            moments[1, n] += weights[m, n] * gaussians[1, m, n]
    for m in range(models):
        for n in range(count):
            away_p, away_v = gaussians[0, m, n] - moments[0, n], gaussians[1, m, n] - moments[1, n]
            moments[2, n] += weights[m, n] * (gaussians[2, m, n] + away_p * away_p)
            moments[3, n] += weights[m, n] * (gaussians[3, m, n] + away_p * away_v)
            moments[4, n] += weights[m, n] * (gaussians[4, m, n] + away_v * away_v)


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
    count = gaussians.shape[3]
    ahead: Gaussians = _predict(
        np.ascontiguousarray(gaussians),
        np.full(count, step_s, np.float64),
        bank.diffusion_um2_s,
        bank.acceleration_um2_s3,
        bank.directed,
        bank.memory_s,
        bank.speed_um_s,
    )
    return ahead


@numba.njit(cache=True, nogil=True)
def _predict(
    gaussians: Any, steps_s: Any, diffusion: Any, acceleration: Any, directed: Any, memory_s: float, speed: float
) -> Any:
    _, models, axes, count = gaussians.shape
    ahead = np.empty_like(gaussians)
    kept = np.exp(-np.abs(steps_s) / memory_s)
    for m in range(models):
        lengths = np.abs(steps_s)
        spread = 2 * diffusion[m] * lengths + acceleration[m] * lengths**3 / 3
        for axis in range(axes):
            position, velocity = gaussians[0, m, axis], gaussians[1, m, axis]
            pp, pv, vv = gaussians[2, m, axis], gaussians[3, m, axis], gaussians[4, m, axis]
            for n in range(count):
                step, length = steps_s[n], abs(steps_s[n])
                if directed[m]:
                    coupled = pv[n] + step * vv[n]
                    ahead[0, m, axis, n] = position[n] + step * velocity[n]
                    ahead[1, m, axis, n] = velocity[n]
                    ahead[2, m, axis, n] = pp[n] + step * (pv[n] + coupled) + spread[n]
                    ahead[3, m, axis, n] = coupled + acceleration[m] * step * length / 2
                    ahead[4, m, axis, n] = vv[n] + acceleration[m] * length
                else:
                    ahead[0, m, axis, n] = position[n]
                    ahead[1, m, axis, n] = kept[n] * velocity[n]
                    ahead[2, m, axis, n] = pp[n] + spread[n]
                    ahead[3, m, axis, n] = kept[n] * pv[n]
                    ahead[4, m, axis, n] = kept[n] ** 2 * vv[n] + speed**2 * (1 - kept[n] ** 2)
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
    each = np.arange(position_um.shape[2])
    parts = (np.ascontiguousarray(part) for part in (position_um, spread_um2, measured_um, variance_um2))
    position, spread, measured, variance = parts
    logs: F64 = _log_likelihood(position, spread, each, measured, variance, each)
    return logs


def pair_likelihoods(
    gaussians: Gaussians, weights: F64, tracks: I64, measured_um: F64, variance_um2: F64, hits: I64
) -> tuple[F64, F64]:
    """Log-likelihoods of pairs of a track and a localization.

    Parameters
    ----------
    gaussians, weights : ndarray, shapes (5, M, 3, N) and (M, N)
    tracks, hits : ndarray of int64, shape (P,)
        Rows of the tracks and of the localizations.
    measured_um, variance_um2 : ndarray of float64, shape (3, K)

    Returns
    -------
    logs : ndarray of float64, shape (M, P)
        Under each model.
    density : ndarray of float64, shape (P,)
        Over all models.
    """
    gaussians = np.ascontiguousarray(gaussians)
    measured, variance = np.ascontiguousarray(measured_um), np.ascontiguousarray(variance_um2)
    logs = _log_likelihood(gaussians[0], gaussians[2], tracks, measured, variance, hits)
    return logs, _over_models(np.ascontiguousarray(weights), tracks, logs)


@numba.njit(cache=True, nogil=True)
def _log_likelihood(position: Any, spread: Any, tracks: Any, measured: Any, variance: Any, hits: Any) -> Any:
    models, axes, _ = position.shape
    count = len(tracks)
    logs = np.empty((models, count))
    for m in range(models):
        for p in range(count):
            square, volume = 0.0, 1.0
            for axis in range(axes):
                innovation = spread[m, axis, tracks[p]] + variance[axis, hits[p]]
                residual = measured[axis, hits[p]] - position[m, axis, tracks[p]]
                square += residual * residual / innovation
                volume *= innovation
            # The logarithm of the product is one logarithm instead of three.
            logs[m, p] = -0.5 * (square + np.log(volume) + LOG_2PI_3)
    return logs


@numba.njit(cache=True, nogil=True)
def _over_models(weights: Any, tracks: Any, logs: Any) -> Any:
    models, count = logs.shape
    density = np.empty(count)
    for p in range(count):
        best = logs[0, p]
        for m in range(1, models):
            best = max(best, logs[m, p])
        total = 0.0
        for m in range(models):
            total += weights[m, tracks[p]] * np.exp(logs[m, p] - best)
        density[p] = best + np.log(total)
    return density


def posterior(weights: F64, logs: F64) -> F64:
    """Probabilities of the models after measurements with the log-likelihoods `logs`; all of shape (M, N)."""
    after: F64 = _posterior(np.ascontiguousarray(weights), np.ascontiguousarray(logs))
    return after


@numba.njit(cache=True, nogil=True)
def _posterior(weights: Any, logs: Any) -> Any:
    models, count = logs.shape
    after = np.empty_like(logs)
    for n in range(count):
        best = logs[0, n]
        for m in range(1, models):
            best = max(best, logs[m, n])
        total = 0.0
        for m in range(models):
            after[m, n] = weights[m, n] * np.exp(logs[m, n] - best)
            total += after[m, n]
        for m in range(models):
            after[m, n] /= total
    return after


def update(gaussians: Gaussians, measured_um: F64, variance_um2: F64) -> Gaussians:
    """Correct predictions, shape (5, M, 3, N), by measured positions and their variances, shape (3, N)."""
    corrected: Gaussians = _update(
        np.ascontiguousarray(gaussians), np.ascontiguousarray(measured_um), np.ascontiguousarray(variance_um2)
    )
    return corrected


@numba.njit(cache=True, nogil=True)
def _update(gaussians: Any, measured: Any, variance: Any) -> Any:
    _, models, axes, count = gaussians.shape
    corrected = np.empty_like(gaussians)
    for m in range(models):
        for axis in range(axes):
            for n in range(count):
                pp, pv = gaussians[2, m, axis, n], gaussians[3, m, axis, n]
                innovation = pp + variance[axis, n]
                residual = (measured[axis, n] - gaussians[0, m, axis, n]) / innovation
                kept = variance[axis, n] / innovation
                corrected[0, m, axis, n] = gaussians[0, m, axis, n] + pp * residual
                corrected[1, m, axis, n] = gaussians[1, m, axis, n] + pv * residual
                corrected[2, m, axis, n] = pp * kept
                corrected[3, m, axis, n] = pv * kept
                corrected[4, m, axis, n] = gaussians[4, m, axis, n] - pv * pv / innovation
    return corrected


def combined(gaussians: Gaussians, weights: F64) -> F64:
    """Mean and covariance over the models, shape (5, 3, N), in the order of `Gaussians`."""
    moments: F64 = _combined(np.ascontiguousarray(gaussians), np.ascontiguousarray(weights))
    return moments


@numba.njit(cache=True, nogil=True)
def _combined(gaussians: Any, weights: Any) -> Any:
    _, _, axes, count = gaussians.shape
    moments = np.zeros((5, axes, count))
    for axis in range(axes):
        _add_moments(gaussians[:, :, axis], weights, moments[:, axis])
    return moments
