"""One pattern through many beads: sub-pixel alignment in x, y and z, and the mean of all of them.

The pattern is a cubic B-spline in x, y and z. Every pixel of every bead at
every plane is one equation for its coefficients, so beads that lie at
different sub-pixel positions together give a grid finer than the camera's
pixels, and beads at different heights give depths between the planes. The
coefficients follow from the beads' positions by least squares (conjugate
gradients), the positions from the coefficients by Gauss-Newton, in turn.
Overlapping beads are used too: the light of the neighbours is computed from the
same pattern and subtracted.

All beads are scaled to equal light and have equal weight, since they differ from
each other by more than their noise; a bead that fits badly has less weight. A
weak smoothness penalty determines coefficients without data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.bead_stack import BeadFit, BeadStack
from models.calibration.pattern import Pattern
from models.calibration.spline_images import NormalEquations, back_project, normal_equations, render_cutouts, roughness

__all__ = ["fit_planes", "pattern_weights", "refine_beads", "solve_pattern"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Weight of the smoothness penalty (second differences of the coefficients) beside one bead.
_SMOOTHNESS = 0.02
# Structural difference between beads, as a share of the signal: caps the weight of very bright beads.
_BEAD_DIFFERENCE = 0.1


def solve_pattern(
    stack: BeadStack, pattern: Pattern, weights: F64, iterations: int, *, from_scratch: bool = False
) -> Pattern:
    """Least-squares pattern of all beads at their present positions.

    Parameters
    ----------
    stack : BeadStack
        Beads, neighbours subtracted.
    pattern : Pattern
        Start, and the shape of the result.
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
    stack, weights = stack.only(counted), weights[counted]
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
        back_project(values, stack.seen, used, z, x, y, oversampling, out)
        return out

    scratch = np.empty_like(stack.data)

    def normal(values: F32) -> F32:
        render_cutouts(values, z, x, y, oversampling, scratch)
        return np.asarray(project(scratch) + penalty * roughness(values), np.float32)

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
    sums = NormalEquations(np.zeros((beads, planes, 5, 5)), np.zeros((beads, planes, 5)), np.zeros((beads, planes, 3)))
    normal_equations(
        pattern.coefficients,
        stack.knots(pattern),
        pattern.oversampling,
        stack.data,
        stack.seen,
        stack.light,
        stack.background,
        sums,
    )
    matrix, right, power = sums
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


def _damped(matrix: F64) -> F64:
    diagonal = np.einsum("...ii->...i", matrix)
    lift = 1e-9 * diagonal + 1e-12 * np.maximum(diagonal.max(axis=-1, keepdims=True), 1e-20)
    return np.asarray(matrix + lift[..., None] * np.eye(matrix.shape[-1]), np.float64)
