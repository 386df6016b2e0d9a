"""Smoothed tracks: each point from the localizations before it and after it.

Which localization belongs to which track is known by then. A filter goes
through the localizations of a track forward, another one backward, with the
same motion models; at each frame the two are independent estimates, one from
the past and the present, one from the future, and their product is the
smoothed one (two-filter smoothing: Fraser and Potter, IEEE Transactions on
Automatic Control 14, 387, 1969; with interacting models, each model of the
past is paired with each model of the future: Blom and Bar-Shalom, IEEE
Conference on Decision and Control, 3117, 1990).

All tracks of a block are filtered together, step by step; a block has a bounded
number of points, so the memory does not grow with the length of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.tracking.motion_models import (
    Bank,
    Gaussians,
    combined,
    log_likelihood,
    mix,
    posterior,
    predict,
    update,
)
from models.tracking.noise import ProcessNoise

__all__ = ["Motion", "Path", "Smoothed", "filter_paths", "smooth"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_BLOCK_POINTS = 100_000


@dataclass(frozen=True, slots=True)
class Path:
    """The localizations of one track and the frames of its points.

    Attributes
    ----------
    t_s : ndarray of float64, shape (T,)
        Times of all frames from the first localization to the last, s.
    seen : ndarray of bool, shape (T,)
        In which of them there is a localization; the first and the last have one.
    measured_um, variance_um2 : ndarray of float64, shape (T, 3)
        Localizations and their variances; of any value where there is none.
    """

    t_s: F64
    seen: NDArray[np.bool_]
    measured_um: F64
    variance_um2: F64

    def __len__(self) -> int:
        return len(self.t_s)

    def reverse(self) -> Path:
        """The same path, back in time."""
        return Path(self.t_s[::-1], self.seen[::-1], self.measured_um[::-1], self.variance_um2[::-1])


@dataclass(frozen=True, slots=True)
class Motion:
    """What is known of the motion in a run, from its tracker.

    Attributes
    ----------
    bank : Bank
    shares, birth_shares : ndarray of float64, shape (M,)
        Probability of each model after a change, and in the first frame.
    birth_speeds_um_s : ndarray of float64, shape (M,)
        Standard deviation of the velocity in the first frame, µm/s.
    stay : float
        Probability to keep the model for the time `frame_s`.
    frame_s : float
        Time between frames, s.
    """

    bank: Bank
    shares: F64
    birth_shares: F64
    birth_speeds_um_s: F64
    stay: float
    frame_s: float

    @classmethod
    def of(cls, noise: ProcessNoise, stay: float) -> Motion:
        """The motion as it is estimated now."""
        return cls(
            noise.bank(), noise.shares.copy(), noise.birth_shares(), noise.birth_speeds_um_s(), stay, noise.frame_s
        )

    def stays(self, step_s: F64) -> F64:
        """Probability to keep the model for steps (N,), shape (N,)."""
        result: F64 = self.stay ** (np.abs(step_s) / self.frame_s)
        return result


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A smoothed track; all arrays of shape (T, 3).

    Attributes
    ----------
    position_um, velocity_um_s : mean, µm and µm/s
    sigma_um : standard deviation of the position, µm
    """

    position_um: F64
    velocity_um_s: F64
    sigma_um: F64


def smooth(paths: Sequence[Path], motion: Motion) -> list[Smoothed]:
    """Smooth tracks.

    Parameters
    ----------
    paths : sequence of Path
    motion : Motion

    Returns
    -------
    list of Smoothed
        In the order of the paths.
    """
    done: dict[int, Smoothed] = {}
    for block in _blocks(paths):
        for number, result in zip(block, _smooth_block([paths[n] for n in block], motion), strict=True):
            done[number] = result
    return [done[number] for number in range(len(paths))]


def filter_paths(paths: Sequence[Path], motion: Motion) -> tuple[Gaussians, F64]:
    """Gaussians (5, M, 3, N) and weights (M, N) of the models after the last point of each path."""
    models = len(motion.bank)
    gaussians, weights = np.zeros((5, models, 3, len(paths))), np.zeros((models, len(paths)))
    for block in _blocks(paths):
        lengths = np.array([len(paths[number]) for number in block])
        filtered, filtered_weights, _, _ = _filter([paths[number] for number in block], lengths, motion)
        for place, (number, length) in enumerate(zip(block, lengths.tolist(), strict=True)):
            gaussians[..., number] = filtered[length - 1, ..., place]
            weights[:, number] = filtered_weights[length - 1, :, place]
    return gaussians, weights


def _blocks(paths: Sequence[Path]) -> Iterator[list[int]]:
    """Paths of similar lengths together, so that few points of a block are empty."""
    block: list[int] = []
    for number in np.argsort([-len(path) for path in paths], kind="stable").tolist():
        if block and (len(block) + 1) * len(paths[block[0]]) > _BLOCK_POINTS:
            yield block
            block = []
        block.append(number)
    if block:
        yield block


