"""Diffusion coefficients of tracks, with localization error, exposure blur and drift removed.

The measured position of a Brownian particle is its mean position during the
exposure T plus the localization error. The steps Δ between successive
sightings k and k + 1 are Gaussian with

    var Δ_k = 2 D (t_{k+1} - t_k) + v_k + v_{k+1},    cov(Δ_k, Δ_{k+1}) = -v_{k+1},    v_k = c s_k² - D T / 3

where s_k is the stated sigma of the localization and c the ratio of true and
stated variance (Berglund, Physical Review E 82, 011917, 2010, with R = 1/6 for
an exposure of constant light; the blur acts as a negative variance). This
holds with gaps, whose steps take longer, and with errors that change along the
track. The likelihood is exact: the covariance is tridiagonal, and one pass
through the steps decorrelates them.

A constant velocity of the track is a nuisance parameter, with the restricted
likelihood (Patterson and Thompson, Biometrika 58, 545, 1971), so that directed
motion is not taken for diffusion. Estimates are at the maximum of the
likelihood, which uses all lags with the right weights; intervals are where it
falls by 1.92 (95 %). Michalet and Berglund (Physical Review E 85, 061916, 2012)
show that the maximum reaches the Cramér-Rao bound where covariance-based
estimators do not: with errors large beside the steps.

The estimate over all tracks is at the maximum of the sum of their
log-likelihoods. If tracks differ more than one common coefficient allows, the
interval is widened by the excess variance of their scores (quasi-likelihood).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from models.measures.sightings import Sightings

__all__ = ["Curves", "Estimates", "likelihood_curves", "noise_scales"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_DROP = 1.9207
"""Half of the 95 % quantile of chi-square with one degree of freedom."""

_PER_DECADE = 20
_MOST_DECADES = 12.0
_BLOCK_CELLS = 60_000
_LEAST_STEPS = 3
_COARSE_POINTS, _FINE_POINTS = 24, 800
_SCALES = np.geomspace(0.25, 4.0, 9)
_SCALE_WIDTH = 0.3
_NEAR_POINTS = 24
_FILTERED_SCALES = np.linspace(-1.0, 1.0, 9)
_IMPOSSIBLE = 1e6
"""Penalty of a coefficient with which the covariance would not be positive."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Estimates with 95 % intervals; arrays of equal shape, NaN where undefined.

    Attributes
    ----------
    value, low, high : ndarray of float64
    """

    value: F64
    low: F64
    high: F64

    @classmethod
    def undefined(cls, shape: tuple[int, ...]) -> Estimates:
        """All NaN."""
        return cls(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan))

    def widen(self, shifted: Estimates) -> Estimates:
        """Add the uncertainty of a parameter: `shifted` are the estimates with it changed by a standard deviation."""
        shift = 1.96 * np.abs(shifted.value - self.value)
        low = self.value - np.hypot(self.value - self.low, shift)
        return Estimates(self.value, np.maximum(low, 0.0), self.value + np.hypot(self.high - self.value, shift))


@dataclass(frozen=True, slots=True)
class Curves:
    """Log-likelihood of each track as a function of the diffusion coefficient.

    Attributes
    ----------
    diffusion_um2_s : ndarray of float64, shape (G,)
        0, and increasing values on a logarithmic grid, µm²/s.
    log_likelihood : ndarray of float64, shape (N, 3, G)
        Along x, y, z; NaN for tracks with too few sightings.
    """

    diffusion_um2_s: F64
    log_likelihood: F64

    def tracks(self) -> Estimates:
        """Estimates of each track for x, y, z and all axes together, shape (N, 4)."""
        whole = np.concatenate([self.log_likelihood, self.log_likelihood.sum(axis=1, keepdims=True)], axis=1)
        return _maxima(self.diffusion_um2_s, whole, np.full(whole.shape[:2], _DROP))

    def ensemble(self) -> Estimates:
        """Estimates over all tracks for x, y, z and all axes together, shape (4,)."""
        known = np.isfinite(self.log_likelihood[..., 0]).all(axis=1)
        each = self.log_likelihood[known]
        each = np.concatenate([each, each.sum(axis=1, keepdims=True)], axis=1)
        if len(each) == 0:
            return Estimates.undefined((4,))
        total = each.sum(axis=0)
        drop = _DROP * np.maximum(self._excess(each, total), 1.0)
        return _maxima(self.diffusion_um2_s, total, drop)

    @staticmethod
    def _excess(each: F64, total: F64) -> F64:
        """Variance of the scores of the tracks over their information, at the maximum; shape (4,)."""
        best = np.clip(total.argmax(axis=1), 2, total.shape[1] - 2)
        excess = np.ones(len(total))
        for row, place in enumerate(best.tolist()):
            # Derivatives by the logarithm of the coefficient, in steps of the grid.
            below, at, above = (each[:, row, place + shift] for shift in (-1, 0, 1))
            possible = np.minimum(below, above) > at - _IMPOSSIBLE / 4
            score, information = ((above - below) / 2)[possible], float(np.sum((2 * at - above - below)[possible]))
            count = len(score)
            if count > 1 and information > 0:
                excess[row] = float(np.sum((score - score.mean()) ** 2)) * count / (count - 1) / information
        return excess


def likelihood_curves(sightings: Sightings, exposure_s: float, scale: F64, grid: F64 | None = None) -> Curves:
    """Likelihood of the diffusion coefficient of each track.

    Parameters
    ----------
    sightings : Sightings
    exposure_s : float
        Length of the exposure, s; 0 when positions are instantaneous.
    scale : ndarray of float64, shape (3,)
        Ratio of the true and the stated variance of the localization error along x, y, z.
    grid : ndarray of float64, shape (G,), optional
        0, and coefficients on a logarithmic grid; chosen from the data when absent.
    """
    grid = _grid(sightings) if grid is None else grid
    curves = np.full((len(sightings.ids), 3, len(grid)), np.nan)
    for block in _blocks(sightings, len(grid)):
        curves[block] = _log_likelihood(_Steps.of(sightings, block), grid, exposure_s, scale[:, None])
    return Curves(grid, curves)


def noise_scales(sightings: Sightings, exposure_s: float, filtered: bool = False) -> tuple[F64, F64]:
    """Ratio of the true and the stated variance of the localization error along x, y, z, from all tracks.

    The ratio and one common diffusion coefficient together maximize the likelihood of all tracks. That the
    coefficients differ does no harm: the covariances are linear in them.

    Where steps are long beside the error, the data do not tell the ratio; a normal prior on its logarithm, around 0
    and with the width 0.3, then decides. For filtered positions the ratio is between -1 and 1. The output of an
    optimal filter is itself a random walk with the diffusion coefficient of the emitter: the ratio is 0. The error of
    an optimal smoother is independent of its output, so that a step of its output has the variance of the true step,
    less those of the two errors: the ratio is -1.

    Parameters
    ----------
    sightings : Sightings
    exposure_s : float
    filtered : bool
        Whether positions are the output of a filter.

    Returns
    -------
    scale, shifted : ndarray of float64, shape (3,)
        The ratios, and the ratios changed by a standard deviation.
    """
    grid = _grid(sightings)[1::5]
    rough = _total(sightings, np.tile(grid, (3, 1)), exposure_s, np.full((3, 1), 0.0 if filtered else 1.0))
    around = grid[rough.argmax(axis=1)]
    near = around[:, None] * np.geomspace(0.1, 10.0, _NEAR_POINTS)
    scales = _FILTERED_SCALES if filtered else _SCALES
    pairs = np.tile(near, len(scales)), np.repeat(scales, _NEAR_POINTS)[None]
    peak = _total(sightings, pairs[0], exposure_s, pairs[1]).reshape(3, len(scales), _NEAR_POINTS)
    # Where a scale is impossible, the likelihood is no smooth function: interpolation is then linear.
    if filtered:
        fine = np.linspace(scales[0], scales[-1], 801)
        curve = np.array([np.interp(fine, scales, each) for each in peak.max(axis=2)])
    else:
        finer = np.linspace(0, _NEAR_POINTS - 1, 20 * _NEAR_POINTS)
        profile = CubicSpline(np.arange(_NEAR_POINTS), peak, axis=2)(finer).max(axis=2)
        fine = np.linspace(np.log(scales[0]), np.log(scales[-1]), 801)
        curve = CubicSpline(np.log(scales), profile, axis=1)(fine) - 0.5 * (fine / _SCALE_WIDTH) ** 2
    weight = np.exp(curve - curve.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    middle = fine[curve.argmax(axis=1)]
    moved = middle + np.sqrt(weight @ fine**2 - (weight @ fine) ** 2)
    return (middle, moved) if filtered else (np.exp(middle), np.exp(moved))


def _total(sightings: Sightings, diffusion: F64, exposure_s: float, scale: F64) -> F64:
    """Log-likelihood of all tracks, shape (3, G), for coefficients (3, G) and scales (3, 1) or (1, G)."""
    total = np.zeros(diffusion.shape)
    for block in _blocks(sightings, diffusion.shape[1]):
        steps = _Steps.of(sightings, block)
        total += _log_likelihood(steps, diffusion, exposure_s, scale).sum(axis=0)
    return total


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps of tracks in order of falling length: shapes (K, N, 3), (K, N), (K + 1, N, 3), (N,)."""

    step_um: F64
    span_s: F64
    variance_um2: F64
    counts: I64

    @classmethod
    def of(cls, sightings: Sightings, block: I64) -> _Steps:
        counts = sightings.counts[block] - 1
        most, count = int(counts.max()), len(block)
        step, span = np.zeros((most, count, 3)), np.zeros((most, count))
        variance = np.ones((most + 1, count, 3))
        for column, track in enumerate(block.tolist()):
            rows = slice(sightings.starts[track], sightings.starts[track + 1])
            step[: counts[column], column] = np.diff(sightings.position_um[rows], axis=0)
            span[: counts[column], column] = np.diff(sightings.t_s[rows])
            variance[: counts[column] + 1, column] = sightings.variance_um2[rows]
        return cls(step, span, variance, counts)


