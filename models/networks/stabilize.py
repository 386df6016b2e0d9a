"""The input of every network: variance-stabilized frames at several binnings.

The generalized Anscombe transform gives shot noise and read noise unit
variance. The frame's median is subtracted as its background, and an inverse
hyperbolic sine compresses bright cores, so that one network serves frames
from a few photo-electrons to a full well. A deep emitter spreads its light
over thousands of pixels, each far below the noise: binning before the
transform, as a camera would, raises it above the noise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["anscombe_transform", "compress_above_median", "median_step", "stabilize"]

_MEDIAN_SAMPLES = 4096
"""Approximate number of pixels from which the median is taken."""


def stabilize(electrons: Tensor, read_noise_e: Tensor, binnings: tuple[int, ...]) -> list[Tensor]:
    """Variance-stabilized, median-subtracted, compressed frames, one for each binning.

    Parameters
    ----------
    electrons : float32 (B, H, W)
        Photo-electrons, offset removed; H and W multiples of every binning.
    read_noise_e : float32 (B,)
        Standard deviation of the read noise of one pixel.
    binnings : pixels summed along each axis

    Returns
    -------
    list of float32 (B, 1, H / binning, W / binning)

    Notes
    -----
    2 sqrt(e + 3/8 + read²): Murtagh, Starck & Bijaoui, Astron. Astrophys. Suppl. 112, 179 (1995), for unit gain.
    """
    maps = []
    summed, done = electrons[:, None], 1
    for binning in binnings:
        if binning != done:
            factor = binning // done
            summed, done = functional.avg_pool2d(summed, factor) * factor**2, binning
        maps.append(compress_above_median(anscombe_transform(summed, read_noise_e, binning)))
    return maps


def anscombe_transform(summed_e: Tensor, read_noise_e: Tensor, binning: int) -> Tensor:
    """Counts whose noise has variance 1, of frames (B, 1, H, W) summed over `binning` pixels each way."""
    shifted = summed_e + (0.375 + (binning * read_noise_e).square())[:, None, None, None]
    return 2 * shifted.clamp_(min=0).sqrt_()


def compress_above_median(root: Tensor) -> Tensor:
    """Subtract the median of maps (B, 1, H, W) and compress by an inverse hyperbolic sine; in place."""
    step = median_step(root.shape[2], root.shape[3])
    median = root[:, 0, ::step, ::step].flatten(1).median(1).values
    return torch.asinh_(root.sub_(median[:, None, None, None]))


def median_step(height: int, width: int) -> int:
    """Step between the rows and columns from which the median is taken."""
    return max(1, int((height * width / _MEDIAN_SAMPLES) ** 0.5))
