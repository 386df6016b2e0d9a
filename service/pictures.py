"""Frames as 8-bit pictures for people: which counts are black and white, and how many pixels have which counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "contrast_limits", "histogram", "saturated", "stretched"]

_DARK, _BRIGHT = 1.0, 99.8
"""Percentiles shown as black and white: the background, and bright patterns without the hot pixels."""

_SAMPLED_PIXELS = 20_000
"""Enough for both percentiles to within a grey level, at a tenth of the cost of all pixels."""

_BINS = 256
_HISTOGRAM_SIDE = 256
"""Rows and columns of the pixels that a histogram counts, at most: every n-th of both."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many pixels have which counts.

    Attributes
    ----------
    low_adu : int
        Lowest count of the first bin.
    bin_adu : int
        Counts in one bin.
    pixels : ndarray of int64, shape (N,)
        Pixels in each bin; N is at most 256.
    """

    low_adu: int
    bin_adu: int
    pixels: NDArray[np.int64]


def histogram(pixels: NDArray[np.uint16]) -> Histogram:
    """Histogram of a frame from its lowest to its highest count, from evenly spaced pixels.

    At most 256 rows and 256 columns are counted, so that a large sensor costs no more than a small one.

    Parameters
    ----------
    pixels : ndarray of uint16, shape (H, W)
        Counts.
    """
    step = -(-max(pixels.shape) // _HISTOGRAM_SIDE)
    sample = pixels[::step, ::step].ravel()
    low, high = int(sample.min()), int(sample.max())
    # Bins of whole counts: bins of other widths would hold more counts here and fewer there, which shows as a comb.
    width = (high - low) // _BINS + 1
    return Histogram(low, width, np.bincount((sample - np.uint16(low)) // np.uint16(width)))


def saturated(pixels: NDArray[np.uint16], bit_depth: int) -> int:
    """Number of pixels of a frame, shape (H, W), that have the highest count of `bit_depth` bits."""
    return int(np.count_nonzero(pixels >= (1 << bit_depth) - 1))


def contrast_limits(pixels: NDArray[Any]) -> tuple[float, float]:
    """The counts to show as black and white: the darkest 1 % of the pixels are black, the brightest 0.2 % white.

    Parameters
    ----------
    pixels : ndarray of numbers, shape (H, W)
        Counts.
    """
    flat = pixels.ravel()
    low, high = np.percentile(flat[:: max(flat.size // _SAMPLED_PIXELS, 1)], (_DARK, _BRIGHT))
    return float(low), float(high)


def stretched(pixels: NDArray[Any], low_adu: float, high_adu: float) -> NDArray[np.uint8]:
    """The picture of a frame, uint8, shape (H, W): `low_adu` becomes black, `high_adu` white."""
    grey = pixels.astype(np.float32, copy=False)
    scale = np.float32(255.0 / max(high_adu - low_adu, 1.0))
    picture: NDArray[np.uint8] = np.clip((grey - np.float32(low_adu)) * scale, 0.0, 255.0).astype(np.uint8)
    return picture