def _smooth_block(paths: list[Path], motion: Motion) -> list[Smoothed]:
    lengths = np.array([len(path) for path in paths])
    past, past_weights, _, _ = _filter(paths, lengths, motion)
    _, _, future, future_weights = _filter([path.reverse() for path in paths], lengths, motion)
    results = []
    for number, path in enumerate(paths):
        length = len(path)
        # Time is the last axis from here on, in the place of the tracks.
        own, own_weights = np.moveaxis(past[:length, ..., number], 0, -1), past_weights[:length, :, number].T
        ahead = np.moveaxis(future[:length, ..., number][::-1], 0, -1)
        ahead_weights = future_weights[:length, :, number][::-1].T
        moments = np.empty((5, 3, length))
        # The last point has no future.
        moments[..., -1:] = combined(own[..., -1:], own_weights[:, -1:])
        if length > 1:
            moments[..., :-1] = _product(
                (own[..., :-1], own_weights[:, :-1]),
                (ahead[..., :-1], ahead_weights[:, :-1]),
                motion.stays(np.diff(path.t_s)),
                motion.shares,
            )
        results.append(Smoothed(moments[0].T, moments[1].T, np.sqrt(moments[2]).T))
    return results


def _filter(paths: list[Path], lengths: I64, motion: Motion) -> tuple[F64, F64, F64, F64]:
    """Filtered and predicted Gaussians of all points, shapes (T, 5, M, 3, N), each with their weights (T, M, N).

    The prediction of a point is made by the models of the step to it, before these change: in a filter that goes
    back it is what the future says about the point.
    """
    most, count, models = int(lengths.max()), len(paths), len(motion.bank)
    times, seen = np.zeros((most, count)), np.zeros((most, count), bool)
    measured, variance = np.zeros((most, 3, count)), np.ones((most, 3, count))
    for number, path in enumerate(paths):
        rows = slice(0, len(path))
        times[rows, number], seen[rows, number] = path.t_s, path.seen
        measured[rows, :, number], variance[rows, :, number] = path.measured_um, path.variance_um2
    filtered, predicted = np.zeros((most, 5, models, 3, count)), np.zeros((most, 5, models, 3, count))
    filtered_weights, predicted_weights = np.zeros((most, models, count)), np.zeros((most, models, count))
    now, weights = filtered[0], filtered_weights[0]
    now[0], now[2] = measured[0], variance[0]
    now[4] = (motion.birth_speeds_um_s**2)[:, None, None]
    weights[:] = motion.birth_shares[:, None]
    for step in range(1, most):
        # The paths of a block are in order of their lengths.
        alive = int(np.count_nonzero(lengths > step))
        elapsed = times[step, :alive] - times[step - 1, :alive]
        backward = bool(elapsed[0] < 0)
        now, weights = now[..., :alive], weights[:, :alive]
        if not backward:
            now, weights = mix(now, weights, motion.stays(elapsed), motion.shares)
        now = predict(now, motion.bank, elapsed)
        predicted[step, ..., :alive], predicted_weights[step, :, :alive] = now, weights
        if backward:
            now, weights = mix(now, weights, motion.stays(elapsed), motion.shares)
        hit = np.flatnonzero(seen[step, :alive])
        at, of = measured[step][:, hit], variance[step][:, hit]
        logs = log_likelihood(now[0][..., hit], now[2][..., hit], at, of)
        now[..., hit] = update(now[..., hit], at, of)
        weights = weights.copy()
        weights[:, hit] = posterior(weights[:, hit], logs)
        filtered[step, ..., :alive], filtered_weights[step, :, :alive] = now, weights
    return filtered, filtered_weights, predicted, predicted_weights


def _product(past: tuple[Gaussians, F64], future: tuple[Gaussians, F64], stay: F64, shares: F64) -> F64:
    """Moments (5, 3, T) of the product of two mixtures (5, M, 3, T), (M, T), coupled by the changes of model."""
    (a, a_weights), (b, b_weights) = past, future
    a, b = a[:, :, None], b[:, None]
    away_p, away_v = b[0] - a[0], b[1] - a[1]
    s_pp, s_pv, s_vv = a[2] + b[2], a[3] + b[3], a[4] + b[4]
    determinant = s_pp * s_vv - s_pv**2
    # The inverse of the sum of the covariances, times the distance.
    q_p = (s_vv * away_p - s_pv * away_v) / determinant
    q_v = (s_pp * away_v - s_pv * away_p) / determinant
    models, count = a_weights.shape
    change = stay * np.eye(models)[:, :, None] + (1 - stay) * shares[:, None]
    logs = -0.5 * (away_p * q_p + away_v * q_v + np.log(determinant)).sum(axis=2)
    with np.errstate(divide="ignore"):
        logs += np.log(a_weights[:, None] * change * b_weights[None])
    pairs = np.exp(logs - logs.max(axis=(0, 1)))
    pairs /= pairs.sum(axis=(0, 1))
    # Gain K = A S⁻¹, and the covariance A - K A.
    k_pp, k_pv = (a[2] * s_vv - a[3] * s_pv) / determinant, (a[3] * s_pp - a[2] * s_pv) / determinant
    k_vp, k_vv = (a[3] * s_vv - a[4] * s_pv) / determinant, (a[4] * s_pp - a[3] * s_pv) / determinant
    fused = np.stack(
        [
            a[0] + a[2] * q_p + a[3] * q_v,
            a[1] + a[3] * q_p + a[4] * q_v,
            a[2] - k_pp * a[2] - k_pv * a[3],
            a[3] - k_pp * a[3] - k_pv * a[4],
            a[4] - k_vp * a[3] - k_vv * a[4],
        ]
    )
    return combined(fused.reshape(5, models * models, 3, count), pairs.reshape(-1, count))
