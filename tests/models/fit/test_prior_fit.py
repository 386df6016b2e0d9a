"""The fit of an image with priors: the prior's cost, slope and covariance, and fits between prior and likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fit.evaluation import evaluate
from models.fit.image_levels import LevelImage
from models.fit.prior_fit import EmitterPrior, PriorFit, fit_with_prior
from tests.models.image_samples import SHAPE, image_model
from tests.models.joint_fit_scenes import expected_frame, noisy_frame

Array = NDArray[np.float64]

BACKGROUND_E = 5.0
FLICKER = 0.2
"""Standard deviation of the common factor of the light."""

TRUTH = np.array([[30.2, 34.7, 8.0, 2e4], [60.5, 62.1, 14.0, 3e4], [70.3, 22.4, 20.0, 4e4]])
NEAR_UM = np.array([0.2, 0.2, 0.3, 800.0])
BOUNDS = (np.array([-8.0, -8.0, 0.5]), np.array([SHAPE[1] + 7.0, SHAPE[0] + 7.0, 30.0]))


def image(light: float = 1.0, emitters: Array = TRUTH, seed: int = 4) -> LevelImage:
    """Of the emitters with their light times a factor."""
    optics = image_model().optics
    scaled = emitters * [1, 1, 1, light]
    return optics.image(noisy_frame(expected_frame(optics.psf, scaled, BACKGROUND_E, SHAPE), seed))


def prior_of(mean: Array, sigmas: Array | list[float], known: int = 0) -> EmitterPrior:
    return EmitterPrior(mean, np.broadcast_to(1 / np.asarray(sigmas, np.float64) ** 2, mean.shape).copy(), known)


def fitted(of: LevelImage, prior: EmitterPrior, steps: int = 30) -> PriorFit:
    return fit_with_prior(of, prior, BACKGROUND_E, BOUNDS, steps)


def slope(prior: EmitterPrior, emitters: Array) -> Array:
    """Of the cost, by finite differences."""
    result = np.empty_like(emitters)
    for at in np.ndindex(emitters.shape):
        step = 1e-5 * max(1.0, float(abs(emitters[at])))
        up, down = emitters.copy(), emitters.copy()
        up[at] += step
        down[at] -= step
        result[at] = (prior.cost(up) - prior.cost(down)) / (2 * step)
    return result


@pytest.mark.parametrize("known", [0, 2, 3])
@pytest.mark.parametrize("far", [0.3, 0.9, 1.1, 3.0, 30.0])
def test_the_relaxed_prior_has_the_slope_of_the_cost(far: float, known: int) -> None:
    """In the middle, where it is Gaussian, and in the tails."""
    prior = prior_of(TRUTH, NEAR_UM, known)
    emitters = TRUTH + far * NEAR_UM * np.random.default_rng(2).choice([-1.0, 1.0], TRUTH.shape)
    pull = (prior.relaxed(emitters).matrix() @ np.append((emitters - TRUTH).ravel(), 0.0))[:-1]
    expected = slope(prior, emitters).ravel()
    np.testing.assert_allclose(pull, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def test_the_pull_of_the_prior_falls_in_its_tails() -> None:
    prior = prior_of(TRUTH[:1], NEAR_UM)
    pulls = [np.abs(slope(prior, TRUTH[:1] + away * np.eye(4)[0])[0, 0]) for away in (0.2, 0.4, 2.0, 20.0)]
    assert pulls[0] < pulls[1]
    assert pulls[1] > pulls[2] > pulls[3]


def test_the_matrix_is_the_inverse_of_the_covariance_with_a_common_factor() -> None:
    prior = prior_of(TRUTH, NEAR_UM, known=2)
    photons = np.array([3, 7])
    covariance = np.diag(1 / prior.weight.ravel())
    covariance[np.ix_(photons, photons)] += FLICKER**2 * np.outer(TRUTH[:2, 3], TRUTH[:2, 3])
    matrix = prior.matrix()
    np.testing.assert_allclose(matrix[:-1, :-1] @ covariance, np.eye(12), atol=1e-9)
    # Nothing is known of the background.
    assert not matrix[-1].any()
    assert not matrix[:, -1].any()


def test_the_cost_of_the_light_is_that_of_the_covariance() -> None:
    prior = prior_of(TRUTH, NEAR_UM, known=2)
    brighter = TRUTH * [1, 1, 1, 1.3]
    covariance = np.diag(1 / prior.weight[:, 3])
    covariance[:2, :2] += FLICKER**2 * np.outer(TRUTH[:2, 3], TRUTH[:2, 3])
    away = brighter[:, 3] - TRUTH[:, 3]
    assert prior.cost(brighter) == pytest.approx(0.5 * away @ np.linalg.solve(covariance, away))
    # The same change of one of them alone is less probable than that of the lamp.
    one = TRUTH.copy()
    one[0, 3] *= 1.3
    both = TRUTH.copy()
    both[:2, 3] *= 1.3
    assert prior.cost(both) < prior.cost(one)


def test_a_tight_prior_holds_the_fit() -> None:
    mean = TRUTH + NEAR_UM
    fit = fitted(image(), prior_of(mean, 1e-4 * NEAR_UM))
    np.testing.assert_allclose(fit.emitters, mean, atol=1e-3, rtol=1e-6)
    np.testing.assert_allclose(np.diagonal(fit.blocks, axis1=1, axis2=2), (1e-4 * NEAR_UM) ** 2 * np.ones((3, 4)), 1e-2)


def test_a_wide_prior_leaves_the_maximum_of_the_likelihood() -> None:
    mean = TRUTH + NEAR_UM
    fit = fitted(image(), prior_of(mean, 1e4 * NEAR_UM))
    matrix, gradient = evaluate(fit.evaluation.image, fit.emitters, fit.background).equations
    covariance = np.linalg.inv(matrix)
    # The step to the maximum, in sigmas: a tenth of a sigma in each parameter is where a fit may end.
    assert np.abs(covariance @ gradient / np.sqrt(np.diagonal(covariance))).max() < 0.1
    rows = 4 * np.arange(3)[:, None] + np.arange(4)
    np.testing.assert_allclose(fit.blocks, covariance[rows[:, :, None], rows[:, None, :]], rtol=0.02, atol=1e-6)
    # It is at the emitters, not at the mean of the prior; bright patterns are interpolated to 0.1 pixels.
    assert np.abs(fit.emitters - TRUTH)[:, :3].max() < 0.12


def test_the_fit_is_the_mean_of_prior_and_likelihood() -> None:
    """With a prior as wide as the likelihood, half way between both, and with half the variance."""
    alone = fitted(image(), prior_of(TRUTH, 1e4 * NEAR_UM))
    sigma = np.sqrt(np.diagonal(alone.blocks, axis1=1, axis2=2))
    mean = alone.emitters + 1.6 * sigma * [1, 1, 1, 0]
    both = fitted(image(), prior_of(mean, sigma))
    share = (both.emitters - alone.emitters)[:, :3] / (mean - alone.emitters)[:, :3]
    # Fits end within a third of a sigma, and parameters of one emitter are correlated a little.
    np.testing.assert_allclose(share, 0.5, atol=0.3)
    assert share.mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_allclose(np.diagonal(both.blocks, axis1=1, axis2=2) / sigma**2, 0.5, atol=0.1)


def test_the_fit_ends_where_likelihood_and_prior_balance() -> None:
    """Also in the tails of the prior, where its slope changes from step to step."""
    dim = TRUTH * [1, 1, 1, 0.1]
    prior = prior_of(dim + np.array([0.6, -0.6, 0.8, 0.0]), [0.1, 0.1, 0.3, 300.0], known=3)
    fit = fitted(image(emitters=dim), prior)
    matrix, gradient = fit.evaluation.equations
    inverse = fit.prior.matrix()
    covariance = np.linalg.inv(matrix + inverse)
    step = covariance @ (gradient - inverse @ np.append((fit.emitters - fit.prior.mean).ravel(), 0.0))
    assert np.abs(step / np.sqrt(np.diagonal(covariance))).max() < 0.1


def test_an_emitter_that_turned_is_not_held_back() -> None:
    """Fifteen sigmas of the prior away: the tails let it go."""
    mean = TRUTH.copy()
    mean[0, 0] += 1.5
    fit = fitted(image(), prior_of(mean, [0.1, 0.1, 0.3, 4e3]))
    assert abs(fit.emitters[0, 0] - TRUTH[0, 0]) < 0.1
    assert fit.prior.weight[0, 0] < 0.2 / 0.1**2
    np.testing.assert_allclose(fit.prior.weight[1:, 0], 1 / 0.1**2)


@pytest.mark.parametrize("light", [3.0, 1 / 3])
def test_a_change_of_the_lamp_is_found_in_one_step(light: float) -> None:
    prior = prior_of(TRUTH, 0.05 * TRUTH[:, 3:] * [0, 0, 0, 1] + [0.3, 0.3, 0.6, 0.0], known=3)
    fit = fitted(image(light), prior, steps=1)
    np.testing.assert_allclose(fit.emitters[:, 3], light * TRUTH[:, 3], rtol=0.1)
    np.testing.assert_allclose(fit.prior.mean[:, 3], light * TRUTH[:, 3], rtol=0.1)
    # What is known of the light is known of its ratio to that of the lamp.
    np.testing.assert_allclose(np.sqrt(fit.prior.weight[:, 3]) * fit.prior.mean[:, 3], 20.0)


def test_unknown_light_is_scaled_apart_from_the_lamp() -> None:
    """New candidates whose photons were estimated badly do not change the light of the others."""
    beside = np.array([[38.0, 34.7, 9.0, 4e3], [30.2, 34.7, 9.0, 4e3]])
    sigmas = np.column_stack([np.tile([0.3, 0.3, 0.6], (2, 1)), [2e2, 2e4]])
    fit = fitted(image(emitters=beside), prior_of(beside * [[1, 1, 1, 1], [1, 1, 1, 3]], sigmas, known=1))
    np.testing.assert_allclose(fit.emitters[:, 3], beside[:, 3], rtol=0.05)
    np.testing.assert_allclose(fit.prior.mean[0, 3], beside[0, 3], rtol=0.05)


def test_light_is_uncertain_where_a_neighbour_can_have_it() -> None:
    """Two emitters at one place: the image does not say how much light each has; known light of the other does not."""
    twins = np.array([[40.0, 40.0, 12.0, 1e4], [40.05, 40.0, 12.0, 1e4], [70.0, 70.0, 12.0, 2e4]])
    sigmas = np.array([0.3, 0.3, 0.6, 500.0])
    fit = fitted(image(emitters=twins), prior_of(twins, sigmas, known=3))
    assert fit.light_information[0] < 0.05 * fit.light_information[2]
    np.testing.assert_allclose(fit.blocks[:, 3, 3] < 500.0**2 * 1.2 + (FLICKER * 2e4) ** 2, True)


def test_no_emitters() -> None:
    fit = fitted(image(emitters=TRUTH[:0]), prior_of(TRUTH[:0], NEAR_UM))
    assert fit.blocks.shape == (0, 4, 4)
    assert fit.background == pytest.approx(BACKGROUND_E, abs=0.2)


def test_emitters_without_light_in_the_image_keep_their_prior() -> None:
    mean = np.vstack([TRUTH, [-7.9, -7.9, 0.6, 100.0]])
    prior = prior_of(mean, [0.3, 0.3, 0.1, 50.0], known=3)
    fit = fitted(image(), prior)
    np.testing.assert_allclose(fit.emitters[3], mean[3], atol=5.0)
    np.testing.assert_allclose(np.diagonal(fit.blocks[3]), [0.09, 0.09, 0.01, 2500.0], rtol=0.05)
    assert np.isfinite(fit.light_information).all()


@pytest.mark.parametrize("steps", [0, 30])
def test_positions_stay_within_their_bounds(steps: int) -> None:
    mean = TRUTH.copy()
    mean[0, :3] = [-20.0, 34.0, 0.0]
    fit = fitted(image(), prior_of(mean, [0.3, 0.3, 0.3, 5e3]), steps)
    low, high = fit.bounds
    assert (low <= fit.emitters[:, :3]).all()
    assert (fit.emitters[:, :3] <= high).all()
    assert fit.emitters[0, 0] == pytest.approx(-8.0, abs=0.05)
