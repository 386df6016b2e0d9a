"""Square patches of frames around given pixels, for networks that take one position at a time."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["box_photons", "cut_patches", "stretch_contrast"]

_CLIPPED_SHARE = 0.001
"""Share of a patch's pixels that is clipped at each end, as in the authors' public code."""


def cut_patches(maps: Tensor, batch: Tensor, left: Tensor, top: Tensor, side: int) -> Tensor:
    """Patches of maps; beyond the edge of a frame they are 0, which is its background.

    Parameters
    ----------
    maps : Tensor, shape (B, C, H, W)
    batch : int64 (N,)
        Which frame.
    left, top : int64 (N,)
        First column and row, from ``-side`` to the width or height.
    side : int
        Pixels.

    Returns
    -------
    Tensor, shape (N, C, side, side)
    """
    beyond = functional.pad(maps, (side, side, side, side))
    windows = beyond.unfold(2, side, 1).unfold(3, side, 1)
    return windows[batch, :, top + side, left + side]


def stretch_contrast(patches: Tensor) -> Tensor:
    """Patches (N, 1, S, S), each scaled from 0 to 1, its darkest and brightest thousandth clipped."""
    flat = patches.flatten(1)
    clipped = max(1, round(_CLIPPED_SHARE * flat.shape[1]))
    low = flat.kthvalue(clipped, 1).values
    high = flat.kthvalue(flat.shape[1] - clipped + 1, 1).values
    scaled = (flat - low[:, None]) / (high - low).clamp(min=1e-6)[:, None]
    return scaled.clamp(0, 1).view_as(patches)


def box_photons(electrons: Tensor, batch: Tensor, x_px: Tensor, y_px: Tensor, radius_px: Tensor) -> Tensor:
    """Light above the frame's median in the square that holds a pattern, photo-electrons, float64 (N,).

    A rough estimate: neighbours in the square count too, and the part beyond the edge is taken to have the mean light.

    Parameters
    ----------
    electrons : float32 (B, H, W)
    batch : int64 (N,)
        Which frame.
    x_px, y_px, radius_px : float (N,)
        Centre and half width of the square, pixels.
    """
    height, width = electrons.shape[1:]
    light = electrons.double() - electrons.flatten(1).median(1).values[:, None, None]
    sums = functional.pad(light.cumsum(1).cumsum(2), (1, 0, 1, 0))
    left = (x_px - radius_px).round().long().clamp(0, width - 1)
    right = ((x_px + radius_px).round().long() + 1).clamp(1, width)
    top = (y_px - radius_px).round().long().clamp(0, height - 1)
    bottom = ((y_px + radius_px).round().long() + 1).clamp(1, height)
    inside = sums[batch, bottom, right] - sums[batch, top, right] - sums[batch, bottom, left] + sums[batch, top, left]
    area = (2 * radius_px.double() + 1).square()
    shown = ((right - left) * (bottom - top)).double()
    return (inside * area / shown.clamp(min=1)).clamp(min=1.0)