def _blocks(sightings: Sightings, cells: int) -> Iterator[I64]:
    """Tracks with enough steps, in order of falling length, as many together as numpy is fast with."""
    counts = sightings.counts - 1
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= _LEAST_STEPS]
    size = max(1, _BLOCK_CELLS // (3 * cells))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _log_likelihood(steps: _Steps, diffusion: F64, exposure_s: float, scale: F64) -> F64:
    """Restricted log-likelihood, shape (N, 3, G), of coefficients (G,) or (3, G) and scales (3, 1) or (1, G)."""
    blur = diffusion * exposure_s / 3
    logs = quadratic = crossed = squared = np.zeros((len(steps.counts), 3, diffusion.shape[-1]))
    logs, quadratic, crossed, squared = (part.copy() for part in (logs, quadratic, crossed, squared))
    before = after = scale * steps.variance_um2[0][..., None] - blur
    pivot = residual = regressor = np.ones(())
    for place in range(len(steps.step_um)):
        alive = int(np.count_nonzero(steps.counts > place))
        before = after[:alive]
        after = scale * steps.variance_um2[place + 1, :alive, :, None] - blur
        span = steps.span_s[place, :alive, None, None]
        variance = 2 * diffusion * span + before + after
        step = steps.step_um[place, :alive, :, None]
        if place:
            gain = -before / pivot[:alive]
            variance = variance + gain * before
            residual = step - gain * residual[:alive]
            regressor = span - gain * regressor[:alive]
        else:
            residual, regressor = step, span
        impossible = variance <= 0
        pivot = np.where(impossible, 1.0, variance)
        logs[:alive] += np.log(pivot) + _IMPOSSIBLE * impossible
        quadratic[:alive] += residual * residual / pivot
        crossed[:alive] += residual * regressor / pivot
        squared[:alive] += regressor * regressor / pivot
    result: F64 = -0.5 * (logs + quadratic - crossed * crossed / squared + np.log(squared))
    return result


def _grid(sightings: Sightings) -> F64:
    """0, and coefficients from far below what the longest track can tell to far above the longest step."""
    counts = sightings.counts
    together = sightings.track[1:] == sightings.track[:-1]
    span = np.diff(sightings.t_s)[together]
    step = np.diff(sightings.position_um, axis=0)[together]
    if len(span) == 0:
        return np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 121)])
    rate = (step * step).max(axis=1) / np.maximum(2 * span, 1e-9)
    high = 10 * max(float(rate.max()), 1e-6)
    # Below this the random walk over the whole track is shorter than the error of its mean position.
    low = 1e-3 * float(sightings.variance_um2.min()) / (float(np.median(span)) * float(counts.max()) ** 2)
    low = min(max(low, high * 10**-_MOST_DECADES), high / 10)
    points = int(np.ceil(np.log10(high / low) * _PER_DECADE)) + 1
    return np.concatenate([[0.0], np.geomspace(low, high, points)])


