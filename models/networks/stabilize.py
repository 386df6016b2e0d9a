"""What every network sees: frames whose noise is the same everywhere, at several scales.

The generalized Anscombe transform makes shot noise and read noise of unit
variance, the frame's median is taken away as its background, and an inverse
hyperbolic sine compresses bright cores, so that one network serves frames
from a handful of photo-electrons to a full well. A deep emitter spreads its
light over thousands of pixels, each far below the noise: binning before the
transform, as a camera would, brings it above.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["anscombe_transform", "compress_above_median", "median_step", "stabilize"]

_MEDIAN_SAMPLES = 4096
"""About so many pixels decide the median."""


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
    """Maps (B, 1, H, W) above their median, compressed; in place."""
    step = median_step(root.shape[2], root.shape[3])
    median = root[:, 0, ::step, ::step].flatten(1).median(1).values
    return torch.asinh_(root.sub_(median[:, None, None, None]))


def median_step(height: int, width: int) -> int:
    """Every how manieth row and column decide the median."""
    return max(1, int((height * width / _MEDIAN_SAMPLES) ** 0.5))
