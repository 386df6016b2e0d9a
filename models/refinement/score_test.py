"""Would one more emitter help, if all that is fitted may give way? A score test of candidates, compiled sums.

Where an emitter is missing, a fit has already moved and brightened its
neighbours to explain the light, so that little of it is left over. A matched
filter of the residual takes that little for all there is: in a crowd it sees
a fifth of the significance of a missing emitter, and places without. The
score test (Rao 1948) asks instead how far the likelihood would rise when the
candidate's light and every parameter of the fit follow together; to first
order that needs no fit, only the overlaps of the candidate with what is
fitted. As a rule of choice it is orthogonal least squares (Chen, Billings and
Luo, International Journal of Control 50, 1873, 1989), where the filter alone is
matching pursuit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from models.pattern_spline import PatternSpline
from models.refinement.fit_sums import assemble, render_all
from models.refinement.joint_fit import JointFit, Prior

__all__ = ["scored"]

Array = NDArray[np.float64]

_RIDGE = 1e-5
"""Added to the normal matrix scaled to ones: nearly equal patterns give way to a candidate only so far."""

_OWN = 0.02
"""Least share of a candidate's light that nothing else can explain; what has less is one of those that are there."""


def scored(
    candidates: Array,
    data: NDArray[np.float32],
    fit: JointFit,
    prior: Prior,
    spline: PatternSpline,
    variance: NDArray[np.float32],
) -> Array:
    """Photons and significance of candidates beside a fit whose parameters give way.

    Parameters
    ----------
    candidates : ndarray of float64, shape (K, 5 or more)
        x (pixels), y (pixels), z (µm), photons and significance as a matched filter sees them, and what else.
    data : ndarray of float32, shape (H, W)
        What was fitted.
    fit : JointFit
        Of N emitters.
    prior : Prior
        That it was fitted with.
    spline : PatternSpline
    variance : ndarray of float32, shape (H, W)
        Of each pixel.

    Returns
    -------
    ndarray of float64, shape (K, 5 or more)
        The same with photons and significance as the test sees them, the most significant first.
    """
    count = len(fit.emitters)
    if not len(candidates):
        return candidates
    matrix, pull = _sums(np.vstack([fit.emitters, candidates[:, :4]]), count, data - fit.expected, spline, variance)
    place = (4 * np.arange(count)[:, None] + np.arange(3)).ravel()
    matrix[place, place] += prior.weight.ravel()
    light = 4 * np.arange(count, count + len(candidates)) + 3
    fitted = np.append(np.arange(4 * count), len(matrix) - 1)
    # Emitters without any light in the frame give way to nothing.
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix)[fitted], np.finfo(np.float64).tiny))
    own = matrix[np.ix_(fitted, fitted)] * np.outer(scale, scale)
    own[np.diag_indices(len(own))] += _RIDGE
    overlap = matrix[np.ix_(fitted, light)] * scale[:, None]
    follows = linalg.cho_solve(linalg.cho_factor(own), overlap)
    whole = np.diagonal(matrix)[light]
    left = np.maximum(whole - (overlap * follows).sum(axis=0), _OWN * whole)
    score = pull[light] - follows.T @ (pull[fitted] * scale)
    found = candidates.copy()
    known = left > 0
    found[known, 3] = (score / np.where(known, left, 1.0))[known]
    found[:, 4] = np.where(known, score / np.sqrt(np.where(known, left, 1.0)), 0.0)
    return found[np.argsort(-found[:, 4], kind="stable")]


def _sums(
    emitters: Array, fitted: int, residual: NDArray[np.float32], spline: PatternSpline, variance: NDArray[np.float32]
) -> tuple[Array, Array]:
    """Normal matrix, and pull of the residual, for all figures of `emitters`, the first `fitted` of them of a fit."""
    emitters = emitters.copy()
    emitters[fitted:, 3] = 1.0
    x_px, y_px, z_um, _ = emitters.T
    boxes = spline.boxes(x_px, y_px, z_um, (residual.shape[0], residual.shape[1]))
    sizes = 4 * (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    patterns = np.empty(int(offsets[-1]), np.float32)
    render_all(
        spline.coefficients,
        np.zeros(len(emitters), bool),
        emitters,
        spline.z_index(z_um),
        spline.psf.z_step_um,
        spline.psf.oversampling,
        boxes,
        offsets,
        patterns,
    )
    size = 4 * len(emitters) + 1
    matrix, pull = np.zeros((size, size)), np.zeros(size)
    # The sums weigh with one over what is expected, of which the data differ by the residual.
    assemble(variance + residual, boxes, offsets, patterns, emitters, variance, matrix, pull)
    return np.triu(matrix) + np.triu(matrix, 1).T, pull
