"""Search for emitters in the residual of a fit: a matched filter at many depths.

At each depth the pattern is correlated with the residual, weighted by the
variance of the pixels. That gives, for each position, the photons of an emitter
there and their significance in standard deviations. An emitter at depth z has
an image about z wide, so deep patterns are searched on pixels binned by four,
shallow ones by two. This makes the search ten times faster and loses little
sensitivity; the following joint fit finds the exact position. Emitters just
outside the frame are found by the part of their light that falls in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter

from models.binning import binned
from models.pattern_spline import PatternSpline, render_pattern

__all__ = ["MatchedFilter", "search_depths", "strongest"]

Array = NDArray[np.float64]

_STEP_OF_DEPTH = 0.05
"""Step as a share of depth: patterns scale with depth, so it changes them about equally at any depth."""

_COARSE_RADIUS_PX = 24.0
"""Patterns larger than this are searched on the coarser grid."""


def strongest(found: Array, of_best: float, apart: float) -> Array:
    """Select peaks that are added together, because one missing emitter causes several peaks.

    Parameters
    ----------
    found : ndarray of float64, shape (K, 6)
        Peaks of `MatchedFilter.peaks`, the most significant first.
    of_best : float
        Least significance, as a share of the best one.
    apart : float
        Of peaks closer than this share of the larger radius only the most significant one is kept.

    Returns
    -------
    ndarray of float64, shape (L, 6)
        In the same order.
    """
    found = found[found[:, 4] >= of_best * found[:1, 4]]
    kept: list[int] = []
    for row, (x_px, y_px, _, _, _, radius) in enumerate(found):
        others = found[kept]
        distance = np.hypot(others[:, 0] - x_px, others[:, 1] - y_px)
        if (distance >= apart * np.maximum(others[:, 5], radius)).all():
            kept.append(row)
    return found[kept]


def search_depths(low_um: float, high_um: float, step_um: float) -> Array:
    """Depths from low to high, `step_um` apart at first, farther as the patterns grow; shape (D,), µm."""
    depths = [low_um]
    while depths[-1] < high_um:
        depths.append(depths[-1] + max(step_um, _STEP_OF_DEPTH * abs(depths[-1])))
    return np.minimum(depths, high_um)


@dataclass(frozen=True, slots=True)
class _Level:
    """Filters of the depths that are searched at one binning."""

    binning: int
    depths_um: Array
    radius_px: Array
    padded: tuple[int, int]
    margin: int
    light: NDArray[np.complex64]
    square: NDArray[np.complex64]


class MatchedFilter:
    """Matched filters for one PSF and one frame size, kept between frames.

    Parameters
    ----------
    spline : PatternSpline
    shape : (H, W)
        Shape of the frames.
    depths_um : ndarray, shape (D,)
        Depths to search.
    margin_px : float
        Distance outside the frame up to which emitters are searched.
    """

    def __init__(self, spline: PatternSpline, shape: tuple[int, int], depths_um: Array, margin_px: float) -> None:
        self._shape = shape
        radius = spline.radius_at_px(depths_um)
        coarse = radius > _COARSE_RADIUS_PX
        self._levels = [
            _level(spline, shape, depths_um[rows], binning, margin_px)
            for binning, rows in ((2, ~coarse), (4, coarse))
            if rows.any()
        ]

    def peaks(self, residual: NDArray[np.float32], variance: NDArray[np.float32], significance: float) -> Array:
        """Significant peaks of a residual.

        Parameters
        ----------
        residual : ndarray of float32, shape (H, W)
            Data minus model, photo-electrons.
        variance : ndarray of float32, shape (H, W)
            Of each pixel.
        significance : float
            Least amplitude in its standard deviations.

        Returns
        -------
        ndarray of float64, shape (K, 6)
            x (pixels), y (pixels), z (µm), photons, significance and radius (pixels) of each, the most significant
            first.
        """
        found = np.concatenate([self._candidates(level, residual, variance, significance) for level in self._levels])
        return found[np.argsort(-found[:, 4], kind="stable")]

    def _candidates(
        self, level: _Level, residual: NDArray[np.float32], variance: NDArray[np.float32], significance: float
    ) -> Array:
        weight = np.float32(1) / binned(variance, level.binning)
        pulled = _spectrum(binned(residual, level.binning) * weight, level)
        spread = _spectrum(weight, level)
        amplitude = fft.irfft2(pulled * level.light, level.padded)
        information = fft.irfft2(spread * level.square, level.padded)
        rows, columns = weight.shape[0] + 2 * level.margin, weight.shape[1] + 2 * level.margin
        # Where a pattern hardly reaches into the frame, rounding of the transform exceeds its information.
        least = 1e-4 * information.max(axis=(1, 2), keepdims=True)
        strength = amplitude / np.sqrt(np.maximum(information, least))
        strength = np.roll(strength, (level.margin, level.margin), axis=(1, 2))[:, :rows, :columns]
        best = strength.argmax(axis=0)
        peak = np.take_along_axis(strength, best[None], axis=0)[0]
        row, column = np.nonzero((peak > significance) & (peak == maximum_filter(peak, size=3, mode="nearest")))
        depth = best[row, column]
        at = (depth, (row - level.margin) % level.padded[0], (column - level.margin) % level.padded[1])
        photons = amplitude[at] / np.maximum(information[at], least[depth, 0, 0])
        to_pixels = (level.binning - 1) / 2
        return np.column_stack(
            [
                (column - level.margin) * level.binning + to_pixels,
                (row - level.margin) * level.binning + to_pixels,
                level.depths_um[depth],
                photons,
                peak[row, column],
                level.radius_px[depth],
            ]
        ).astype(np.float64)


def _level(spline: PatternSpline, shape: tuple[int, int], depths_um: Array, binning: int, margin_px: float) -> _Level:
    radius_px = spline.radius_at_px(depths_um)
    half = int(np.ceil(radius_px.max() / binning)) + 1
    margin = int(np.ceil(margin_px / binning))
    # Room for the margin and for patterns that reach over the edge: the transform wraps around.
    side = 2 * half + 1
    needed = [max(-(-extent // binning) + margin + max(half, margin), side) for extent in shape]
    padded = tuple(fft.next_fast_len(extent, real=True) for extent in needed)
    box = np.array([0, side * binning, 0, side * binning])
    kernels = np.zeros((2, len(depths_um), *padded), np.float32)
    for row, z_index in enumerate(spline.z_index(depths_um)):
        radius = int(np.ceil(radius_px[row] / binning))
        centre = half * binning + (binning - 1) / 2
        first, end = (half - radius) * binning, (half + radius + 1) * binning
        box = np.array([first, end, first, end])
        pattern = np.empty((4, end - first, end - first), np.float32)
        render_pattern(
            spline.coefficients, centre, centre, z_index, spline.psf.z_step_um, spline.psf.oversampling, box, pattern
        )
        light = np.maximum(binned(pattern[0], binning), 0)
        around = slice(0, 2 * radius + 1)
        for kernel, values in zip(kernels[:, row], (light, light**2), strict=True):
            kernel[around, around] = values
            kernel[:] = np.roll(kernel, (-radius, -radius), axis=(0, 1))
    spectra = np.conj(fft.rfft2(kernels))
    return _Level(
        binning, depths_um, radius_px, (padded[0], padded[1]), margin, np.ascontiguousarray(spectra[0]), spectra[1]
    )


def _spectrum(image: NDArray[Any], level: _Level) -> NDArray[np.complex64]:
    padded = np.zeros(level.padded, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return fft.rfft2(padded)  # type: ignore[no-any-return]
