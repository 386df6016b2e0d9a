"""Rao score test for adding an emitter, with all fitted parameters as nuisance parameters.

Where an emitter is missing, the fit has already moved and brightened its
neighbours to explain its light, so that little is left in the residual. A
matched filter of the residual holds the fitted emitters fixed: in a crowd it
gives a fifth to a half of the significance of a missing emitter, and has false
peaks. The score test (Rao 1948) estimates by how much the likelihood rises when
the candidate's photons and every parameter of the fit change together. To first
order that needs no fit, only the overlaps of the candidate with the fitted
emitters. As a selection rule it is orthogonal least squares (Chen, Billings and
Luo, International Journal of Control 50, 1873, 1989), where the filter alone is
matching pursuit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from models.fit.joint_fit import JointFit
from models.fit.prior import Prior
from models.fit.rendering import Rendered, normal_equations
from models.pattern_spline import PatternSpline

__all__ = ["rao_scores", "score_candidates"]

Array = NDArray[np.float64]

_RIDGE = 1e-5
"""Added to the normal matrix scaled to a unit diagonal; regularizes nearly equal patterns."""

_OWN = 0.02
"""Least share of a candidate's information that the fitted emitters do not explain; with less it is a duplicate."""


def score_candidates(
    candidates: Array,
    data: NDArray[np.float32],
    fit: JointFit,
    prior: Prior,
    spline: PatternSpline,
    variance: NDArray[np.float32],
) -> Array:
    """Rao score test for adding each candidate to a fit, with all fitted parameters as nuisance parameters.

    Parameters
    ----------
    candidates : ndarray of float64, shape (K, 5 or more)
        x (pixels), y (pixels), z (µm), photons and significance of the matched filter, and further columns.
    data : ndarray of float32, shape (H, W)
        The fitted data, read variance included.
    fit : JointFit
        Of N emitters.
    prior : Prior
        Position prior of the fit.
    spline : PatternSpline
    variance : ndarray of float32, shape (H, W)
        Of each pixel.

    Returns
    -------
    ndarray of float64, shape (K, 5 or more)
        The same with photons and significance of the score test, 0 for those without light in the frame; the most
        significant first.
    """
    if not len(candidates):
        return candidates
    count = len(fit.emitters)
    together = np.vstack([fit.emitters, candidates[:, :4]])
    together[count:, 3] = 1.0
    residual = data - fit.expected
    rendered = Rendered.of(spline, together, (data.shape[0], data.shape[1]))
    # The sums weight with 1 / variance and take data - variance as the residual.
    matrix, pull = normal_equations(variance + residual, variance, rendered, prior)
    photons, significance = rao_scores(matrix, pull, count)
    found = candidates.copy()
    found[:, 3], found[:, 4] = photons, significance
    return found[np.argsort(-found[:, 4], kind="stable")]


def rao_scores(matrix: Array, pull: Array, fitted: int) -> tuple[Array, Array]:
    """Photons and significance of the score test for candidates, from the normal equations.

    Parameters
    ----------
    matrix : ndarray of float64, shape (4 (N + K) + 1, 4 (N + K) + 1)
        Fisher matrix of N fitted emitters and K candidates of one photon, prior included, the background last. Overlaps
        among candidates do not matter.
    pull : ndarray of float64, shape (4 (N + K) + 1,)
        Minus the gradient of the cost.
    fitted : int
        N.

    Returns
    -------
    photons, significance : ndarray of float64, shape (K,)
        0 for candidates without light in the frame.
    """
    light = np.arange(4 * fitted + 3, len(matrix) - 1, 4)
    nuisance = np.append(np.arange(4 * fitted), len(matrix) - 1)
    # Emitters without any light in the frame have a zero diagonal.
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix)[nuisance], np.finfo(np.float64).tiny))
    own = matrix[np.ix_(nuisance, nuisance)] * np.outer(scale, scale)
    own[np.diag_indices(len(own))] += _RIDGE
    overlap = matrix[np.ix_(nuisance, light)] * scale[:, None]
    follows = linalg.cho_solve(linalg.cho_factor(own), overlap)
    whole = np.diagonal(matrix)[light]
    left = np.maximum(whole - (overlap * follows).sum(axis=0), _OWN * whole)
    score = pull[light] - follows.T @ (pull[nuisance] * scale)
    photons, significance = np.zeros(len(light)), np.zeros(len(light))
    seen = left > 0
    photons[seen] = score[seen] / left[seen]
    significance[seen] = score[seen] / np.sqrt(left[seen])
    return photons, significance
