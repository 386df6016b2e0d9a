"""Rao score test for adding emitters to an evaluation on cells of three sizes; see models.fit.score_test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.evaluation import Evaluation, compare_with, normal_equations
from models.fit.layout import Layout
from models.fit.level_patterns import LevelPatterns
from models.fit.score_test import rao_scores

__all__ = ["score_places"]

Array = NDArray[np.float64]


def score_places(
    evaluation: Evaluation, places: Array, prior: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Photons and significance of emitters at given places, if each were added to the model.

    All N emitters of the evaluation and the background are nuisance parameters. The image is compared again on cells as
    fine as the candidates need.

    Parameters
    ----------
    evaluation : Evaluation
        At the optimum of its likelihood and prior.
    places : ndarray of float64, shape (K, 3)
        x (pixels), y (pixels), z (µm).
    prior : (matrix, gradient), optional
        Of the parameters of the evaluation: information, shape (4 N + 1, 4 N + 1), and minus the gradient of the
        prior's cost, shape (4 N + 1,).

    Returns
    -------
    photons : ndarray of float64, shape (K,)
        To first order; negative where light is missing.
    significance : ndarray of float64, shape (K,)
        In standard deviations; half its square is the expected gain of log-likelihood. 0 without light in the image.
    """
    image, count = evaluation.image, len(evaluation.emitters)
    candidates = np.column_stack([places, np.ones(len(places))])
    layout = evaluation.layout.joined(image, Layout.of(image, candidates, evaluation.background))
    together = np.vstack([evaluation.emitters, candidates])
    patterns = LevelPatterns.of(image, together, layout, evaluation.patterns)
    light = together[:, 3].copy()
    light[count:] = 0.0
    model, _ = compare_with(image, patterns, light, evaluation.background)
    matrix, gradient = normal_equations(patterns, model, count)
    if prior is not None:
        own = np.append(np.arange(4 * count), len(gradient) - 1)
        matrix[np.ix_(own, own)] += prior[0]
        gradient[own] += prior[1]
    return rao_scores(matrix, gradient, count)
