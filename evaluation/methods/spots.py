"""Score of single-emitter fits, and selection among several fits of one emitter.

All baselines get the same score, whatever their estimator: the Poisson
likelihood of the data on the pattern's own pixels, with the emitter against a
flat background, divided by the dispersion that the fit leaves (the
quasi-likelihood of McCullagh and Nelder). The division matters in crowded
frames, where light of a bright neighbour would give any wrong fit a high
likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import Convergence, FitFrame, fit_jointly
from models.pattern_spline import PatternSpline

__all__ = ["Spots", "distinct", "inside", "score_fits"]

Array = NDArray[np.float64]

_PARAMETERS = 5

_HALF_SCORE = 18.0
"""Gain in log-likelihood that scores one half: that of an amplitude of six standard deviations."""

_OVERLAP = 0.3
"""Discs with a larger share of common area (intersection over union) are one emitter."""


@dataclass(frozen=True, slots=True)
class Spots:
    """Fitted emitters of a frame.

    Attributes
    ----------
    fits : ndarray of float64, shape (K, 5)
        x and y (pixels), z (µm), photons, background per pixel (read variance included).
    score : ndarray of float64, shape (K,)
        Gain in log-likelihood over dispersion, mapped to 0..1.
    sigma : ndarray of float64, shape (K, 3)
        Cramér-Rao bounds of x, y (pixels) and z (µm) were it alone.
    chi2 : ndarray of float64, shape (K,)
        Mean of (data - model)² / variance on the pattern.
    """

    fits: Array
    score: Array
    sigma: Array
    chi2: Array

    @property
    def gain(self) -> Array:
        """Gain in log-likelihood over dispersion, shape (K,)."""
        gain: Array = _HALF_SCORE * self.score / np.maximum(1 - self.score, np.finfo(np.float64).tiny)
        return gain

    @property
    def columns(self) -> tuple[Array, Array, Array, Array]:
        """All of it, in the order of the attributes."""
        return self.fits, self.score, self.sigma, self.chi2

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Spots:
        """Some of them."""
        return Spots(self.fits[rows], self.score[rows], self.sigma[rows], self.chi2[rows])


def score_fits(data: NDArray[np.float32], pattern: PatternSpline, read_variance: float, fits: Array) -> Spots:
    """Score fits, shape (K, 5) as in `Spots`; those that failed (NaN) or lie outside the frame are left out."""
    fits = fits[inside(fits, data.shape)]
    boxes = pattern.boxes(fits[:, 0], fits[:, 1], fits[:, 2], (data.shape[0], data.shape[1]))
    score, chi2 = np.zeros(len(fits)), np.zeros(len(fits))
    sigma = np.zeros((len(fits), 3))
    anywhere = ((-np.inf, np.inf),) * 3
    for row, (fit, (top, bottom, left, right)) in enumerate(zip(fits, boxes, strict=True)):
        pixels = np.ascontiguousarray(data[top:bottom, left:right])
        emitter = (fit[:4] - [left, top, 0, 0])[None]
        background = fit[4] - read_variance
        # No iterations: the model is evaluated where the baseline put it.
        here = fit_jointly(FitFrame(pixels, pattern, read_variance), emitter, background, anywhere, Convergence(0))
        flat = max(float(pixels.mean()), read_variance)
        positive = pixels[pixels > 0].astype(np.float64)
        cost = float((positive * np.log(positive / flat)).sum()) + float((flat - pixels).sum())
        dispersion = max(2 * here.cost / max(pixels.size - _PARAMETERS, 1), 1.0)
        gain = max(cost - here.cost, 0.0) / dispersion
        score[row] = gain / (gain + _HALF_SCORE)
        sigma[row] = here.sigma[0, :3]
        chi2[row] = here.chi2[0]
    return Spots(fits, score, sigma, chi2)


def inside(fits: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which fits (K, 5) have light and a place in the frame of `shape` (H, W)."""
    height, width = shape
    with np.errstate(invalid="ignore"):
        columns = (fits[:, 0] >= -0.5) & (fits[:, 0] < width - 0.5)
        result: NDArray[np.bool_] = columns & (fits[:, 1] >= -0.5) & (fits[:, 1] < height - 0.5) & (fits[:, 3] > 0)
    return result


def distinct(x_px: Array, y_px: Array, radius_px: Array, score: Array) -> NDArray[np.int64]:
    """Rows of the best of those that are one emitter (several starts, several depths of one pattern), best first.

    Parameters
    ----------
    x_px, y_px, radius_px, score : ndarray of float64, shape (K,)
        Centres and radii of the discs, and scores.
    """
    kept: list[int] = []
    for row in np.argsort(-score, kind="stable"):
        apart = np.hypot(x_px[kept] - x_px[row], y_px[kept] - y_px[row])
        if (_shared_area(apart, radius_px[kept], float(radius_px[row])) <= _OVERLAP).all():
            kept.append(int(row))
    return np.array(kept, np.int64)


def _shared_area(apart: Array, first: Array, second: float) -> Array:
    """Intersection over union of two discs of radii `first` and `second`, their centres `apart`; all shape (N,)."""
    small, large = np.minimum(first, second), np.maximum(first, second)
    middle = np.clip(apart, large - small + 1e-9, large + small)
    to_small = np.clip((middle**2 + small**2 - large**2) / (2 * middle * small), -1, 1)
    to_large = np.clip((middle**2 + large**2 - small**2) / (2 * middle * large), -1, 1)
    kite = (small + large - middle) * (middle + small - large) * (middle - small + large) * (middle + small + large)
    lens = small**2 * np.arccos(to_small) + large**2 * np.arccos(to_large) - 0.5 * np.sqrt(np.maximum(kite, 0))
    lens = np.where(apart <= large - small, np.pi * small**2, np.where(apart >= large + small, 0.0, lens))
    shared: Array = lens / (np.pi * (small**2 + large**2) - lens)
    return shared
