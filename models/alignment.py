"""One pattern through many beads: sub-pixel alignment in x, y and z, and the mean of all of them.

The pattern is a cubic B-spline in x, y and z. Every pixel of every bead at
every plane is one equation for its coefficients, so beads that lie at
different sub-pixel positions together give a grid finer than the camera's
pixels, and beads at different heights give depths between the planes. The
coefficients follow from the beads' positions by least squares (conjugate
gradients), the positions from the coefficients by Gauss-Newton, in turn.
Overlapping beads need not be thrown away: what the neighbours add is computed
from the same pattern and subtracted.

The mean is taken over beads scaled to equal light and equal weight, since
beads differ from each other by more than their noise; a bead that fits badly
counts less. Where no pixel speaks, a faint smoothness penalty decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BeadFit",
    "BeadStack",
    "Pattern",
    "fit_planes",
    "pattern_weights",
    "refine_beads",
    "solve_pattern",
    "subtract_neighbours",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Weight of the smoothness penalty (second differences of the coefficients) beside one bead.
_SMOOTHNESS = 0.02
# Structural difference between beads, as a share of the signal: caps the weight of very bright beads.
_BEAD_DIFFERENCE = 0.1


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
        values = self.coefficients.astype(np.float64)
        for axis in range(3):
            padded = np.pad(
                values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge" if axis == 0 else "constant"
            )
            values = (
                np.take(padded, range(0, padded.shape[axis] - 2), axis)
                + 4 * np.take(padded, range(1, padded.shape[axis] - 1), axis)
                + np.take(padded, range(2, padded.shape[axis]), axis)
            ) / 6
        return values.astype(np.float32)

    def normalized(self) -> Pattern:
        """Every plane of knots scaled to the same sum."""
        sums = self.coefficients.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
        scale = self.oversampling**2 / np.where(np.abs(sums) > 1e-9, sums, np.inf)
        return replace(self, coefficients=(self.coefficients * scale).astype(np.float32))


@dataclass(frozen=True)
class BeadStack:
    """Cut-outs of beads at every plane, and where the beads are.

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
        Sideways walk (x, y) common to all beads, pixels.
    light : ndarray of float64, shape (B, Z)
        Photo-electrons of each bead at each plane.
    background : ndarray of float64, shape (B, Z)
        Photo-electrons per pixel beneath it.
    bend : ndarray of float64, shape (B, Z, 3)
        What a map of the field adds for each bead: shift in x and y (pixels), and depth (µm).
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
        """Where the first pixel of each cut-out lies on the pattern's knots: z, x, y, each of shape (B, Z)."""
        centre = pattern.coefficients.shape[1] // 2
        z_um = self.z_um[None, :] + self.height_um[:, None] + self.bend[:, :, 2]
        x_px = self.x_px[:, None] + self.walk_px[None, :, 0] + self.bend[:, :, 0]
        y_px = self.y_px[:, None] + self.walk_px[None, :, 1] + self.bend[:, :, 1]
        z = (z_um - pattern.z_first_um) / pattern.z_step_um
        x = centre + pattern.oversampling * (self.corner[:, 1, None] - x_px)
        y = centre + pattern.oversampling * (self.corner[:, 0, None] - y_px)
        return z, x, y

    def model(self, pattern: Pattern) -> F32:
        """The pattern of each bead, of one photo-electron, shape (B, Z, n, n)."""
        out = np.empty_like(self.data)
        _render(pattern.coefficients, *self.knots(pattern), pattern.oversampling, out)
        return out


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
    """The stack with the light of overlapping beads taken out of `data` (the cut-outs as recorded)."""
    cleaned = data.copy()
    _subtract(model, stack.light, stack.corner, cleaned)
    return replace(stack, data=cleaned)


