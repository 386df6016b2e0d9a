"""Interface of a renderer of test frames, for any optics."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageSource"]


class ImageSource(Protocol):
    """Draws emitters."""

    def render(self, emitters: NDArray[np.float64], image: NDArray[np.float32]) -> None:
        """Add emitters (N, 4), x, y, z in µm and photo-electrons, to an image (H, W), in place."""
