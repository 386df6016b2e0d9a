"""Uneven background of a frame, as a robust quadratic of the residual.

A joint fit has one background per frame. A real background rises towards the
middle of the field and may fall below the camera's offset. At the brightness of
deep patterns, a bead on more background than the fit assumes looks wider and so
deeper. The residual of a fit shows the background as a slow function of
position. Cauchy weights make the quadratic robust against missed emitters and
rims of bright ones.

A pattern as wide as the frame is a slow function of position too, so this is
for frames that are much wider than their patterns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["background_is_separable", "uneven_background"]

_PATTERNS_ACROSS = 8
"""Fewest diameters of the widest pattern across the frame, so that its light is not taken for background."""

_CELL_PX = 8
"""Side of the cells whose means are fitted: noise averages out, and a quadratic is nearly constant within."""

# Cauchy weights with this many robust deviations keep 95 % of the efficiency of least squares.
_CAUCHY = 2.4 * 1.4826
_ROUNDS = 15


def background_is_separable(shape: tuple[int, ...], widest_px: float) -> bool:
    """Whether a frame of `shape` (H, W) is wide enough to separate its background from patterns of this radius."""
    return min(shape) >= _PATTERNS_ACROSS * 2 * widest_px


def uneven_background(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Robust quadratic fit to the residual of a frame.

    Parameters
    ----------
    residual : ndarray of float32, shape (H, W)
        Photo-electrons; both sides at least 3 cells of 8 pixels.

    Returns
    -------
    ndarray of float32, shape (H, W)
    """
    rows, columns = (size // _CELL_PX for size in residual.shape)
    inside = residual[: rows * _CELL_PX, : columns * _CELL_PX]
    values = inside.reshape(rows, _CELL_PX, columns, _CELL_PX).mean(axis=(1, 3), dtype=np.float64).ravel()
    middle = (_CELL_PX - 1) / 2
    design = _quadratic(
        np.arange(float(rows)) * _CELL_PX + middle, np.arange(float(columns)) * _CELL_PX + middle, residual.shape
    )
    weight = np.ones(len(values))
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        rest = np.abs(values - design @ solution)
        weight = 1 / (1 + (rest / max(_CAUCHY * float(np.median(rest)), 1e-9)) ** 2)
    height, width = residual.shape
    everywhere = _quadratic(np.arange(float(height)), np.arange(float(width)), residual.shape)
    background: NDArray[np.float32] = (everywhere @ solution).reshape(residual.shape).astype(np.float32)
    return background


def _quadratic(row: NDArray[np.float64], column: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Rows of (1, u, v, u², u v, v²), with u and v from -1 to 1 over a frame of `shape`, for places row by row."""
    v, u = np.meshgrid(2 * row / (shape[0] - 1) - 1, 2 * column / (shape[1] - 1) - 1, indexing="ij")
    return np.stack([np.ones(u.size), u.ravel(), v.ravel(), u.ravel() ** 2, (u * v).ravel(), v.ravel() ** 2], axis=1)
