"""Photon-transfer line of a sweep: noise against light.

The variance of a pixel grows in proportion to its mean (Janesick, Photon
Transfer, SPIE 2007); the slope is ADU per photo-electron. Light and noise of
many pixels are sorted into levels of brightness, and a line is fitted through
the variances of the levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

__all__ = ["STATE_CAMERA", "Samples", "TransferLine", "is_noise_free", "transfer_line"]

# Below this variance, ADU², noise is taken as 0; rounding to whole counts gives 1/12.
_NOISE_FREE_VARIANCE = 0.2
# Levels of brightness: fewer where few pixels are bright.
_BINS = (30, 15, 8)
_FEWEST_IN_BIN = 200
_FEWEST_LEVELS = 4
_FEWEST_FOR_BEND = 10
# E[x²; |x| < q]/0.95 for a normal deviate x with P(|x| < q) = 0.95: 1 - 2 q phi(q)/0.95, q = 1.95996.
_TRIMMED_SHARE = 1 - 2 * 1.959964 * 0.0584451 / 0.95
STATE_CAMERA = "State the camera: --camera FILE, or --camera-offset-adu, --electrons-per-adu and --read-noise-e."
"""Remedy of all errors of an estimate."""


@dataclass(frozen=True)
class Samples:
    """Light and squared noise of many pixels, by plane.

    Attributes
    ----------
    means, squares : list of ndarray of float64, each shape (N,)
        Light, and squares whose mean is the variance of one exposure, ADU and ADU².
    """

    means: list[NDArray[np.float64]]
    squares: list[NDArray[np.float64]]

    @property
    def dark_adu(self) -> float:
        """Level between the beads."""
        means = np.concatenate(self.means)
        return float(np.median(means[means <= np.percentile(means, 50)]))

    @property
    def floor_variance(self) -> float:
        """Variance between the beads, ADU²."""
        means, squares = np.concatenate(self.means), np.concatenate(self.squares)
        dark = self.dark_adu
        return _robust_variance(squares[np.abs(means - dark) <= max(2.0, 0.02 * abs(dark))])

    def halves(self) -> tuple[Samples, Samples]:
        """The first and the second half of the planes."""
        middle = max(len(self.means) // 2, 1)
        return Samples(self.means[:middle], self.squares[:middle]), Samples(
            self.means[-middle:], self.squares[-middle:]
        )


@dataclass(frozen=True)
class TransferLine:
    """The photon-transfer line of a sweep: variance = intercept + slope * (mean - dark).

    Attributes
    ----------
    bend : float
        Slope from the darkest level to the brighter half of the levels, over the slope to the darker half. 1 for noise,
        which grows in proportion to light; more for structure, which grows with its square; 1 with too few levels.
    dark_adu : float
        Level between the beads, ADU.
    slope, intercept : float
        ADU per photo-electron, and ADU².
    mean_adu, variance_adu2 : ndarray of float64, shape (M,)
        Light and variance of the levels of brightness.
    """

    bend: float
    dark_adu: float
    slope: float
    intercept: float
    mean_adu: NDArray[np.float64]
    variance_adu2: NDArray[np.float64]


def is_noise_free(samples: Samples) -> bool:
    """Whether there is no noise, neither between the beads nor in the brightest pixels."""
    if samples.floor_variance >= _NOISE_FREE_VARIANCE:
        return False
    variance = _curve(samples)[1]
    return len(variance) == 0 or bool(variance[-1] < _NOISE_FREE_VARIANCE)


def transfer_line(samples: Samples) -> TransferLine:
    """Line through the photon-transfer curve.

    Raises
    ------
    DataError
        When there are too few levels of brightness, or noise does not grow with light.
    """
    x, y, n = _curve(samples)
    if len(x) < _FEWEST_LEVELS:
        raise DataError(
            "The camera's gain cannot be determined from this sweep: it has only "
            f"{len(x)} levels of brightness, at least {_FEWEST_LEVELS} are needed.",
            STATE_CAMERA,
        )
    slope, intercept = _fit_line(x - samples.dark_adu, y, n)
    if slope <= 0:
        raise DataError(
            "The camera's gain cannot be determined from this sweep: its noise does not grow with its light "
            f"(slope {slope:.3g} ADU per ADU).",
            STATE_CAMERA,
        )
    bend = 1.0
    # Where dark noise or rounding dominates, chords are too uncertain.
    clear = np.flatnonzero((x - x[0]) * slope > max(0.5 * y[0], 2 * _NOISE_FREE_VARIANCE))
    if len(clear) >= _FEWEST_FOR_BEND:
        chords = (y[clear] - y[0]) / (x[clear] - x[0])
        middle = len(chords) // 2
        dim, bright = float(np.median(chords[:middle])), float(np.median(chords[middle:]))
        bend = bright / dim if dim > 0 else np.inf
    return TransferLine(bend, samples.dark_adu, slope, intercept, x, y)


def _curve(samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Variance at levels of brightness: mean (ADU), variance (ADU²) and number of pixels, each shape (M,)."""
    means, squares = np.concatenate(samples.means), np.concatenate(samples.squares)
    dark, floor = samples.dark_adu, np.sqrt(max(samples.floor_variance, 1 / 12))
    top = max(float(np.percentile(means, 99.95)) - dark, 4 * floor)
    inside: list[NDArray[np.bool_]] = []
    for bins in _BINS:
        edges = dark + np.concatenate([[-floor], np.geomspace(2 * floor, top, bins)])
        which = np.digitize(means, edges)
        inside = [chosen for index in range(1, len(edges)) if (chosen := which == index).sum() >= _FEWEST_IN_BIN]
        if len(inside) >= _FEWEST_LEVELS:
            break
    return (
        np.array([float(means[chosen].mean()) for chosen in inside]),
        np.array([_robust_variance(squares[chosen]) for chosen in inside]),
        np.array([int(chosen.sum()) for chosen in inside], np.int64),
    )


def _robust_variance(squares: NDArray[np.float64]) -> float:
    """Variance of normal deviates from their squares, without the largest 5 %.

    The mean of the lowest 95 % of chi-square deviates with one degree of
    freedom is 0.7209/0.95 = 0.7588 of the mean of all.
    """
    if len(squares) == 0:
        return 0.0
    kept = np.sort(squares)[: max(int(0.95 * len(squares)), 1)]
    return float(kept.mean()) / _TRIMMED_SHARE


def _fit_line(x: NDArray[np.float64], y: NDArray[np.float64], n: NDArray[Any]) -> tuple[float, float]:
    """Line through the photon-transfer curve, each point by the error of its variance, bright outliers left out."""
    keep = np.ones(len(x), bool)
    slope, intercept = 0.0, float(y[0])
    for _ in range(6):
        weight = np.sqrt(n[keep]) / np.maximum(y[keep], 1e-9)
        slope, intercept = (
            float(v) for v in np.polyfit(x[keep], y[keep], 1, w=np.minimum(weight, 50 / np.maximum(y[keep], 1e-9)))
        )
        rest = np.abs(y - slope * x - intercept) / np.maximum(slope * x + intercept, 1e-9)
        keep = rest < max(3 * float(np.median(rest)), 0.05)
        if keep.sum() < 4:
            keep = np.argsort(rest) < 4
    return slope, intercept
