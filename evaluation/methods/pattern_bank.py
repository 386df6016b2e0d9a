"""Correlation of a frame with the calibrated patterns of all depths, each on its own disc.

At every place and depth the pattern is fitted to the pixels of a disc by
least squares, with a background of its own, so that unevenness and the wide
light of deeper neighbours count for little. This linear fit gives all that
detection and look-up need: the amplitude, its significance against photon
noise, and the normalized cross-correlation of general defocusing particle
tracking (Barnkob, Kähler and Rossi, Lab on a Chip 15, 3556, 2015). Pixels
outside the frame are left out of the disc. Wide patterns are correlated on
binned pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter

from models.binning import whole_bins
from models.psf import Psf

__all__ = ["PatternBank", "correlation_binning", "depth_steps", "disc_radius_px"]

Array = NDArray[np.float64]

_STEP_OF_DEPTH = 0.05
"""Patterns scale with depth: this share of it changes them about as much anywhere."""

_BIN_RADIUS_PX = 16.0
"""Discs up to this radius are correlated pixel by pixel, up to twice it in twos, larger ones in fours."""

_LARGEST_BINNING = 4

_SEEN = 0.25
"""Share of a disc that must lie in the frame."""

_ENERGY = 0.9
"""Share of a pattern's light inside its disc: outside, light of neighbours outweighs the faint rings."""

_ROUND_PX = 2.0
"""Added to the disc, so that the background shows."""

_LEAST_VARIANCE = 1e-3
"""Photo-electrons squared, of a disc without light."""

_LEAST_SPREAD = 1e-3
"""Share of a pattern's contrast that must lie in the frame."""


def disc_radius_px(psf: Psf) -> Array:
    """Radius of each plane's disc, shape (Z,), camera pixels."""
    centre = psf.planes.shape[1] // 2
    steps = np.arange(psf.planes.shape[1]) - centre
    ring = np.round(np.hypot(steps[:, None], steps[None, :])).astype(np.int64).ravel()
    light = np.stack([np.cumsum(np.bincount(ring, np.maximum(plane.ravel(), 0))) for plane in psf.planes])
    enough = (light >= _ENERGY * light[:, -1:]).argmax(axis=1)
    radius: Array = np.minimum(enough / psf.oversampling + _ROUND_PX, psf.radius_px)
    return radius


def correlation_binning(radius_px: float) -> int:
    """Pixels per bin with which discs of a radius are correlated."""
    return min(1 << max(int(np.ceil(np.log2(radius_px / _BIN_RADIUS_PX))), 0), _LARGEST_BINNING)


def depth_steps(psf: Psf, step_um: float) -> Array:
    """Depths from the first plane to the last, `step_um` apart near focus and farther as patterns grow, µm."""
    depths = [float(psf.z_um[0])]
    while depths[-1] < psf.z_um[-1]:
        depths.append(depths[-1] + max(step_um, _STEP_OF_DEPTH * abs(depths[-1])))
    steps: Array = np.minimum(depths, psf.z_um[-1])
    return steps


@dataclass(frozen=True, slots=True)
class _Level:
    """Depths that are correlated at one binning; spectra of patterns and discs, sums over the pixels in the frame."""

    binning: int
    depths_um: Array
    padded: tuple[int, int]
    patterns: NDArray[np.complex128]
    discs: NDArray[np.complex128]
    pixels: Array
    light: Array
    spread: Array


class PatternBank:
    """Patterns of many depths for one size of frame.

    Parameters
    ----------
    psf : Psf
    shape : (H, W)
        Of the frames.
    depths_um : ndarray, shape (D,)
    """

    def __init__(self, psf: Psf, shape: tuple[int, int], depths_um: Array) -> None:
        radius = np.interp(depths_um, psf.z_um, disc_radius_px(psf))
        binning = np.array([correlation_binning(each) for each in radius])
        self._levels = [
            _level(psf, shape, depths_um[binning == value], radius[binning == value], int(value))
            for value in np.unique(binning)
        ]

    def peaks(self, data: NDArray[np.float32], correlation: float, significance: float) -> Array:
        """Every maximum of the correlation over place and depth.

        Parameters
        ----------
        data : ndarray of float32, shape (H, W)
            Photo-electrons, read variance added, so that the mean is the variance.
        correlation : float
            Least normalized correlation.
        significance : float
            Least amplitude in its standard deviations.

        Returns
        -------
        ndarray of float64, shape (K, 7)
            x and y (pixels), z (µm), photons, background per pixel, correlation and significance, the highest
            correlation first.
        """
        found = np.concatenate([_peaks(level, data, correlation, significance) for level in self._levels])
        return found[np.argsort(-found[:, 5], kind="stable")]


