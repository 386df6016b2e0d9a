"""A cubic B-spline in three dimensions, drawn into cut-outs of beads and summed back from them, compiled.

All pixels of a cut-out share one sub-pixel offset, so the spline separates:
planes are combined first, then columns, then rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

__all__ = ["NormalEquations", "back_project", "normal_equations", "render_cutouts", "roughness", "subtract_others"]


class NormalEquations(NamedTuple):
    """Normal equations of each bead at each plane for light, x, y, z and background.

    Attributes
    ----------
    matrix : ndarray of float64, shape (B, Z, 5, 5)
    right : ndarray of float64, shape (B, Z, 5)
        Right-hand sides.
    power : ndarray of float64, shape (B, Z, 3)
        Squared residuals, squared model without background, and number of pixels, each summed over the cut-out.
    """

    matrix: Any
    right: Any
    power: Any


@numba.njit(cache=True, nogil=True)
def _weights(t: Any) -> Any:
    # Cubic B-spline at t = 0..1 past a knot (de Boor, A Practical Guide to Splines, 1978), and its derivative.
    s = 1.0 - t
    value = (
        np.float32(s * s * s / 6.0),
        np.float32((3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0),
        np.float32((3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0),
        np.float32(t * t * t / 6.0),
    )
    slope = (
        np.float32(-0.5 * s * s),
        np.float32(1.5 * t * t - 2.0 * t),
        np.float32(-1.5 * s * s + 2.0 * s),
        np.float32(0.5 * t * t),
    )
    return value, slope


@numba.njit(cache=True, nogil=True, fastmath=True)
def _collapse_z(coefficients: Any, position: Any, plane: Any, slope_plane: Any, want_slope: Any) -> None:
    depth, size = coefficients.shape[0], coefficients.shape[1]
    position = min(max(position, 0.0), depth - 1.0)
    base = int(np.floor(position))
    value, slope = _weights(position - base)
    plane[:] = 0.0
    slope_plane[:] = 0.0
    for tap in range(4):
        k = min(max(base - 1 + tap, 0), depth - 1)
        for i in range(size):
            for j in range(size):
                plane[i, j] += value[tap] * coefficients[k, i, j]
        if want_slope:
            for i in range(size):
                for j in range(size):
                    slope_plane[i, j] += slope[tap] * coefficients[k, i, j]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _across(plane: Any, position: Any, pixels: Any, oversampling: Any, taps: Any, out: Any) -> None:
    # Collapses columns: (N, N) -> (N, n).
    size = plane.shape[0]
    base = int(np.floor(position))
    for i in range(size):
        for c in range(pixels):
            start = base - 1 + c * oversampling
            total = np.float32(0.0)
            for tap in range(4):
                j = start + tap
                if 0 <= j < size:
                    total += taps[tap] * plane[i, j]
            out[i, c] = total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _down(columns: Any, position: Any, pixels: Any, oversampling: Any, taps: Any, out: Any) -> None:
    # Collapses rows: (N, n) -> (n, n).
    size = columns.shape[0]
    base = int(np.floor(position))
    for r in range(pixels):
        start = base - 1 + r * oversampling
        for c in range(pixels):
            out[r, c] = 0.0
        for tap in range(4):
            i = start + tap
            if 0 <= i < size:
                for c in range(pixels):
                    out[r, c] += taps[tap] * columns[i, c]


@numba.njit(cache=True, nogil=True, fastmath=True)
def render_cutouts(coefficients: Any, z: Any, x: Any, y: Any, oversampling: Any, out: Any) -> None:
    """Fill `out` (B, Z, n, n) with the spline at knots z, x, y (B, Z) of each cut-out's first pixel."""
    size = coefficients.shape[1]
    pixels = out.shape[2]
    plane = np.empty((size, size), np.float32)
    unused = np.empty((1, 1), np.float32)
    columns = np.empty((size, pixels), np.float32)
    for b in range(z.shape[0]):
        for k in range(z.shape[1]):
            _collapse_z(coefficients, z[b, k], plane, unused, False)
            across, _ = _weights(x[b, k] - np.floor(x[b, k]))
            down, _ = _weights(y[b, k] - np.floor(y[b, k]))
            _across(plane, x[b, k], pixels, oversampling, across, columns)
            _down(columns, y[b, k], pixels, oversampling, down, out[b, k])


@numba.njit(cache=True, nogil=True, fastmath=True)
def back_project(values: Any, seen: Any, weights: Any, z: Any, x: Any, y: Any, oversampling: Any, out: Any) -> None:
    """Add weighted pixels `values` (B, Z, n, n) that are `seen` to the coefficients `out` that they touch."""
    depth, size = out.shape[0], out.shape[1]
    pixels = values.shape[2]
    plane = np.empty((size, size), np.float32)
    columns = np.empty((size, pixels), np.float32)
    for b in range(z.shape[0]):
        for k in range(z.shape[1]):
            weight = np.float32(weights[b, k])
            if weight == 0.0:
                continue
            across, _ = _weights(x[b, k] - np.floor(x[b, k]))
            down, _ = _weights(y[b, k] - np.floor(y[b, k]))
            columns[:] = 0.0
            base = int(np.floor(y[b, k]))
            for r in range(pixels):
                for tap in range(4):
                    i = base - 1 + r * oversampling + tap
                    if 0 <= i < size:
                        factor = weight * down[tap]
                        for c in range(pixels):
                            if seen[b, k, r, c]:
                                columns[i, c] += factor * values[b, k, r, c]
            plane[:] = 0.0
            base = int(np.floor(x[b, k]))
            for i in range(size):
                for c in range(pixels):
                    for tap in range(4):
                        j = base - 1 + c * oversampling + tap
                        if 0 <= j < size:
                            plane[i, j] += across[tap] * columns[i, c]
            position = min(max(z[b, k], 0.0), depth - 1.0)
            base = int(np.floor(position))
            along, _ = _weights(position - base)
            for tap in range(4):
                m = min(max(base - 1 + tap, 0), depth - 1)
                for i in range(size):
                    for j in range(size):
                        out[m, i, j] += along[tap] * plane[i, j]


