"""Fit a pupil to measured planes.

Gauss-Newton on a few planes, from focus outwards. Near focus a rough first guess
of the aperture is enough. Farther planes change faster with the parameters, so
they are added in stages, when the nearer planes have brought the pupil close
enough. Light and lateral position of each plane are nuisance parameters, since
they belong to the beads and the drive. `pupil_pattern` keeps the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.pupil import ZERNIKES, Pupil, render_pupil

__all__ = ["LONGEST_STEP", "MeasuredPlane", "PupilFit", "fit_pupil"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_WAVELENGTHS_UM = (0.3, 0.4, 0.52, 0.68, 0.9)
"""First guesses of λ/n, near enough to each other for one of them to lead to the right one."""

_SINE_SHARES = (0.86, 0.97)
"""First guesses of the aperture, over the one that follows from the width of the patterns, which includes their rim."""

_COARSE = np.array([True] * 4 + [False] * 2 + [n == 4 and m == 0 for n, m in ZERNIKES])
"""Parameters that are fitted first: aperture, wavelength, focus, bead, spherical aberration."""

_COARSE_ITERATIONS, _STAGE_ITERATIONS, _LAST_ITERATIONS = 4, 2, 4
_STEPS = np.array([1e-3, 2e-3, 0.02, 0.05, 0.02, 0.02] + [2e-3] * len(ZERNIKES))
"""Steps of the finite differences: small enough for linearity, large enough for single precision."""

LONGEST_STEP = np.array([0.03, 0.15, 1.0, 0.4, 0.3, 0.3] + [0.05] * len(ZERNIKES))
"""Longest step of an iteration; the linear model is not valid farther."""

_DAMPING = 1e-6
_STAGE_GROWTH = 2.2
"""Each stage reaches this much deeper than the one before."""


@dataclass(frozen=True, slots=True)
class MeasuredPlane:
    """Measured image at one depth.

    Attributes
    ----------
    z_um : float
    image : ndarray of float32, shape (N, N), N odd
        The axis is at the central sample.
    """

    z_um: float
    image: F32


@dataclass(frozen=True, slots=True)
class PupilFit:
    """Fitted pupil and the misfit of each plane.

    Attributes
    ----------
    pupil : Pupil
    misfit : ndarray of float64, shape (K,)
        RMS of the residual over RMS of the plane.
    shift : ndarray of float64, shape (K, 2)
        Lateral shift (x, y) of the plane from the pupil's pattern, samples.
    """

    pupil: Pupil
    misfit: F64
    shift: F64


def fit_pupil(
    planes: Sequence[MeasuredPlane], step_um: float, pixel_um: float, cone_tangent: float, start: Pupil | None = None
) -> PupilFit:
    """Pupil whose pattern is nearest to the planes.

    Parameters
    ----------
    planes : sequence of MeasuredPlane
        At depths from focus to the end of the range, on one side or on both.
    step_um, pixel_um : float
        Distance of the samples, and side of the camera's pixel, µm.
    cone_tangent : float
        Radius per depth by which the patterns grow, about.
    start : Pupil, optional
        Pupil close to the result; without it, first guesses are tried.
    """
    ordered = sorted(planes, key=lambda plane: abs(plane.z_um))
    depths = np.array([abs(plane.z_um) for plane in ordered])
    free = np.ones(len(_STEPS), bool)
    if start is None:
        limit = float(max(depths[min(4, len(depths) - 1)], 0.1 * depths[-1]))
        near = [plane for plane in ordered if abs(plane.z_um) <= limit]
        start = _guess(near, step_um, pixel_um, cone_tangent)
        while limit < depths[-1]:
            start = _iterate(start, near, step_um, pixel_um, free, _STAGE_ITERATIONS)
            limit *= _STAGE_GROWTH
            near = [plane for plane in ordered if abs(plane.z_um) <= limit]
    pupil = _iterate(start, ordered, step_um, pixel_um, free, _LAST_ITERATIONS)
    seen = [_Comparison(pupil, plane, step_um, pixel_um) for plane in planes]
    return PupilFit(pupil, np.array([each.misfit for each in seen]), np.array([each.shift for each in seen]))


def _guess(planes: Sequence[MeasuredPlane], step_um: float, pixel_um: float, cone_tangent: float) -> Pupil:
    sine = cone_tangent / np.hypot(1, cone_tangent)
    best, left = Pupil(sine, 2.0), np.inf
    for wavelength in _WAVELENGTHS_UM:
        for share in _SINE_SHARES:
            tried = Pupil(share * sine, 1 / wavelength, bead_um=pixel_um)
            tried = _iterate(tried, planes, step_um, pixel_um, _COARSE, _COARSE_ITERATIONS)
            misfit = sum(_Comparison(tried, plane, step_um, pixel_um).misfit ** 2 for plane in planes)
            if misfit < left:
                best, left = tried, misfit
    return best


def _iterate(
    pupil: Pupil,
    planes: Sequence[MeasuredPlane],
    step_um: float,
    pixel_um: float,
    free: NDArray[np.bool_],
    iterations: int,
) -> Pupil:
    """Gauss-Newton iterations; a step that raises the misfit is halved, up to three times."""
    now = [_Comparison(pupil, plane, step_um, pixel_um) for plane in planes]
    for _ in range(iterations):
        matrix, right = _normal_equations(pupil, now, step_um, pixel_um, free)
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
        inner = matrix / np.outer(scale, scale) + _DAMPING * np.eye(len(scale))
        step = np.zeros(len(free))
        step[free] = np.linalg.solve(inner, right / scale) / scale
        step *= min(1.0, float(np.min(LONGEST_STEP / np.maximum(np.abs(step), 1e-12))))
        before = sum(each.misfit**2 for each in now)
        for _ in range(3):
            tried = pupil.moved_to(pupil.as_vector() + step)
            then = [_Comparison(tried, plane, step_um, pixel_um) for plane in planes]
            after = sum(each.misfit**2 for each in then)
            if after < before:
                break
            step = step / 2
        else:
            return pupil
        pupil, now = tried, then
        if after > before * (1 - 1e-4):
            break
    return pupil


class _Comparison:
    """Residual of a plane from the pupil's pattern, over its norm; light and lateral position are fitted."""

    def __init__(self, pupil: Pupil, plane: MeasuredPlane, step_um: float, pixel_um: float) -> None:
        self.plane = plane
        self._half = plane.image.shape[0] // 2
        self.model = render_pupil(pupil, plane.z_um, self._half, step_um, pixel_um).ravel()
        flat = plane.image.ravel()
        self.norm = float(np.linalg.norm(flat))
        by_y, by_x = np.gradient(self.model.reshape(plane.image.shape))
        columns = np.stack([self.model, by_x.ravel(), by_y.ravel()], axis=1)
        solution, *_ = np.linalg.lstsq(columns, flat, rcond=None)
        self._open, _ = np.linalg.qr(columns)
        self.light = float(solution[0])
        self.shift = -solution[1:] / max(abs(self.light), 1e-12) * np.sign(self.light)
        self.residual = (flat - columns @ solution) / self.norm
        self.misfit = float(np.linalg.norm(self.residual))

    def column(self, moved: Pupil, step: float, step_um: float, pixel_um: float) -> F64:
        """Derivative of the model by one parameter of the pupil, with light and lateral position fitted."""
        other = render_pupil(moved, self.plane.z_um, self._half, step_um, pixel_um).ravel()
        change = (other - self.model) * (self.light / step / self.norm)
        return np.asarray(change - self._open @ (self._open.T @ change), np.float64)


def _normal_equations(
    pupil: Pupil, now: Sequence[_Comparison], step_um: float, pixel_um: float, free: NDArray[np.bool_]
) -> tuple[F64, F64]:
    vector = pupil.as_vector()
    moved = []
    for index in np.flatnonzero(free):
        changed = vector.copy()
        changed[index] += _STEPS[index]
        moved.append((pupil.moved_to(changed), float(_STEPS[index])))
    count = len(moved)
    matrix, right = np.zeros((count, count)), np.zeros(count)
    for each in now:
        columns = np.stack([each.column(other, step, step_um, pixel_um) for other, step in moved], axis=1)
        matrix += columns.T @ columns
        right += columns.T @ each.residual
    return matrix, right
