"""The PSF as a cubic spline, rendered with its derivatives, compiled.

A joint fit needs the image of an emitter and its derivatives with respect to x,
y and z some hundred times a frame. All pixels of one emitter share the same
sub-pixel offset, so the spline separates: planes are combined first, then rows,
then columns, and the derivatives cost little more. Offsets are not rounded to a
sub-pixel table, which would limit a fit to a fraction of its step. Each pattern
is cropped to the square around the radius that holds nearly all of its light.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.psf import Psf

__all__ = ["ENERGY", "PatternSpline", "render_light", "render_pattern"]

ENERGY = 0.99
"""Share of a plane's light inside its radius, by default."""

_WIDE_ENERGY = 0.999
"""The same inside the wider radius, for emitters whose light outside the usual radius is visible."""

_TAPS = 3
"""Fine grid points beyond a pixel that its spline needs, rounded up."""

_SPARE_PX = 8
"""Spare pixels around the largest pattern, for boxes of whole bins."""


class PatternSpline:
    """Spline coefficients of a PSF and the radius of each plane.

    Parameters
    ----------
    psf : Psf
    energy : float
        Share of a plane's light inside its radius.

    Attributes
    ----------
    coefficients : ndarray of float32, shape (Z, N, N)
        B-spline coefficients of the planes.
    radius_px : ndarray of float64, shape (Z,)
        Radius that holds `energy` of the light, camera pixels, at least 3.
    wide_radius_px : ndarray of float64, shape (Z,)
        Radius that holds nearly all of it.
    """

    def __init__(self, psf: Psf, energy: float = ENERGY) -> None:
        self.psf = psf
        centre = psf.planes.shape[1] // 2
        largest = centre / psf.oversampling
        self.radius_px, self.wide_radius_px = (
            np.clip(radius / psf.oversampling, min(3.0, largest), largest)
            for radius in _enclosing_radii(psf.planes, (energy, max(energy, _WIDE_ENERGY)))
        )
        half = int(np.ceil((self.wide_radius_px.max() + _SPARE_PX) * psf.oversampling)) + _TAPS
        coefficients = ndimage.spline_filter(psf.planes, order=3, mode="mirror", output=np.float32)
        if half > centre:
            # Mirrored as far as the spline of the last grid point needs, zero beyond.
            coefficients = np.pad(coefficients, ((0, 0), (_TAPS, _TAPS), (_TAPS, _TAPS)), "reflect")
            dark = max(half - centre - _TAPS, 0)
            coefficients = np.pad(coefficients, ((0, 0), (dark, dark), (dark, dark)))
            centre += _TAPS + dark
        middle = slice(centre - half, centre + half + 1)
        self.coefficients: NDArray[np.float32] = np.ascontiguousarray(coefficients[:, middle, middle])

    def radius_at_px(self, z_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radius of the patterns at depths `z_um`, same shape, camera pixels."""
        radius: NDArray[np.float64] = np.interp(z_um, self.psf.z_um, self.radius_px)
        return radius

    def touching(self, emitters: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which patterns of emitters (N, 4) overlap, shape (N, N); False on the diagonal."""
        radius = self.radius_at_px(emitters[:, 2])
        apart = np.hypot(*(emitters[:, None, :2] - emitters[None, :, :2]).transpose(2, 0, 1))
        touching: NDArray[np.bool_] = apart < radius[:, None] + radius[None, :]
        np.fill_diagonal(touching, False)
        return touching

    def boxes(
        self,
        x_px: NDArray[np.float64],
        y_px: NDArray[np.float64],
        z_um: NDArray[np.float64],
        shape: tuple[int, int],
        wide: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Boxes of patterns in a frame of `shape` (H, W): (N, 4) first row, end row, first column, end column.

        Emitters marked in `wide`, (N,), get the wider radius.
        """
        radius = self.radius_at_px(z_um)
        if wide is not None and wide.any():
            radius = np.where(wide, np.interp(z_um, self.psf.z_um, self.wide_radius_px), radius)
        boxes: NDArray[np.int64] = _boxes(x_px, y_px, radius, *shape)
        return boxes

    def z_index(self, z_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Depths in units of planes, clipped to the first and last plane."""
        index: NDArray[np.float64] = (z_um - self.psf.z_um[0]) / self.psf.z_step_um
        return np.clip(index, 0, len(self.psf.z_um) - 1)


def _enclosing_radii(planes: NDArray[np.float32], energies: tuple[float, ...]) -> NDArray[np.float64]:
    """Radius that holds each share of each plane's light, shape (energies, Z), grid points."""
    centre = planes.shape[1] // 2
    steps = np.arange(planes.shape[1]) - centre
    ring = np.round(np.hypot(steps[:, None], steps[None, :])).astype(np.int64).ravel()
    radii = []
    for plane in planes:
        light = np.cumsum(np.bincount(ring, np.maximum(plane.ravel(), 0)))
        radii.append([float(np.searchsorted(light, energy * light[-1]) + 1) for energy in energies])
    return np.array(radii).T


@numba.njit(cache=True, nogil=True)
def _boxes(x_px: Any, y_px: Any, radius: Any, height: Any, width: Any) -> Any:
    boxes = np.empty((len(x_px), 4), np.int64)
    for e in range(len(x_px)):
        boxes[e, 0] = min(max(np.ceil(y_px[e] - radius[e]), 0), height)
        boxes[e, 1] = max(min(max(np.floor(y_px[e] + radius[e]) + 1, 0), height), boxes[e, 0])
        boxes[e, 2] = min(max(np.ceil(x_px[e] - radius[e]), 0), width)
        boxes[e, 3] = max(min(max(np.floor(x_px[e] + radius[e]) + 1, 0), width), boxes[e, 2])
    return boxes


@numba.njit(cache=True, nogil=True, inline="always")
def _basis(t: Any, weights: Any, slopes: Any) -> None:
    # Cubic B-spline at the four knots around a point, and its derivative.
    s = 1.0 - t
    weights[0] = s * s * s / 6.0
    weights[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    weights[2] = (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0
    weights[3] = t * t * t / 6.0
    slopes[0] = -0.5 * s * s
    slopes[1] = 1.5 * t * t - 2.0 * t
    slopes[2] = -1.5 * s * s + 2.0 * s
    slopes[3] = 0.5 * t * t


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _across(line: Any, weights: Any, oversampling: Any, out: Any) -> None:
    # The last direction of a spline. A constant step of two can be compiled for many columns at once.
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    if oversampling == 2:
        for c in range(len(out)):
            out[c] = w0 * line[2 * c] + w1 * line[2 * c + 1] + w2 * line[2 * c + 2] + w3 * line[2 * c + 3]
    else:
        for c in range(len(out)):
            j = oversampling * c
            out[c] = w0 * line[j] + w1 * line[j + 1] + w2 * line[j + 2] + w3 * line[j + 3]


@numba.njit(cache=True, nogil=True, inline="always")
def _clip(light: Any, slope_x: Any, slope_y: Any, slope_z: Any) -> None:
    # No light, and no derivatives of it, where a row of a pattern is negative.
    zero, one = np.float32(0.0), np.float32(1.0)
    for c in range(len(light)):
        keep = one if light[c] > zero else zero
        light[c] *= keep
        slope_x[c] *= keep
        slope_y[c] *= keep
        slope_z[c] *= keep


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fill(
    coefficients: Any,
    x_px: Any,
    y_px: Any,
    z_index: Any,
    z_step_um: Any,
    oversampling: Any,
    box: Any,
    pattern: Any,
    side: Any,
    positive: Any,
) -> None:
    planes, size, _ = coefficients.shape
    rows = box[1] - box[0]
    columns = box[3] - box[2]
    if rows <= 0 or columns <= 0:
        return
    weights = np.empty((6, 4), np.float32)
    k = min(int(z_index), planes - 2)
    _basis(z_index - k, weights[0], weights[1])
    centre = size // 2
    fine_y = (box[0] - y_px) * oversampling + centre
    fine_x = (box[2] - x_px) * oversampling + centre
    top = int(np.floor(fine_y))
    left = int(np.floor(fine_x))
    _basis(fine_y - top, weights[2], weights[3])
    _basis(fine_x - left, weights[4], weights[5])
    weights[1] /= np.float32(z_step_um)
    weights[3] *= np.float32(-oversampling / side)
    weights[5] *= np.float32(-oversampling / side)
    below = abs(k - 1)
    above = k + 2 if k + 2 < planes else 2 * (planes - 1) - (k + 2)
    fine_columns = (columns - 1) * oversampling + 4
    # The four rows of the fine grid that a row of pixels needs, twice, and three lines: small enough for the cache.
    buffer = np.empty((11, fine_columns), np.float32)
    line, line_y, line_z = buffer[8], buffer[9], buffer[10]
    # Single numbers stay in registers, elements of arrays do not.
    z0, z1, z2, z3 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    t0, t1, t2, t3 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    w0, w1, w2, w3 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    s0, s1, s2, s3 = weights[3, 0], weights[3, 1], weights[3, 2], weights[3, 3]
    ready = 0
    for r in range(rows):
        i = r * oversampling
        for fine in range(max(ready, i), i + 4):
            at = top - 1 + fine
            c0 = coefficients[below, at, left - 1 : left - 1 + fine_columns]
            c1 = coefficients[k, at, left - 1 : left - 1 + fine_columns]
            c2 = coefficients[k + 1, at, left - 1 : left - 1 + fine_columns]
            c3 = coefficients[above, at, left - 1 : left - 1 + fine_columns]
            v, d = buffer[fine % 4], buffer[4 + fine % 4]
            for j in range(fine_columns):
                v[j] = z0 * c0[j] + z1 * c1[j] + z2 * c2[j] + z3 * c3[j]
                d[j] = t0 * c0[j] + t1 * c1[j] + t2 * c2[j] + t3 * c3[j]
        ready = i + 4
        v0, v1, v2, v3 = buffer[i % 4], buffer[(i + 1) % 4], buffer[(i + 2) % 4], buffer[(i + 3) % 4]
        d0, d1, d2, d3 = buffer[4 + i % 4], buffer[4 + (i + 1) % 4], buffer[4 + (i + 2) % 4], buffer[4 + (i + 3) % 4]
        for j in range(fine_columns):
            line[j] = w0 * v0[j] + w1 * v1[j] + w2 * v2[j] + w3 * v3[j]
            line_y[j] = s0 * v0[j] + s1 * v1[j] + s2 * v2[j] + s3 * v3[j]
            line_z[j] = w0 * d0[j] + w1 * d1[j] + w2 * d2[j] + w3 * d3[j]
        _across(line, weights[4], oversampling, pattern[0, r])
        _across(line, weights[5], oversampling, pattern[1, r])
        _across(line_y, weights[4], oversampling, pattern[2, r])
        _across(line_z, weights[4], oversampling, pattern[3, r])
        if positive:
            _clip(pattern[0, r], pattern[1, r], pattern[2, r], pattern[3, r])


@numba.njit(cache=True, nogil=True)
def render_pattern(
    coefficients: Any, x_px: Any, y_px: Any, z_index: Any, z_step_um: Any, oversampling: Any, box: Any, pattern: Any
) -> None:
    """Fill `pattern` with the image of a unit emitter and its derivatives.

    Parameters
    ----------
    coefficients : ndarray of float32, shape (Z, N, N)
    x_px, y_px : float
        Emitter, camera pixels.
    z_index : float
        Its depth in planes, within them.
    z_step_um : float
        Distance of the planes, µm.
    oversampling : int
    box : ndarray of int, shape (4,)
        First row, end row, first column, end column; at most 7 pixels beyond the largest radius around the emitter.
    pattern : ndarray of float32, shape (4, rows, columns)
        Filled with the share of light per pixel and its derivatives with respect to x (per pixel), y (per pixel)
        and z (per µm).
    """
    _fill(coefficients, x_px, y_px, z_index, z_step_um, oversampling, box, pattern, 1, False)


@numba.njit(cache=True, nogil=True)
def render_light(
    coefficients: Any,
    side: Any,
    x_px: Any,
    y_px: Any,
    z_index: Any,
    z_step_um: Any,
    oversampling: Any,
    box: Any,
    pattern: Any,
) -> None:
    """Fill `pattern` as `render_pattern` does, on cells of `side` x `side` pixels and without negative light.

    Measured patterns have negative grains, and a spline undershoots beside an edge. Times millions of photons the model
    would be negative; clipping the model would make its gradient wrong, so patterns are clipped instead.

    Parameters are those of `render_pattern`, but `x_px` and `y_px` and the derivatives are in camera pixels, while the
    spline and the box are those of the cells.
    """
    shift = 0.5 * (side - 1)
    place_x, place_y = (x_px - shift) / side, (y_px - shift) / side
    _fill(coefficients, place_x, place_y, z_index, z_step_um, oversampling, box, pattern, side, True)
