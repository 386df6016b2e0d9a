"""Rendered patterns of the emitters of a frame, and their normal equations, for fits and score tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.normal_equations import assemble, render_all
from models.fit.prior import Prior
from models.pattern_spline import PatternSpline

__all__ = ["Rendered", "normal_equations"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Patterns of N emitters, with their derivatives.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    boxes : ndarray of int64, shape (N, 4)
        First row, end row, first column and end column of each.
    offsets : ndarray of int64, shape (N + 1,)
        First index of each in `patterns`.
    patterns : ndarray of float32
        Light, d/dx, d/dy and d/dz of a photon, box by box.
    """

    emitters: Array
    boxes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    patterns: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        spline: PatternSpline,
        emitters: Array,
        shape: tuple[int, int],
        wide: NDArray[np.bool_] | None = None,
        before: Rendered | None = None,
    ) -> Rendered:
        """Render emitters in a frame of `shape` (H, W).

        Parameters
        ----------
        spline : PatternSpline
        emitters : ndarray of float64, shape (N, 4)
        shape : (H, W)
        wide : ndarray of bool, shape (N,), optional
            Emitters with the wider crop.
        before : Rendered, optional
            The same emitters with the same `wide`: those that have not moved keep their patterns.
        """
        x_px, y_px, z_um, _ = emitters.T
        boxes = spline.boxes(x_px, y_px, z_um, shape, wide)
        sizes = 4 * (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        patterns = np.empty(int(offsets[-1]), np.float32)
        stays = np.zeros(len(emitters), bool)
        if before is not None:
            stays = (emitters[:, :3] == before.emitters[:, :3]).all(axis=1)
            for row in np.flatnonzero(stays):
                source = slice(before.offsets[row], before.offsets[row + 1])
                patterns[offsets[row] : offsets[row + 1]] = before.patterns[source]
        psf = spline.psf
        index = spline.z_index(z_um)
        render_all(
            spline.coefficients, stays, emitters, index, psf.z_step_um, psf.oversampling, boxes, offsets, patterns
        )
        return cls(emitters, boxes, offsets, patterns)


def normal_equations(
    data: NDArray[np.float32], expected: NDArray[np.float32], rendered: Rendered, prior: Prior
) -> tuple[Array, Array]:
    """Fisher matrix and minus the gradient of the cost.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        Photo-electrons plus the read variance.
    expected : ndarray of float32, shape (H, W)
        Their expectation, which is also their variance.
    rendered : Rendered
        Of N emitters.
    prior : Prior
        Prior of the first F emitters, which are fitted. The others are candidates; overlaps among candidates are left
        zero.

    Returns
    -------
    matrix : ndarray of float64, shape (4 N + 1, 4 N + 1)
        For x, y (pixels), z (µm) and photons of each emitter, and the background.
    gradient : ndarray of float64, shape (4 N + 1,)
    """
    fitted = len(prior.place)
    size = 4 * len(rendered.emitters) + 1
    matrix, gradient = np.zeros((size, size)), np.zeros(size)
    assemble(
        data,
        rendered.boxes,
        rendered.offsets,
        rendered.patterns,
        rendered.emitters,
        fitted,
        expected,
        matrix,
        gradient,
    )
    place = (4 * np.arange(fitted)[:, None] + np.arange(3)).ravel()
    matrix[place, place] += prior.weight.ravel()
    gradient[place] += (prior.weight * (prior.place - rendered.emitters[:fitted, :3])).ravel()
    # Blocks of one emitter are complete; those of two emitters are filled above the diagonal only.
    return np.triu(matrix) + np.triu(matrix, 1).T, gradient