def solve_pattern(
    stack: BeadStack, pattern: Pattern, weights: F64, iterations: int, *, from_scratch: bool = False
) -> Pattern:
    """Least-squares pattern of all beads at their present positions.

    Parameters
    ----------
    stack : BeadStack
        Beads, neighbours subtracted.
    pattern : Pattern
        Where to start, and the shape of the result.
    weights : ndarray of float64, shape (B, Z)
        Weight of each bead at each plane; 0 leaves it out.
    iterations : int
        Steps of the conjugate gradient.
    from_scratch : bool
        Start from the back-projected data instead of `pattern`.

    Returns
    -------
    Pattern
        Normalized.
    """
    counted = np.asarray((weights > 0).any(axis=1))
    stack, weights = _only(stack, counted), weights[counted]
    z, x, y = stack.knots(pattern)
    oversampling = pattern.oversampling
    used = np.where(stack.light > 0, weights, 0.0)
    scaled = (stack.data - stack.background[:, :, None, None].astype(np.float32)) / np.where(
        stack.light > 0, stack.light, 1.0
    )[:, :, None, None].astype(np.float32)
    shape = pattern.coefficients.shape
    mean_weight = max(float(used.sum(axis=0).mean()) / oversampling**2, 1e-12)
    penalty = np.float32(_SMOOTHNESS * mean_weight)

    def project(values: F32) -> F32:
        out = np.zeros(shape, np.float32)
        _back_project(values, stack.seen, used, z, x, y, oversampling, out)
        return out

    scratch = np.empty_like(stack.data)

    def normal(values: F32) -> F32:
        _render(values, z, x, y, oversampling, scratch)
        return project(scratch) + penalty * _rough(values)

    right = project(scaled.astype(np.float32))
    if from_scratch:
        cover = project(np.ones_like(stack.data))
        current = (right / np.maximum(cover, 0.05 * mean_weight)).astype(np.float32)
    else:
        current = pattern.coefficients.copy()
    residual = right - normal(current)
    direction = residual.copy()
    energy = float(np.vdot(residual, residual))
    for _ in range(iterations):
        if energy <= 0:
            break
        image = normal(direction)
        step = np.float32(energy / max(float(np.vdot(direction, image)), 1e-30))
        current += step * direction
        residual -= step * image
        new_energy = float(np.vdot(residual, residual))
        direction = residual + np.float32(new_energy / energy) * direction
        energy = new_energy
    return replace(pattern, coefficients=current)


def fit_planes(stack: BeadStack, pattern: Pattern) -> tuple[BeadFit, F64, F64]:
    """Gauss-Newton step of every bead at every plane.

    Returns
    -------
    fit : BeadFit
        Each bead at each plane on its own.
    matrix : ndarray of float64, shape (B, Z, 5, 5)
        Normal matrices for (light, x, y, height, background).
    right : ndarray of float64, shape (B, Z, 5)
        Right-hand sides.
    """
    beads, planes = stack.light.shape
    matrix = np.zeros((beads, planes, 5, 5))
    right = np.zeros((beads, planes, 5))
    power = np.zeros((beads, planes, 3))
    _normal_equations(
        pattern.coefficients,
        *stack.knots(pattern),
        pattern.oversampling,
        stack.data,
        stack.seen,
        stack.light,
        stack.background,
        matrix,
        right,
        power,
    )
    scale = np.array([1.0, -pattern.oversampling, -pattern.oversampling, 1.0 / pattern.z_step_um, 1.0])
    matrix *= scale[:, None] * scale[None, :]
    right *= scale
    step = np.asarray(np.linalg.solve(_damped(matrix), right[..., None])[..., 0], np.float64)
    count = np.maximum(power[..., 2], 1)
    noise = np.sqrt(power[..., 0] / count)
    signal = np.sqrt(power[..., 1] / count)
    fit = BeadFit(
        shift=step[..., 1:4],
        light=stack.light + step[..., 0],
        background=stack.background + step[..., 4],
        misfit=noise / np.maximum(signal, 1e-12),
    )
    return fit, matrix, right


