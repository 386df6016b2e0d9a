"""What an image says of each emitter: positions without the prior, and the likelihood ratio."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fit.prior_fit import EmitterPrior, PriorFit, fit_with_prior
from models.tracking.image_evidence import ImageEvidence
from tests.models.image_samples import SHAPE, image_model
from tests.models.joint_fit_scenes import expected_frame, noisy_frame

Array = NDArray[np.float64]

BACKGROUND_E = 5.0
TRUTH = np.array([[30.2, 34.7, 10.0, 4e3], [62.5, 62.1, 14.0, 4e3]])
SIGMAS = np.array([0.4, 0.4, 0.8, 4e2])
BOUNDS = (np.array([-8.0, -8.0, 0.5]), np.array([SHAPE[1] + 7.0, SHAPE[0] + 7.0, 30.0]))


def fitted(
    emitters: Array, mean: Array, sigmas: Array | list[float] = SIGMAS, seed: int = 4, steps: int = 10
) -> PriorFit:
    """Fit of an image of `emitters` with a prior at `mean`."""
    optics = image_model().optics
    image = optics.image(noisy_frame(expected_frame(optics.psf, emitters, BACKGROUND_E, SHAPE), seed))
    weight = np.broadcast_to(1 / np.asarray(sigmas, np.float64) ** 2, mean.shape).copy()
    return fit_with_prior(image, EmitterPrior(mean, weight, 0), BACKGROUND_E, BOUNDS, steps)


def evidence(fit: PriorFit, network: Array | None = None) -> ImageEvidence:
    unknown = np.full(len(fit.emitters), np.nan)
    return ImageEvidence.of(fit, image_model().optics.splines[0], unknown if network is None else network)


def test_the_measured_position_is_that_without_the_prior() -> None:
    """An isolated bright emitter: as with a prior that is 100 times wider."""
    mean = TRUTH[:1] + SIGMAS * [0.2, -0.2, 0.2, 0.0]
    narrow = fitted(TRUTH[:1], mean, 0.2 * SIGMAS)
    wide = fitted(TRUTH[:1], mean, 20 * SIGMAS)
    sigma = np.sqrt(np.diagonal(wide.blocks[0])[:3])
    measured = evidence(narrow).measured[0]
    # The prior pulls the fit itself.
    assert np.abs((narrow.emitters - wide.emitters)[0, :3] / sigma).max() > 0.25
    np.testing.assert_allclose((measured - wide.emitters[0, :3]) / sigma, 0.0, atol=0.15)
    np.testing.assert_allclose(evidence(wide).measured[0], wide.emitters[0, :3], atol=0.01)


def test_the_measured_variance_is_that_without_the_prior() -> None:
    narrow, wide = (evidence(fitted(TRUTH[:1], TRUTH[:1], factor * SIGMAS)) for factor in (0.2, 20.0))
    np.testing.assert_allclose(narrow.variance / wide.variance, 1.0, atol=0.1)


def test_an_image_without_the_emitter_measures_nothing() -> None:
    of = evidence(fitted(TRUTH[:1], TRUTH))
    assert np.sqrt(of.variance[1].max()) > 5
    assert of.significance[1] < 2
    assert of.significance[0] > 20


def test_evidence_is_positive_where_there_is_an_emitter_and_negative_where_not() -> None:
    """Six images of one emitter, with priors at it and at an empty place."""
    for seed in range(6):
        for_it, against = evidence(fitted(TRUTH[:1], TRUTH, seed=seed)).log_ratio
        assert for_it > 5
        assert against < -2


def test_a_dim_emitter_is_weak_evidence() -> None:
    ratios = []
    for photons in (60.0, 150.0, 250.0):
        truth = np.array([[40.0, 40.0, 12.0, photons]])
        each = [evidence(fitted(truth, truth, [0.4, 0.4, 0.8, 0.2 * photons], seed=n)).log_ratio[0] for n in range(6)]
        ratios.append(float(np.mean(each)))
    assert ratios[0] < ratios[1] < ratios[2]
    assert -2 < ratios[0] < 1


def test_evidence_far_from_the_prediction_is_weaker() -> None:
    """An emitter there is less probable to be the one that was predicted."""
    dim = np.array([[40.0, 40.0, 12.0, 120.0]])
    sigmas = np.array([0.4, 0.4, 0.8, 25.0])
    ratios = []
    for away in (0.0, 1.2, 4.0):
        each = [evidence(fitted(dim, dim + away * np.eye(4)[0], sigmas, n)).log_ratio[0] for n in range(6)]
        ratios.append(float(np.mean(each)))
    assert ratios[0] > ratios[1] > ratios[2]


def test_evidence_of_one_image_is_limited() -> None:
    assert evidence(fitted(TRUTH, TRUTH)).log_ratio.max() == pytest.approx(6.0)
    empty = TRUTH * [1, 1, 1, 3]
    assert evidence(fitted(TRUTH[:0], empty, [0.4, 0.4, 0.8, 100.0])).log_ratio.min() >= -6.0


def test_light_that_a_neighbour_explains_is_no_evidence() -> None:
    """A second track beside an emitter, whose light the first one explains as well."""
    both = TRUTH[[0, 0]] + [[0, 0, 0, 0], [0.1, 0, 0.1, 0]]
    twin = evidence(fitted(TRUTH[:1], both * [1, 1, 1, 0.5], SIGMAS))
    alone = evidence(fitted(TRUTH[:1], TRUTH[:1], SIGMAS))
    assert twin.significance.max() < 0.3 * alone.significance[0]


def test_the_localizer_counts_for_emitters_without_history() -> None:
    dim = np.array([[40.0, 40.0, 12.0, 500.0]])
    fit = fitted(dim, dim)
    sure, unsure = (evidence(fit, np.array([odds])).first_log_odds[0] for odds in (3.0, -3.0))
    assert sure > unsure


def test_measured_positions_stay_in_the_bounds() -> None:
    fit = fitted(TRUTH[:1], TRUTH[:1] + 0.3 * np.eye(4)[2], 0.02 * SIGMAS)
    low, high = fit.bounds
    of = evidence(fit)
    assert (low <= of.measured).all()
    assert (of.measured <= high).all()
    assert (of.chi2 >= 1).all()