def _maxima(grid: F64, curves: F64, drop: F64) -> Estimates:
    """Maximum of each curve, shape (..., G), and where it has fallen by `drop` on either side."""
    shape = curves.shape[:-1]
    flat, drops = curves.reshape(-1, len(grid)), drop.reshape(-1)
    value, low, high = (np.full(len(flat), np.nan) for _ in range(3))
    logs = np.log(grid[1:])
    for row, (curve, fall) in enumerate(zip(flat, drops.tolist(), strict=True)):
        if np.isfinite(curve).all():
            value[row], low[row], high[row] = _maximum(logs, curve[1:], float(curve[0]), fall)
    return Estimates(value.reshape(shape), low.reshape(shape), high.reshape(shape))


def _maximum(logs: F64, curve: F64, at_zero: float, fall: float) -> tuple[float, float, float]:
    """Maximum and interval of one curve on a logarithmic grid, given its value at 0 too."""
    if curve.max() > at_zero:
        inside = np.flatnonzero(curve >= curve.max() - 2 * fall)
        if inside[-1] - inside[0] < _COARSE_POINTS:
            # A narrow maximum, between few points of the grid.
            lowest = int(np.argmax(curve > curve.max() - _IMPOSSIBLE / 4))
            near = slice(max(inside[0] - 4, lowest), inside[-1] + 5)
            fine = np.linspace(logs[near][0], logs[near][-1], _FINE_POINTS)
            logs, curve = fine, CubicSpline(logs[near], curve[near])(fine)
    place = int(curve.argmax())
    top = max(float(curve[place]), at_zero)
    value = 0.0 if at_zero >= curve[place] else float(np.exp(logs[place]))
    inside = np.flatnonzero(curve >= top - fall)
    if len(inside) == 0:
        return value, 0.0, float(np.exp(logs[0]))
    first, last = int(inside[0]), int(inside[-1])
    low = 0.0 if first == 0 else _crossing(logs, curve, first - 1, top - fall)
    high = np.inf if last == len(curve) - 1 else _crossing(logs, curve, last, top - fall)
    return value, low, high


def _crossing(logs: F64, curve: F64, place: int, level: float) -> float:
    """Coefficient at which a curve crosses a level between two places of the grid."""
    one, two = float(curve[place]), float(curve[place + 1])
    share = (level - one) / (two - one) if two != one else 0.5
    return float(np.exp(logs[place] + np.clip(share, 0.0, 1.0) * (logs[1] - logs[0])))
