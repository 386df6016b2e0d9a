"""Mean squared displacements of tracks at several lags, and the anomalous exponent.

The mean squared displacement of positions with the localization variance v is

    M(τ) = 2 D |τ|^a + 2 v

for fractional Brownian motion, with the exponent a: 1 for diffusion, 2 for
straight motion, below 1 for confinement. Means over all pairs of a track at
several lags are strongly correlated. Their covariance is that of a Gaussian
process (Qian, Sheetz and Elson, Biophysical Journal 60, 910, 1991; Michalet,
Physical Review E 82, 041914, 2010):

    cov(M_m, M_n) = 2 / (N_m N_n) Σ_ij γ_mn(i - j)²,

where γ_mn(s) is the covariance of two displacements that begin s frames apart.
Its square root is the standard error of M. The exponent is the one with the
least generalized sum of squares over the lags 1, 2, 4, ... frames up to a
quarter of the track, with a coefficient for each axis; its interval is where
that sum is within 3.84 (95 %) of the least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.measures.diffusion import Estimates
from models.measures.sightings import Sightings

__all__ = ["Displacements", "common_exponent", "exponents"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LAGS: I64 = 2 ** np.arange(8)
_SHARE = 4
"""Lags are at most this part of the track."""
_LEAST_PAIRS = 4
_QUANTILE = 3.8415
_EXPONENTS = np.linspace(0.0, 2.0, 81)
_BLOCK_TRACKS = 200
_ROUNDS = 2
_MOST_EXPONENT = 1.5
"""Exponent of the covariances: straight motion is not random, and nearly straight motion would explain anything."""
_NOISE_DOUBT = 0.2
"""Standard deviation of the relative error of the stated variances: 10 % of the sigmas."""


@dataclass(frozen=True, slots=True)
class Displacements:
    """Mean squared displacements of each track, localization error removed.

    Attributes
    ----------
    lag_frames : int64, shape (L,)
    lag_s : float64, shape (L,), s
    msd_um2 : float64, shape (N, 3, L), µm²
        Along x, y, z; NaN where a track has no pairs. Near 0 it may be negative, by chance.
    noise_um2 : float64, shape (N, 3, L), µm²
        What was removed: the mean variance of the two errors.
    pairs : int64, shape (N, L)
    frames : int64, shape (N,)
        From the first sighting of the track to the last.
    """

    lag_frames: I64
    lag_s: F64
    msd_um2: F64
    noise_um2: F64
    pairs: I64
    frames: I64

    @classmethod
    def of(cls, sightings: Sightings, exposure_s: float, scale: F64, diffusion_um2_s: F64) -> Displacements:
        """Mean squared displacements.

        Parameters
        ----------
        sightings : Sightings
        exposure_s : float
        scale : ndarray of float64, shape (3,)
            Ratio of the true and the stated variance of the localization error.
        diffusion_um2_s : ndarray of float64, shape (N, 3)
            Of each track, for the blur of the exposure.
        """
        count = len(sightings.ids)
        lags = _LAGS
        msd, noise = np.full((count, 3, len(lags)), np.nan), np.zeros((count, 3, len(lags)))
        pairs = np.zeros((count, len(lags)), np.int64)
        track, frame = sightings.track, sightings.frame
        frames = np.zeros(count, np.int64)
        whole = sightings.counts > 0
        frames[whole] = frame[sightings.starts[1:][whole] - 1] - frame[sightings.starts[:-1][whole]]
        origin = int(frame.min()) if len(frame) else 0
        stride = int(np.ptp(frame)) + int(lags[-1]) + 1 if len(frame) else 1
        keys = track * stride + (frame - origin)
        blur = 2 * exposure_s / 3 * np.nan_to_num(diffusion_um2_s)
        for column, lag in enumerate(lags.tolist()):
            place = np.searchsorted(keys, keys + lag)
            first = np.flatnonzero(keys[np.minimum(place, len(keys) - 1)] == keys + lag) if len(keys) else place
            second = place[first]
            pairs[:, column] = np.bincount(track[first], minlength=count)
            some = pairs[:, column] > 0
            for axis in range(3):
                moved = sightings.position_um[second, axis] - sightings.position_um[first, axis]
                error = sightings.variance_um2[second, axis] + sightings.variance_um2[first, axis]
                total, errors = (np.bincount(track[first], part, count)[some] for part in (moved * moved, error))
                noise[some, axis, column] = scale[axis] * errors / pairs[some, column] - blur[some, axis]
                msd[some, axis, column] = total / pairs[some, column] - noise[some, axis, column]
        times: F64 = lags * np.float64(sightings.frame_s)
        return cls(lags, times, msd, noise, pairs, frames)

    def standard_errors(self, diffusion_um2_s: F64) -> F64:
        """Standard errors (N, 3, L), µm², if the tracks are Brownian with the coefficients (N, 3)."""
        errors = np.full(self.msd_um2.shape, np.nan)
        amplitude = 2 * np.nan_to_num(diffusion_um2_s) * self.lag_s[0]
        for rows in self.blocks():
            for axis in range(3):
                covariance = self.covariances(rows, axis, amplitude[rows, axis], np.ones(len(rows)))
                errors[rows, axis] = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        errors[np.isnan(self.msd_um2)] = np.nan
        return errors

    def usable(self) -> NDArray[np.bool_]:
        """Which lags of which tracks the exponent is fitted to, shape (N, L)."""
        good = (self.lag_frames * _SHARE <= self.frames[:, None]) & (self.pairs >= _LEAST_PAIRS)
        good[good.sum(axis=1) < 2] = False
        return good

    def blocks(self, chosen: NDArray[np.bool_] | None = None) -> Iterator[I64]:
        """Rows of all tracks, or of those of a mask (N,), in blocks of bounded memory."""
        rows = np.arange(len(self.frames)) if chosen is None else np.flatnonzero(chosen)
        for first in range(0, len(rows), _BLOCK_TRACKS):
            yield rows[first : first + _BLOCK_TRACKS]

    def pooled(self) -> F64:
        """Means over all tracks, weighted by the numbers of pairs, shape (3, L), µm²."""
        weight = self.pairs[:, None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: F64 = np.nansum(weight * self.msd_um2, axis=0) / weight.sum(axis=0)
        return mean

    def covariances(self, rows: I64, axis: int, amplitude: F64, exponent: F64) -> F64:
        """Covariances (B, L, L) of the mean squared displacements along an axis of the tracks `rows` (B,).

        `amplitude` (B,) is that of the motion at a lag of one frame, µm².
        """
        lags = self.lag_frames
        noise = np.maximum(self.noise_um2[rows, axis, 0], 0.0)
        farthest = min(int(2 * lags[-1]), int(self.frames[rows].max(initial=1)))
        shift = np.arange(-farthest, farthest + 1)
        reach = np.arange(farthest + int(lags[-1]) + 1)
        with np.errstate(divide="ignore"):
            variogram = amplitude[:, None] * reach ** np.minimum(exponent, _MOST_EXPONENT)[:, None] + noise[:, None]
        variogram[:, 0] = 0.0
        covariance = np.zeros((len(rows), len(lags), len(lags)))
        available = np.maximum(self.frames[rows, None] + 1 - lags, 1)
        # With gaps there are fewer pairs than frames.
        thinned = np.sqrt(available / np.maximum(self.pairs[rows], 1))
        for one, m in enumerate(lags.tolist()):
            for two, n in enumerate(lags.tolist()[: one + 1]):
                gamma = 0.5 * (
                    variogram[:, np.abs(shift + n)]
                    + variogram[:, np.abs(shift - m)]
                    - variogram[:, np.abs(shift)]
                    - variogram[:, np.abs(shift + n - m)]
                )
                overlap = np.minimum(available[:, one, None], available[:, two, None] - shift) - np.maximum(0, -shift)
                total = (np.maximum(overlap, 0) * gamma**2).sum(axis=1)
                both = 2 * total / (available[:, one] * available[:, two]) * thinned[:, one] * thinned[:, two]
                covariance[:, one, two] = covariance[:, two, one] = both
        return covariance

    def doubts(self, rows: I64, axis: int) -> F64:
        """Covariances (B, L, L) from what is not known of the localization error, which all lags share."""
        doubt = _NOISE_DOUBT * self.noise_um2[rows, axis]
        covariance: F64 = doubt[:, :, None] * doubt[:, None, :]
        return covariance


def exponents(moved: Displacements, diffusion_um2_s: F64) -> Estimates:
    """Anomalous exponent of each track, all axes together, from 0 to 2; shape (N,).

    Parameters
    ----------
    moved : Displacements
    diffusion_um2_s : ndarray of float64, shape (N, 3)
    """
    count = len(moved.frames)
    best, low, high = (np.full(count, np.nan) for _ in range(3))
    usable = moved.usable()
    for rows in moved.blocks(np.any(usable, axis=1)):
        good = usable[rows]
        exponent = np.ones(len(rows))
        amplitude = np.maximum(2 * np.nan_to_num(diffusion_um2_s[rows]) * moved.lag_s[0], 1e-9)
        for _ in range(_ROUNDS):
            squares = np.zeros((len(rows), len(_EXPONENTS)))
            fitted = np.zeros((len(rows), 3, len(_EXPONENTS)))
            for axis in range(3):
                covariance = moved.covariances(rows, axis, amplitude[:, axis], exponent) + moved.doubts(rows, axis)
                one, fitted[:, axis] = _fit(moved.msd_um2[rows, axis], covariance, good, moved.lag_frames)
                squares += one
            place = squares.argmin(axis=1)
            exponent = _EXPONENTS[place]
            chosen = np.take_along_axis(fitted, place[:, None, None], axis=2)[..., 0]
            amplitude = np.maximum(chosen, 1e-9)
        inside = squares <= squares.min(axis=1, keepdims=True) + _QUANTILE
        best[rows], low[rows] = exponent, _EXPONENTS[inside.argmax(axis=1)]
        high[rows] = _EXPONENTS[len(_EXPONENTS) - 1 - inside[:, ::-1].argmax(axis=1)]
    # All exponents are as likely: the track does not tell it.
    best[(low == _EXPONENTS[0]) & (high == _EXPONENTS[-1])] = np.nan
    return Estimates(best, low, high)


def common_exponent(moved: Displacements, diffusion_um2_s: F64) -> tuple[float, float, float]:
    """Anomalous exponent of the mean squared displacement over all tracks, and its interval.

    Parameters
    ----------
    moved : Displacements
    diffusion_um2_s : ndarray of float64, shape (3,)
        Over all tracks.
    """
    weight = np.where(moved.usable(), moved.pairs, 0).astype(float)
    # A lag that few tracks reach is left out: its mean is of other tracks than those of the other lags.
    good = weight.sum(axis=0) > 0.05 * weight.sum(axis=0).max(initial=0.0)
    if not good.any():
        return np.nan, np.nan, np.nan
    weight = weight / np.maximum(weight.sum(axis=0), 1.0)
    mean = np.einsum("nl,nal->al", weight, np.nan_to_num(moved.msd_um2))
    excess = [_excess(weight, moved.msd_um2[:, axis] - mean[axis], good) for axis in range(3)]
    amplitude = np.maximum(2 * np.nan_to_num(diffusion_um2_s) * moved.lag_s[0], 1e-9)
    exponent, squares = 1.0, np.zeros(len(_EXPONENTS))
    for _ in range(_ROUNDS):
        squares, fitted = np.zeros(len(_EXPONENTS)), np.zeros((3, len(_EXPONENTS)))
        for axis in range(3):
            covariance = np.zeros((len(good), len(good)))
            for rows in moved.blocks(np.any(weight > 0, axis=1)):
                each = moved.covariances(rows, axis, np.full(len(rows), amplitude[axis]), np.full(len(rows), exponent))
                covariance += np.einsum("nl,nk,nlk->lk", weight[rows], weight[rows], each)
            model = np.diagonal(covariance)[good]
            covariance *= max(1.0, float(np.mean(excess[axis][good] / model)))
            noise = np.einsum("nl,nl->l", weight, moved.noise_um2[:, axis])
            covariance += _NOISE_DOUBT**2 * noise[:, None] * noise
            one, curve = _fit(mean[axis][None], covariance[None], good[None], moved.lag_frames)
            squares += one[0]
            fitted[axis] = curve[0]
        place = int(squares.argmin())
        exponent, amplitude = float(_EXPONENTS[place]), np.maximum(fitted[:, place], 1e-9)
    # Where no exponent fits all lags, the interval is as much wider as the misfit is larger than expected.
    misfit = max(1.0, float(squares.min()) / max(3 * (int(good.sum()) - 1) - 1, 1))
    inside = np.flatnonzero(squares <= squares.min() + _QUANTILE * misfit)
    return exponent, float(_EXPONENTS[inside[0]]), float(_EXPONENTS[inside[-1]])


def _excess(weight: F64, away: F64, good: NDArray[np.bool_]) -> F64:
    """Variance (L,) of the weighted mean over tracks, from how the tracks differ; 0 for one track."""
    tracks = np.count_nonzero(weight[:, good].any(axis=1))
    square = ((weight * np.nan_to_num(away)) ** 2).sum(axis=0)
    return square * tracks / (tracks - 1) if tracks > 1 else np.zeros(len(square))


def _fit(msd: F64, covariance: F64, good: NDArray[np.bool_], lags: I64) -> tuple[F64, F64]:
    """Generalized sums of squares and amplitudes, shape (B, E) each, for all exponents."""
    size = len(lags)
    both = good[:, :, None] & good[:, None, :]
    # Lags without an error, of tracks that do not move, would have no inverse.
    ridge = 1e-9 * np.einsum("bll->bl", covariance)[..., None] + 1e-15
    matrix = np.where(both, covariance + ridge * np.eye(size), np.eye(size))
    weight = np.where(both, np.linalg.inv(matrix), 0.0)
    shape = lags.astype(float) ** _EXPONENTS[:, None]
    values = np.where(good, msd, 0.0)
    cross = np.einsum("el,blk,bk->be", shape, weight, values)
    own = np.einsum("el,blk,ek->be", shape, weight, shape)
    amplitude = np.maximum(cross / own, 0.0)
    square = np.einsum("bl,blk,bk->b", values, weight, values)[:, None] - 2 * amplitude * cross + amplitude**2 * own
    return square, amplitude