def _peaks(level: _Level, data: NDArray[np.float32], correlation: float, significance: float) -> Array:
    image = whole_bins(data, level.binning).astype(np.float64)
    # Sums of squares lose their digits beside a large mean.
    mean = image.mean()
    image -= mean
    shape = image.shape
    around = fft.rfft2(image, level.padded)
    with_pattern = _correlate(around, level.patterns, level.padded, shape)
    total = _correlate(around, level.discs, level.padded, shape)
    square = _correlate(fft.rfft2(image**2, level.padded), level.discs, level.padded, shape)
    shared = with_pattern - level.light * total / level.pixels
    variance = np.maximum(total / level.pixels + mean, _LEAST_VARIANCE)
    # Less contrast than photons make by themselves would be rounding.
    contrast = np.maximum(square - total**2 / level.pixels, variance)
    strength = shared / np.sqrt(level.spread * contrast)
    seen = level.pixels >= _SEEN * level.pixels.max(axis=(1, 2), keepdims=True)
    top = strength == maximum_filter(np.where(seen, strength, 0), size=3, mode="nearest")
    at = np.nonzero(top & seen & (strength > correlation))
    depth, row, column = at
    photons = shared[at] / level.spread[at]
    # The noise of what lies beneath, and of the emitter's own light: a single photon in the dark is no emitter.
    certain = photons / np.sqrt(variance[at] / level.spread[at] + photons)
    background = (total[at] - photons * level.light[at]) / level.pixels[at] + mean
    to_pixels = (level.binning - 1) / 2
    found = np.column_stack(
        [
            column * level.binning + to_pixels,
            row * level.binning + to_pixels,
            level.depths_um[depth],
            photons,
            background / level.binning**2,
            strength[at],
            certain,
        ]
    )
    return np.asarray(found[certain > significance], np.float64)


def _level(psf: Psf, shape: tuple[int, int], depths_um: Array, radius_px: Array, binning: int) -> _Level:
    rows, columns = (side // binning for side in shape)
    half = int(np.ceil(radius_px.max() / binning))
    padded = (fft.next_fast_len(rows + half, real=True), fft.next_fast_len(columns + half, real=True))
    fine = (np.arange((2 * half + 1) * binning) - ((2 * half + 1) * binning - 1) / 2) * psf.pixel_size_um
    bins = np.arange(-half, half + 1) * binning
    distance = np.hypot(bins[:, None], bins[None, :])
    patterns = np.zeros((len(depths_um), *padded))
    discs = np.zeros_like(patterns)
    for row, (z_um, radius) in enumerate(zip(depths_um, radius_px, strict=True)):
        inside = (distance <= max(radius, binning)).astype(np.float64)
        pattern = whole_bins(psf.evaluate(fine[None, :], fine[:, None], np.array(z_um)), binning) * inside
        for target, values in ((patterns, pattern), (discs, inside)):
            target[row, : 2 * half + 1, : 2 * half + 1] = values
            target[row] = np.roll(target[row], (-half, -half), axis=(0, 1))
    of_patterns, of_discs, of_squares = (np.conj(fft.rfft2(kernels)) for kernels in (patterns, discs, patterns**2))
    frame = fft.rfft2(np.ones((rows, columns)), padded)
    light, pixels, square = (
        _correlate(frame, kernels, padded, (rows, columns)) for kernels in (of_patterns, of_discs, of_squares)
    )
    pixels = np.maximum(pixels, 1.0)
    spread = square - light**2 / pixels
    least = _LEAST_SPREAD * spread.max(axis=(1, 2), keepdims=True)
    return _Level(binning, depths_um, padded, of_patterns, of_discs, pixels, light, np.maximum(spread, least))


def _correlate(
    spectrum: NDArray[np.complex128], kernels: NDArray[np.complex128], padded: tuple[int, int], shape: tuple[int, ...]
) -> Array:
    correlated: Array = fft.irfft2(spectrum * kernels, padded)[:, : shape[0], : shape[1]]
    return correlated
