"""8-bit levels: a map as 0..255 between two bounds."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["quantization_of", "to_levels"]

_HIGHEST = 255


def quantization_of(low: float, high: float) -> tuple[float, int]:
    """Scale and zero of a map with these bounds; the value 0 is a level, since convolutions pad with 0."""
    low, high = min(low, 0.0), max(high, 1e-6)
    scale = (high - low) / _HIGHEST
    return scale, round(-low / scale)


def to_levels(values: Tensor, scale: float, zero: int) -> Tensor:
    """Levels of values, uint8, same shape; ``(level - zero) * scale`` gives the value to within half a scale."""
    return (values / scale + zero).round_().clamp_(0, _HIGHEST).to(torch.uint8)
