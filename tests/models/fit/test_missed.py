"""Search of the residual of a fit with priors for emitters that it lacks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fit.missed import MissedEmitters
from models.fit.prior_fit import EmitterPrior, fit_with_prior
from tests.models.image_samples import SHAPE, image_model
from tests.models.joint_fit_scenes import expected_frame, noisy_frame

Array = NDArray[np.float64]

BACKGROUND_E = 5.0
TRUTH = np.array([[30.0, 34.0, 8.0, 1e4], [62.0, 60.0, 14.0, 1e4], [70.0, 22.0, 20.0, 1e4]])
GRID_PX = 8.0
"""The filter works on pixels of this size."""
BOUNDS = (np.array([-8.0, -8.0, 0.5]), np.array([SHAPE[1] + 7.0, SHAPE[0] + 7.0, 30.0]))


def found(emitters: Array, fitted: Array, seed: int = 1, missed: MissedEmitters | None = None) -> Array:
    """Emitters that are found in an image of `emitters` when `fitted` are fitted."""
    optics = image_model().optics
    image = optics.image(noisy_frame(expected_frame(optics.psf, emitters, BACKGROUND_E, SHAPE), seed))
    prior = EmitterPrior(fitted, np.tile([10.0, 10.0, 3.0, 1e-6], (len(fitted), 1)), 0)
    return (missed or image_model().missed).find(fit_with_prior(image, prior, BACKGROUND_E, BOUNDS, 8))


def test_nothing_is_missed_when_all_are_fitted() -> None:
    for seed in range(4):
        assert found(TRUTH, TRUTH, seed).shape == (0, 5)


def test_nothing_is_found_in_an_empty_image() -> None:
    assert len(found(TRUTH[:0], TRUTH[:0])) == 0


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_missed_emitter_is_found_once(row: int) -> None:
    others = np.delete(TRUTH, row, axis=0)
    places = found(TRUTH, others)
    assert places.shape == (1, 5)
    assert np.abs(places[0, :2] - TRUTH[row, :2]).max() <= 0.55 * GRID_PX
    # Centres of squares, in pixels whose centres are whole numbers.
    np.testing.assert_allclose(places[0, :2] % GRID_PX, (GRID_PX - 1) / 2)
    assert abs(places[0, 2] - TRUTH[row, 2]) < 5
    assert places[0, 3] == pytest.approx(TRUTH[row, 3], rel=0.5)


def test_a_bright_emitter_is_found_once_and_before_much_weaker_ones() -> None:
    both = TRUTH[1:] * np.array([[1, 1, 1, 0.1], [1, 1, 1, 20]])
    places = found(both, TRUTH[:0])
    assert len(places) == 1
    assert np.abs(places[0, :2] - TRUTH[2, :2]).max() <= 0.55 * GRID_PX
    assert len(found(both, both[1:])) == 1


def test_log_odds_grow_with_the_significance() -> None:
    bright = found(TRUTH[:1], TRUTH[:0])
    dim = found(TRUTH[:1] * [1, 1, 1, 0.08], TRUTH[:0])
    assert len(dim) == 1
    assert -1.0 <= dim[0, 4] < bright[0, 4]


def test_the_brightest_comes_first_and_few_are_found_at_a_time() -> None:
    rows, columns = np.mgrid[16:81:32, 16:81:32]
    many = np.column_stack([columns.ravel(), rows.ravel(), np.full(9, 10.0), np.linspace(4e3, 8e3, 9)])
    places = found(many, many[:0])
    assert len(places) == 4
    assert (np.diff(places[:, 4]) <= 0).all()


def test_images_of_other_sizes_have_their_own_filter() -> None:
    optics = image_model().optics
    missed = MissedEmitters(optics, (0.5, 30.0))
    for shape in (SHAPE, (64, 80), SHAPE):
        image = optics.image(noisy_frame(expected_frame(optics.psf, TRUTH[:1], BACKGROUND_E, shape), 3))
        nothing = EmitterPrior(np.zeros((0, 4)), np.zeros((0, 4)), 0)
        places = missed.find(fit_with_prior(image, nothing, BACKGROUND_E, BOUNDS, 4))
        assert np.abs(places[0, :2] - TRUTH[0, :2]).max() <= 0.55 * GRID_PX
