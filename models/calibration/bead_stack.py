"""Cut-outs of beads and their fitted parameters, from which the pattern is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.pattern import Pattern
from models.calibration.spline_images import render_cutouts, subtract_others

__all__ = ["BeadFit", "BeadStack", "subtract_neighbours"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class BeadStack:
    """Cut-outs of beads at every plane, and their parameters.

    Attributes
    ----------
    data : ndarray of float32, shape (B, Z, n, n), n odd
        Photo-electrons.
    seen : ndarray of uint8, shape (B, Z, n, n)
        1 where a pixel counts (inside the frame, not masked).
    corner : ndarray of int64, shape (B, 2)
        Row and column of the cut-outs' first pixel in the frame.
    x_px, y_px : ndarray of float64, shape (B,)
        Position in focus, pixels of the frame.
    height_um : ndarray of float64, shape (B,)
        Depth of each bead when the mean bead is in focus, µm.
    z_um : ndarray of float64, shape (Z,)
        Depth of the mean bead at each plane, µm.
    walk_px : ndarray of float64, shape (Z, 2)
        Lateral drift (x, y) common to all beads, pixels.
    light : ndarray of float64, shape (B, Z)
        Photo-electrons of each bead at each plane.
    background : ndarray of float64, shape (B, Z)
        Photo-electrons per pixel.
    bend : ndarray of float64, shape (B, Z, 3)
        Shift by the field map for each bead: x and y (pixels), and depth (µm).
    """

    data: F32
    seen: NDArray[np.uint8]
    corner: NDArray[np.int64]
    x_px: F64
    y_px: F64
    height_um: F64
    z_um: F64
    walk_px: F64
    light: F64
    background: F64
    bend: F64

    @property
    def width(self) -> int:
        """Pixels along an edge of a cut-out."""
        return int(self.data.shape[2])

    def knots(self, pattern: Pattern) -> tuple[F64, F64, F64]:
        """Position of the first pixel of each cut-out on the knots of the pattern: z, x, y, each of shape (B, Z)."""
        centre = pattern.coefficients.shape[1] // 2
        z_um = self.z_um[None, :] + self.height_um[:, None] + self.bend[:, :, 2]
        x_px = self.x_px[:, None] + self.walk_px[None, :, 0] + self.bend[:, :, 0]
        y_px = self.y_px[:, None] + self.walk_px[None, :, 1] + self.bend[:, :, 1]
        z = (z_um - pattern.z_first_um) / pattern.z_step_um
        x = centre + pattern.oversampling * (self.corner[:, 1, None] - x_px)
        y = centre + pattern.oversampling * (self.corner[:, 0, None] - y_px)
        return z, x, y

    def model(self, pattern: Pattern) -> F32:
        """Pattern of each bead, normalized to one photo-electron, shape (B, Z, n, n)."""
        out = np.empty_like(self.data)
        render_cutouts(pattern.coefficients, *self.knots(pattern), pattern.oversampling, out)
        return out

    def only(self, rows: NDArray[np.bool_]) -> BeadStack:
        """The stack with the beads selected by `rows`, shape (B,)."""
        if rows.all():
            return self
        return replace(
            self,
            data=self.data[rows],
            seen=self.seen[rows],
            corner=self.corner[rows],
            x_px=self.x_px[rows],
            y_px=self.y_px[rows],
            height_um=self.height_um[rows],
            light=self.light[rows],
            background=self.background[rows],
            bend=self.bend[rows],
        )


@dataclass(frozen=True)
class BeadFit:
    """Fit of every bead at every plane on its own, relative to the stack's parameters.

    Attributes
    ----------
    shift : ndarray of float64, shape (B, Z, 3)
        x and y (pixels) and z (µm) by which the bead appears displaced.
    light, background : ndarray of float64, shape (B, Z)
        Photo-electrons, and photo-electrons per pixel.
    misfit : ndarray of float64, shape (B, Z)
        RMS residual over RMS of the fitted pattern.
    """

    shift: F64
    light: F64
    background: F64
    misfit: F64


def subtract_neighbours(stack: BeadStack, model: F32, data: F32) -> BeadStack:
    """The stack with the light of neighbours subtracted from `data`, the cut-outs as recorded."""
    cleaned = data.copy()
    subtract_others(model, stack.light, stack.corner, cleaned)
    return replace(stack, data=cleaned)
