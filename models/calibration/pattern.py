"""The pattern of one bead as a cubic B-spline in x, y and z, during the calibration.

The spline is smooth between its knots and has one coefficient per knot, so it can
be fitted to beads at any sub-pixel position. The result becomes a
`models.psf.Psf`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.beads import Cone

__all__ = ["Pattern", "bright_centres", "empty_pattern", "focal_depth", "taper", "trimmed"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# A cubic B-spline at its own knot and at both neighbours.
_AT_KNOTS = np.array([1 / 6, 4 / 6, 1 / 6])


@dataclass(frozen=True)
class Pattern:
    """The pattern of one bead as a cubic B-spline.

    Attributes
    ----------
    coefficients : ndarray of float32, shape (K, N, N), N odd
        Each plane of knots sums to `oversampling`², so the pattern sums to one over the pixels at every depth.
    z_first_um, z_step_um : float
        Depth of the first plane of knots and distance between them, µm.
    oversampling : int
        Knots per camera pixel.
    """

    coefficients: F32
    z_first_um: float
    z_step_um: float
    oversampling: int

    @property
    def z_um(self) -> F64:
        """Depths of the planes of knots, shape (K,), µm."""
        return np.asarray(self.z_first_um + self.z_step_um * np.arange(len(self.coefficients)), np.float64)

    def samples(self) -> F32:
        """The pattern at its knots, shape (K, N, N): the spline evaluated, not its coefficients."""
        values = ndimage.correlate1d(self.coefficients, _AT_KNOTS, axis=0, mode="nearest")
        for axis in (1, 2):
            values = ndimage.correlate1d(values, _AT_KNOTS, axis=axis, mode="constant")
        return np.asarray(values, np.float32)

    @classmethod
    def of_samples(cls, samples: F32, z_um: F64, oversampling: int) -> Pattern:
        """The spline through samples (K, N, N) at evenly spaced depths (K,), µm."""
        coefficients = ndimage.spline_filter(samples, order=3, mode="mirror", output=np.float32)
        return cls(coefficients, float(z_um[0]), float(z_um[1] - z_um[0]), oversampling)

    def normalized(self) -> Pattern:
        """Every plane of knots scaled to the same sum."""
        sums = self.coefficients.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
        scale = self.oversampling**2 / np.where(np.abs(sums) > 1e-9, sums, np.inf)
        return replace(self, coefficients=(self.coefficients * scale).astype(np.float32))


def empty_pattern(z_um: F64, width: int, oversampling: int) -> Pattern:
    """A dark pattern for planes at depths `z_um` and cut-outs of `width` pixels, with two spare knots at each end."""
    step = float(np.diff(z_um).mean())
    first = (np.floor(z_um.min() / step) - 2) * step
    count = int(np.ceil((z_um.max() - first) / step)) + 3
    half = (width // 2 + 1) * oversampling
    return Pattern(np.zeros((count, 2 * half + 1, 2 * half + 1), np.float32), first, step, oversampling)


def taper(pattern: Pattern, cone: Cone) -> F32:
    """1 inside the cone, 0 well outside, a cosine in between, shape (K, N, N)."""
    half = pattern.coefficients.shape[1] // 2
    rows, columns = np.ogrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(rows, columns)[None] / pattern.oversampling
    inner = (1.08 * cone.at(pattern.z_um) + 0.5)[:, None, None]
    outer = (1.2 * cone.at(pattern.z_um) + 2.5)[:, None, None]
    phase = np.clip((distance - inner) / (outer - inner), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * phase)).astype(np.float32)


def trimmed(pattern: Pattern, cone: Cone) -> Pattern:
    """The pattern set to 0 outside its cone, normalized."""
    return replace(pattern, coefficients=pattern.coefficients * taper(pattern, cone)).normalized()


def bright_centres(pattern: Pattern) -> F64:
    """Centre of mass of the bright part of each plane (x, y), pixels, shape (K, 2).

    Used during the fit: changes of the pattern between rounds move it less than `plane_centres`.
    """
    half = pattern.coefficients.shape[1] // 2
    places = np.arange(-half, half + 1) / pattern.oversampling
    bright = np.maximum(pattern.coefficients - 0.1 * pattern.coefficients.max(axis=(1, 2), keepdims=True), 0)
    total = np.maximum(bright.sum(axis=(1, 2), dtype=np.float64), 1e-12)
    x = np.einsum("kij,j->k", bright, places, dtype=np.float64) / total
    y = np.einsum("kij,i->k", bright, places, dtype=np.float64) / total
    return np.stack([x, y], axis=1)


def focal_depth(pattern: Pattern) -> float:
    """Half of the depth at which the pattern has lost half of its concentration, µm."""
    concentration = (pattern.coefficients.astype(np.float64) ** 2).sum(axis=(1, 2))
    # The knots at the ends lie beyond the planes.
    inner = concentration[2:-2]
    z_um = pattern.z_um[2:-2]
    wide = np.abs(z_um - z_um[inner.argmax()])[inner < 0.5 * inner.max()]
    return max(float(wide.min()) / 2 if len(wide) else float(np.ptp(z_um)), pattern.z_step_um)
