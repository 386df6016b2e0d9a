"""Frames as 8-bit pictures for people: which counts are black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["contrast_limits", "stretched"]

_DARK, _BRIGHT = 1.0, 99.8
"""Percentiles shown as black and white: the background, and bright patterns without the hot pixels."""

_SAMPLED_PIXELS = 20_000
"""Enough for both percentiles to within a grey level, at a tenth of the cost of all pixels."""


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
