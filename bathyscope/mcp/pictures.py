"""Camera frames as PNG pictures for display."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.pictures import contrast_limits, stretched

__all__ = ["png", "scaled"]

_MOST_PIXELS = 512
"""Along each side, as in the preview of the service."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A grey picture, shape (H, W), as a PNG file."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(pixels))


def scaled(counts: NDArray[Any]) -> tuple[NDArray[np.uint8], int, float, float]:
    """Camera counts for display.

    Parameters
    ----------
    counts : ndarray, shape (H, W)

    Returns
    -------
    pixels : ndarray of uint8
        At most 512 pixels a side: means of blocks.
    scale : int
        Camera pixels for each pixel, each way.
    low, high : float
        Counts shown as black and white.
    """
    scale = max(1, -(-max(counts.shape) // _MOST_PIXELS))
    height, width = (max(side // scale, 1) for side in counts.shape)
    cut = counts[: height * scale, : width * scale].astype(np.float32)
    blocks = cut.reshape(height, cut.shape[0] // height, width, cut.shape[1] // width).mean(axis=(1, 3))
    low, high = contrast_limits(blocks)
    return stretched(blocks, low, high), scale, low, high