def refine_beads(
    stack: BeadStack, pattern: Pattern, weights: F64, *, heights: bool = True
) -> tuple[BeadStack, BeadFit]:
    """One Gauss-Newton step: a position and height for each bead, light and background for each of its planes.

    Parameters
    ----------
    stack, pattern : BeadStack, Pattern
        Neighbours subtracted.
    weights : ndarray of float64, shape (B, Z)
        Weight of each plane of each bead, for squared photo-electrons.
    heights : bool
        Whether the heights are free.
    """
    fit, matrix, right = fit_planes(stack, pattern)
    place = [1, 2, 3] if heights else [1, 2]
    linear = [0, 4]
    own = _damped(matrix[..., linear, :][..., linear])
    cross = matrix[..., place, :][..., linear]
    gain = np.linalg.solve(own, cross.swapaxes(-1, -2)).swapaxes(-1, -2)
    reduced = matrix[..., place, :][..., place] - gain @ cross.swapaxes(-1, -2)
    aim = right[..., place] - (gain @ right[..., linear, None])[..., 0]
    total = np.einsum("bz,bzij->bij", weights, reduced)
    goal = np.einsum("bz,bzi->bi", weights, aim)
    step = np.linalg.solve(_damped(total), goal[..., None])[..., 0]
    # A step longer than the pattern's own detail leaves the region in which the linear model holds.
    step[:, :2] = np.clip(step[:, :2], -1.0, 1.0)
    height = stack.height_um.copy()
    if heights:
        height += np.clip(step[:, 2], -2 * pattern.z_step_um, 2 * pattern.z_step_um)
    rest = right[..., linear] - np.einsum("bzpl,bp->bzl", cross, step)
    light_step = np.linalg.solve(own, rest[..., None])[..., 0]
    moved = replace(
        stack,
        x_px=stack.x_px + step[:, 0],
        y_px=stack.y_px + step[:, 1],
        height_um=height,
        light=np.maximum(stack.light + light_step[..., 0], 0.02 * stack.light),
        background=stack.background + light_step[..., 1],
    )
    return moved, fit


def pattern_weights(
    stack: BeadStack, fit: BeadFit | None, variance: float, used: NDArray[np.bool_], model: F32
) -> tuple[F64, F64]:
    """Weights of beads and planes: for the pattern (scaled light), and for positions (photo-electrons).

    A bead counts by 1/(noise² + difference²), both relative to its own signal,
    with the difference between beads taken as 10 % of the signal; one that fits
    worse than the others counts less (Cauchy weight).
    """
    energy = np.einsum("bzij,bzij->bz", model, model, dtype=np.float64)
    noise = variance + np.maximum(stack.background, 0.0)
    relative = noise / np.maximum(stack.light, 1e-9) ** 2 / np.maximum(energy, 1e-12)
    weight = 1.0 / (1.0 + relative / _BEAD_DIFFERENCE**2)
    if fit is not None:
        typical = np.median(fit.misfit[used], axis=0)
        weight = weight / (1.0 + (fit.misfit / np.maximum(2 * typical, 1e-9)) ** 2)
    weight = np.where(used[:, None] & (stack.light > 0), weight, 0.0)
    place = 1.0 / (1.0 + relative / _BEAD_DIFFERENCE**2) / np.maximum(stack.light**2 * energy, 1e-12)
    return weight, place


def _only(stack: BeadStack, rows: NDArray[np.bool_]) -> BeadStack:
    """The stack with some of its beads."""
    if rows.all():
        return stack
    return replace(
        stack,
        data=stack.data[rows],
        seen=stack.seen[rows],
        corner=stack.corner[rows],
        x_px=stack.x_px[rows],
        y_px=stack.y_px[rows],
        height_um=stack.height_um[rows],
        light=stack.light[rows],
        background=stack.background[rows],
        bend=stack.bend[rows],
    )


def _damped(matrix: F64) -> F64:
    diagonal = np.einsum("...ii->...i", matrix)
    lift = 1e-9 * diagonal + 1e-12 * np.maximum(diagonal.max(axis=-1, keepdims=True), 1e-20)
    return np.asarray(matrix + lift[..., None] * np.eye(matrix.shape[-1]), np.float64)


def _rough(values: F32) -> F32:
    out = np.zeros_like(values)
    for axis in range(3):
        if values.shape[axis] < 3:
            continue
        second = np.diff(values, n=2, axis=axis)
        low: list[slice] = [slice(None)] * 3
        middle: list[slice] = [slice(None)] * 3
        high: list[slice] = [slice(None)] * 3
        low[axis], middle[axis], high[axis] = slice(0, -2), slice(1, -1), slice(2, None)
        out[tuple(low)] += second
        out[tuple(middle)] -= 2 * second
        out[tuple(high)] += second
    return out


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
def _render(coefficients: Any, z: Any, x: Any, y: Any, oversampling: Any, out: Any) -> None:
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
def _back_project(values: Any, seen: Any, weights: Any, z: Any, x: Any, y: Any, oversampling: Any, out: Any) -> None:
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
def _subtract(model: Any, light: Any, corner: Any, data: Any) -> None:
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
def _normal_equations(
    coefficients: Any,
    z: Any,
    x: Any,
    y: Any,
    oversampling: Any,
    data: Any,
    seen: Any,
    light: Any,
    background: Any,
    matrix: Any,
    right: Any,
    power: Any,
) -> None:
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
