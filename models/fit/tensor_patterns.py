"""Patterns of emitters as tensors: the cubic spline of `models.pattern_spline` on any device, for all emitters at once.

Every pattern is computed on a square of the same size and placed into an image. That is more arithmetic than the
compiled form, in few operations: what a graphics processor needs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.pattern_spline import PatternSpline

__all__ = ["TensorSpline"]

Array = NDArray[np.float64]


class TensorSpline:
    """A spline on square cells of camera pixels, on a device.

    Parameters
    ----------
    spline : PatternSpline
        On cells of `side` x `side` pixels.
    side : int
    device : torch.device
    """

    def __init__(self, spline: PatternSpline, side: int, device: torch.device) -> None:
        self.spline, self.side, self.device = spline, side, device
        self._coefficients = torch.from_numpy(spline.coefficients).to(device)

    def render(self, emitters: Array, boxes: NDArray[np.int64], shape: tuple[int, int]) -> Tensor:
        """Light and derivatives of a photon of each emitter.

        Parameters
        ----------
        emitters : ndarray of float64, shape (N, 4)
            x, y (camera pixels), z (µm), photons.
        boxes : ndarray of int64, shape (N, 4)
            First row, end row, first column, end column of each pattern, cells.
        shape : (rows, columns)
            Of the image, cells.

        Returns
        -------
        Tensor of float32, shape (N, 4, rows * columns)
            Light, d/dx, d/dy (per camera pixel), d/dz (per µm). Zero outside the boxes, and where light is negative.
        """
        count = len(emitters)
        images = torch.zeros((count, 4, shape[0] * shape[1]), dtype=torch.float32, device=self.device)
        extent = np.maximum(boxes[:, 1::2] - boxes[:, ::2], 0)
        if not extent.size or not extent.all(axis=1).any():
            return images
        rows, columns = (int(end) for end in extent.max(axis=0))
        pattern = self._pattern(emitters, boxes, rows, columns)
        row = torch.from_numpy(boxes[:, 0]).to(self.device)[:, None] + torch.arange(rows, device=self.device)
        column = torch.from_numpy(boxes[:, 2]).to(self.device)[:, None] + torch.arange(columns, device=self.device)
        ends = torch.from_numpy(np.where(extent.all(axis=1)[:, None], boxes[:, 1::2], 0)).to(self.device)
        inside = (row < ends[:, :1])[:, :, None] & (column < ends[:, 1:])[:, None, :]
        pattern *= (inside & (pattern[:, 0] > 0))[:, None]
        place = row.clamp(max=shape[0] - 1)[:, :, None] * shape[1] + column.clamp(max=shape[1] - 1)[:, None, :]
        # Cells outside a box are zero: adding them at the image's edge changes nothing.
        flat = place.reshape(count, 1, -1).expand(-1, 4, -1)
        return images.scatter_add_(2, flat, pattern.reshape(count, 4, -1))

    def _pattern(self, emitters: Array, boxes: NDArray[np.int64], rows: int, columns: int) -> Tensor:
        """Light and derivatives from the first row and column of each box on, shape (N, 4, rows, columns)."""
        spline, side, step = self.spline, self.side, self.spline.psf.oversampling
        planes, size, _ = spline.coefficients.shape
        index = spline.z_index(emitters[:, 2])
        plane = np.minimum(index.astype(np.int64), planes - 2)
        above = np.where(plane + 2 < planes, plane + 2, 2 * (planes - 1) - (plane + 2))
        four = np.stack([np.abs(plane - 1), plane, plane + 1, above], axis=1)
        shift = 0.5 * (side - 1)
        fine = (boxes[:, [0, 2]] - (emitters[:, [1, 0]] - shift) / side) * step + size // 2
        first = np.floor(fine).astype(np.int64)
        z_weight, z_slope = self._basis(index - plane)
        y_weight, y_slope = self._basis(fine[:, 0] - first[:, 0])
        x_weight, x_slope = self._basis(fine[:, 1] - first[:, 1])
        z_slope /= spline.psf.z_step_um
        y_slope *= -step / side
        x_slope *= -step / side
        # Cells beyond the spline are outside the boxes.
        row, column = (
            (torch.from_numpy(first[:, axis] - 1)[:, None] + torch.arange((extent - 1) * step + 4))
            .clamp(0, size - 1)
            .to(self.device)
            for axis, extent in enumerate((rows, columns))
        )
        near = self._coefficients[
            torch.from_numpy(four).to(self.device)[:, :, None, None], row[:, None, :, None], column[:, None, None, :]
        ]
        value, by_z = (torch.einsum("na,narc->nrc", weight, near) for weight in (z_weight, z_slope))
        line, line_y, line_z = (
            _across(value, y_weight, rows, step, 1),
            _across(value, y_slope, rows, step, 1),
            _across(by_z, y_weight, rows, step, 1),
        )
        return torch.stack(
            [
                _across(line, x_weight, columns, step, 2),
                _across(line, x_slope, columns, step, 2),
                _across(line_y, x_weight, columns, step, 2),
                _across(line_z, x_weight, columns, step, 2),
            ],
            dim=1,
        )

    def _basis(self, part: Array) -> tuple[Tensor, Tensor]:
        """Cubic B-spline at the four knots around points, and its derivative: shape (N, 4) each."""
        t, s = part, 1.0 - part
        weights = np.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3], axis=1) / 6
        slopes = np.stack([-0.5 * s**2, 1.5 * t**2 - 2 * t, -1.5 * s**2 + 2 * s, 0.5 * t**2], axis=1)
        return (
            torch.from_numpy(weights.astype(np.float32)).to(self.device),
            torch.from_numpy(slopes.astype(np.float32)).to(self.device),
        )


def _across(values: Tensor, weights: Tensor, count: int, step: int, axis: int) -> Tensor:
    """Combine four neighbours along an axis of (N, rows, columns), for every cell of `step` grid points."""
    parts = (values.narrow(axis, a, (count - 1) * step + 1) for a in range(4))
    every = [part[:, ::step] if axis == 1 else part[:, :, ::step] for part in parts]
    total = weights[:, :1, None] * every[0]
    for a in range(1, 4):
        total = total + weights[:, a : a + 1, None] * every[a]
    return total