@numba.njit(cache=True, nogil=True, fastmath=True)
def subtract_others(model: Any, light: Any, corner: Any, data: Any) -> None:
    """Take the light of all other beads out of each cut-out of `data` (B, Z, n, n), in place."""
    beads, planes, pixels = data.shape[0], data.shape[1], data.shape[2]
    for b in range(beads):
        for other in range(beads):
            row = corner[b, 0] - corner[other, 0]
            column = corner[b, 1] - corner[other, 1]
            if other == b or abs(row) >= pixels or abs(column) >= pixels:
                continue
            for k in range(planes):
                amount = np.float32(light[other, k])
                for r in range(max(0, -row), min(pixels, pixels - row)):
                    for c in range(max(0, -column), min(pixels, pixels - column)):
                        data[b, k, r, c] -= amount * model[other, k, r + row, c + column]


@numba.njit(cache=True, nogil=True, fastmath=True)
def normal_equations(
    coefficients: Any, knots: Any, oversampling: Any, data: Any, seen: Any, light: Any, background: Any, sums: Any
) -> None:
    """Add the pixels `data` (B, Z, n, n) that are `seen` to the `NormalEquations` `sums`.

    `knots` are z, x, y (B, Z) of each cut-out's first pixel; `light` and `background` are (B, Z).
    """
    z, x, y = knots
    matrix, right, power = sums
    size = coefficients.shape[1]
    pixels = data.shape[2]
    plane = np.empty((size, size), np.float32)
    along = np.empty((size, size), np.float32)
    columns = np.empty((size, pixels), np.float32)
    value = np.empty((pixels, pixels), np.float32)
    by_x = np.empty((pixels, pixels), np.float32)
    by_y = np.empty((pixels, pixels), np.float32)
    by_z = np.empty((pixels, pixels), np.float32)
    row = np.empty(5)
    for b in range(z.shape[0]):
        for k in range(z.shape[1]):
            _collapse_z(coefficients, z[b, k], plane, along, True)
            across, across_slope = _weights(x[b, k] - np.floor(x[b, k]))
            down, down_slope = _weights(y[b, k] - np.floor(y[b, k]))
            _across(plane, x[b, k], pixels, oversampling, across, columns)
            _down(columns, y[b, k], pixels, oversampling, down, value)
            _down(columns, y[b, k], pixels, oversampling, down_slope, by_y)
            _across(plane, x[b, k], pixels, oversampling, across_slope, columns)
            _down(columns, y[b, k], pixels, oversampling, down, by_x)
            _across(along, x[b, k], pixels, oversampling, across, columns)
            _down(columns, y[b, k], pixels, oversampling, down, by_z)
            amount = light[b, k]
            level = background[b, k]
            for r in range(pixels):
                for c in range(pixels):
                    if not seen[b, k, r, c]:
                        continue
                    row[0] = value[r, c]
                    row[1] = amount * by_x[r, c]
                    row[2] = amount * by_y[r, c]
                    row[3] = amount * by_z[r, c]
                    row[4] = 1.0
                    rest = data[b, k, r, c] - amount * value[r, c] - level
                    for i in range(5):
                        right[b, k, i] += row[i] * rest
                        for j in range(5):
                            matrix[b, k, i, j] += row[i] * row[j]
                    power[b, k, 0] += rest * rest
                    power[b, k, 1] += amount * amount * value[r, c] * value[r, c]
                    power[b, k, 2] += 1.0


@numba.njit(cache=True, nogil=True, fastmath=True)
def roughness(values: Any) -> Any:
    """Gradient of half the sum of squared second differences along all three axes, shape (K, N, N)."""
    out = np.zeros_like(values)
    depth, rows, columns = values.shape
    two = np.float32(2.0)
    for k in range(depth):
        for i in range(rows):
            if 0 < k < depth - 1:
                for j in range(columns):
                    bend = values[k - 1, i, j] - two * values[k, i, j] + values[k + 1, i, j]
                    out[k - 1, i, j] += bend
                    out[k, i, j] -= two * bend
                    out[k + 1, i, j] += bend
            if 0 < i < rows - 1:
                for j in range(columns):
                    bend = values[k, i - 1, j] - two * values[k, i, j] + values[k, i + 1, j]
                    out[k, i - 1, j] += bend
                    out[k, i, j] -= two * bend
                    out[k, i + 1, j] += bend
            for j in range(1, columns - 1):
                bend = values[k, i, j - 1] - two * values[k, i, j] + values[k, i, j + 1]
                out[k, i, j - 1] += bend
                out[k, i, j] -= two * bend
                out[k, i, j + 1] += bend
    return out
