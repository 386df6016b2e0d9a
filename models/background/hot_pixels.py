"""Hot pixels in a map of static light: bright, alone, and there all the time.

They are removed from frames whatever the rule says on the rest of the map,
because no emitter is that narrow: in focus and in the middle of a pixel, it
gives each neighbour a tenth of that pixel's light with the shipped optics. Out
of focus a pattern can have a sharp peak in its middle, but a dark ring around it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.background.kernels import mark_peaks

__all__ = ["hot_pixels"]

F32 = NDArray[np.float32]

_SIGMAS = 8.0
"""Standard deviations of the noise of one frame by which a hot pixel exceeds the pixels around it."""

_ALONE = 0.06
"""Share of its excess by which its neighbours may differ from the pixels around them."""


def hot_pixels(light_e: F32, read_noise_e: float) -> NDArray[np.bool_]:
    """Which pixels are hot; of two hot neighbours neither is recognized.

    Parameters
    ----------
    light_e : ndarray of float32, shape (H, W)
        Static light, photo-electrons.
    read_noise_e : float

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    hot = np.zeros(light_e.shape, np.bool_)
    read_variance = max(read_noise_e, 0.5) ** 2
    mark_peaks(light_e, np.float32((1 - _ALONE) * _SIGMAS), np.float32(read_variance), hot)
    padded = np.pad(light_e, 2, mode="reflect")
    for row, column in np.argwhere(hot):
        window = padded[row : row + 5, column : column + 5]
        around = float(np.median(np.concatenate([window[[0, 4]].ravel(), window[1:4, [0, 4]].ravel()])))
        excess, noise = float(light_e[row, column]) - around, float(np.sqrt(max(around, 0.0) + read_variance))
        beside = np.abs(np.sort(window[1:4, 1:4], axis=None)[:-1] - around)
        hot[row, column] = excess > _SIGMAS * noise and float(beside.max()) < _ALONE * excess
    return hot
