"""Evaluations on cells of three sizes: against a plain implementation, finite differences and the pixel fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.camera import CameraModel
from models.errors import DataError
from models.fit.evaluation import Evaluation, evaluate, warm_up
from models.fit.image_levels import ImageOptics, LevelImage
from models.fit.joint_fit import Convergence, FitFrame, fit_jointly
from models.fit.level_scores import score_places
from models.pattern_spline import PatternSpline
from tests.models.cell_likelihood import plain_evaluation
from tests.models.joint_fit_scenes import (
    BACKGROUND_E,
    CROWD,
    READ_NOISE_E,
    SMALL,
    expected_frame,
    nearby,
    noisy_frame,
    sharp_psf,
)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def optics() -> ImageOptics:
    return ImageOptics(sharp_psf(), CameraModel(read_noise_e=READ_NOISE_E))


def _frame(shape: tuple[int, int], seed: int = 1, emitters: Array = CROWD) -> NDArray[np.float32]:
    return noisy_frame(expected_frame(sharp_psf(), emitters, BACKGROUND_E, shape), seed)


def _scaled(matrix: Array, by: Array) -> Array:
    scale = 1 / np.sqrt(np.diagonal(by))
    return matrix * np.outer(scale, scale)


def _same_as_plain(image: LevelImage, evaluation: Evaluation, known: NDArray[np.float32] | None = None) -> None:
    matrix, gradient = evaluation.equations
    plain = plain_evaluation(image, evaluation.emitters, evaluation.background, evaluation.layout, known)
    # Sums of a few thousand cells in single precision.
    assert evaluation.cost == pytest.approx(plain.cost, abs=0.01)
    np.testing.assert_allclose(_scaled(matrix, plain.matrix), _scaled(plain.matrix, plain.matrix), atol=2e-5)
    sigma = 1 / np.sqrt(np.diagonal(plain.matrix))
    np.testing.assert_allclose(gradient * sigma, plain.gradient * sigma, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("shape", [SMALL, (93, 94), (97, 98)])
def test_it_equals_a_plain_implementation(optics: ImageOptics, shape: tuple[int, int]) -> None:
    image = optics.image(_frame(shape))
    evaluation = evaluate(image, nearby(CROWD), 4.5)
    assert set(np.unique(evaluation.layout.level)) == {0, 1, 2}
    _same_as_plain(image, evaluation)


def test_a_backdrop_is_part_of_the_model(optics: ImageOptics) -> None:
    known = (3 + np.arange(96)[:, None] / 10 + np.zeros(SMALL)).astype(np.float32)
    image = optics.image(_frame(SMALL) + known, known)
    _same_as_plain(image, evaluate(image, nearby(CROWD), 4.5), known)
    with pytest.raises(DataError, match=r"backdrop of shape \(96, 95\)"):
        optics.image(_frame(SMALL), known[:, :-1])


def test_the_gradient_is_that_of_the_cost(optics: ImageOptics) -> None:
    image = optics.image(_frame((94, 95)))
    here = evaluate(image, nearby(CROWD), 4.5)
    matrix, gradient = here.equations
    parameters = np.append(here.emitters.ravel(), here.background)
    for row in range(len(parameters)):
        step = np.zeros(len(parameters))
        step[row] = 0.05 / np.sqrt(matrix[row, row])
        costs = []
        for sign in (-1, 1):
            moved = parameters + sign * step
            costs.append(evaluate(image, moved[:-1].reshape(-1, 4), moved[-1], layout=here.layout).cost)
        slope = (costs[1] - costs[0]) / (2 * step[row])
        # In units of one standard deviation; rounding of the cost and the third derivative remain.
        sigma = 1 / np.sqrt(matrix[row, row])
        assert gradient[row] * sigma == pytest.approx(-slope * sigma, abs=0.05, rel=0.01)


def test_the_order_of_emitters_does_not_matter(optics: ImageOptics) -> None:
    image = optics.image(_frame(SMALL))
    order = np.array([3, 1, 5, 0, 4, 2])
    there, here = evaluate(image, nearby(CROWD), 4.5), evaluate(image, nearby(CROWD)[order], 4.5)
    places = np.append((4 * order[:, None] + np.arange(4)).ravel(), 24)
    scaled = _scaled(there.equations[0], there.equations[0])[np.ix_(places, places)]
    np.testing.assert_allclose(_scaled(here.equations[0], here.equations[0]), scaled, atol=1e-5)
    assert here.cost == pytest.approx(there.cost, abs=0.01)
    np.testing.assert_allclose(here.removal_losses(), there.removal_losses()[order], rtol=1e-4)


def test_an_image_without_emitters_has_an_even_model(optics: ImageOptics) -> None:
    flat = np.random.default_rng(1).poisson(7.0, (37, 41)).astype(np.float32)
    image = optics.image(flat)
    evaluation = evaluate(image, np.zeros((0, 4)), 7.0)
    variance = 7 + READ_NOISE_E**2
    matrix, gradient = evaluation.equations
    assert matrix == pytest.approx(np.array([[flat.size / variance]]), rel=1e-4)
    assert gradient == pytest.approx([(flat + READ_NOISE_E**2).sum() / variance - flat.size], abs=0.01)
    assert evaluation.misfit[0].shape == evaluation.removal_losses().shape == (0,)
    residual, model = evaluation.residual()
    assert residual.sum() == pytest.approx(flat.sum() - 7.0 * flat.size, abs=0.1)
    # The last blocks have 1 x 4, 4 x 1 and 1 x 1 pixels.
    assert model[-1, -1] == pytest.approx(variance, rel=1e-5)
    assert model[-1, 0] == model[0, -1] == pytest.approx(4 * variance, rel=1e-5)


def test_emitters_far_outside_have_no_effect(optics: ImageOptics) -> None:
    image = optics.image(_frame(SMALL))
    outside = np.array([[-300.0, 50.0, 10.0, 1e4], [50.0, 400.0, 25.0, 1e4]])
    without, complete = (evaluate(image, each, 4.5) for each in (nearby(CROWD), np.vstack([nearby(CROWD), outside])))
    assert complete.cost == without.cost
    assert (complete.equations[0][24:32] == 0).all()
    assert complete.equations[1][:24] == pytest.approx(without.equations[1][:24])
    assert complete.removal_losses()[6:].tolist() == [0, 0]
    assert complete.misfit[0][6:].tolist() == [1, 1]
    np.testing.assert_array_equal(score_places(without, outside[:, :3])[1], 0)


def test_residual_misfit_and_overlap_are_those_of_the_cells(optics: ImageOptics) -> None:
    image = optics.image(_frame((94, 95)))
    evaluation = evaluate(image, nearby(CROWD), 4.5)
    plain = plain_evaluation(image, evaluation.emitters, 4.5, evaluation.layout)
    residual, variance = evaluation.residual()
    assert variance.sum() == pytest.approx(plain.expected.sum(), rel=1e-5)
    assert residual.sum() == pytest.approx((plain.data - plain.expected).sum(), rel=1e-3, abs=0.5)
    off = (plain.data - plain.expected) ** 2 / plain.expected
    chi2, unexplained = evaluation.misfit
    # Light of coarse pieces in fine cells is spread evenly here and interpolated there.
    assert chi2 == pytest.approx(plain.light @ off / plain.light.sum(axis=1), rel=0.03)
    assert unexplained.shape == (6,)
    overlap = evaluation.overlap()
    assert np.diagonal(overlap) == pytest.approx(1.0)
    weighted = plain.light / plain.expected
    assert overlap[0, 1] == pytest.approx((weighted[0] @ plain.light[1]) / (weighted[0] @ plain.light[0]), rel=0.03)


def test_removal_losses_are_differences_of_costs(optics: ImageOptics) -> None:
    image = optics.image(_frame((94, 95)))
    evaluation = evaluate(image, nearby(CROWD), 4.5)
    losses = evaluation.removal_losses()
    for row in range(len(CROWD)):
        fewer = evaluation.emitters.copy()
        fewer[row, 3] = 0.0
        expected = evaluate(image, fewer, 4.5, layout=evaluation.layout).cost - evaluation.cost
        assert losses[row] == pytest.approx(expected, abs=0.05, rel=1e-4)


def test_emitters_that_move_little_keep_boxes_and_patterns(optics: ImageOptics) -> None:
    image = optics.image(_frame(SMALL))
    here = evaluate(image, nearby(CROWD), 4.5)
    moved = nearby(CROWD)
    moved[1, 0] += 0.5
    after = evaluate(image, moved, 4.5, before=here)
    assert after.layout is here.layout
    fresh = evaluate(image, moved, 4.5, layout=here.layout)
    assert after.cost == fresh.cost
    np.testing.assert_array_equal(after.equations[0], fresh.equations[0])
    moved[1, 0] += 30.0
    far = evaluate(image, moved, 4.5, before=here)
    assert far.layout is not here.layout
    assert (far.layout.level <= here.layout.level).all()
    np.testing.assert_array_equal(far.layout.boxes[:, 0], here.layout.boxes[:, 0])
    again = here.on_cells_of(far)
    np.testing.assert_array_equal(again.layout.level, far.layout.level)
    np.testing.assert_array_equal(again.layout.boxes, here.layout.boxes)
    # Finer cells explain the data a little better, but nothing else changes.
    assert again.cost == pytest.approx(here.cost, abs=20)
    assert again.on_cells_of(here) is again
    assert here.on_cells_of(after) is here


def _fitted(image: LevelImage, start: Array) -> Evaluation:
    """Damped Fisher scoring on the cells of the start."""
    now, damping = evaluate(image, start, BACKGROUND_E), 0.1
    for _ in range(30):
        matrix, gradient = now.equations
        scale = 1 / np.sqrt(np.diagonal(matrix))
        damped = matrix * np.outer(scale, scale) + damping * np.eye(len(scale))
        step = np.linalg.solve(damped, gradient * scale) * scale
        trial = evaluate(image, now.emitters + step[:-1].reshape(-1, 4), now.background + step[-1], layout=now.layout)
        accepted = trial.cost < now.cost
        now, damping = (trial, damping / 3) if accepted else (now, 5 * damping)
    return now


def test_fits_agree_with_those_on_camera_pixels(optics: ImageOptics) -> None:
    crowd = CROWD[:5] * [1, 1, 1, 0.1]
    frame = _frame(SMALL, 1, crowd)
    fit = fit_jointly(
        FitFrame(frame + np.float32(READ_NOISE_E**2), PatternSpline(sharp_psf()), READ_NOISE_E**2),
        crowd,
        BACKGROUND_E,
        ((-5.0, 100.0), (-5.0, 100.0), (0.5, 29.0)),
        Convergence(40, 1e-4),
    )
    found = _fitted(optics.image(frame), crowd)
    matrix, _ = found.equations
    sigma = np.sqrt(np.diagonal(np.linalg.inv(matrix)))[:-1].reshape(-1, 4)
    # By at most the permitted loss; positions differ by as much as the lost information makes likely.
    assert (sigma / fit.sigma < 1.25).all()
    assert (sigma / fit.sigma > 0.95).all()
    assert (np.abs(found.emitters - fit.emitters) < 1.5 * fit.sigma).all()


def test_the_score_test_predicts_the_gain_of_a_fit(optics: ImageOptics) -> None:
    missing = np.array([[38.0, 45.0, 18.0, 2e3]])
    crowd = CROWD[:3] * [1, 1, 1, 0.1]
    everything = np.vstack([crowd, missing])
    image = optics.image(_frame(SMALL, 1, everything))
    without = _fitted(image, crowd)
    photons, significance = score_places(without, np.vstack([missing[:, :3], [[80.0, 80.0, 5.0]]]))
    complete = _fitted(image, everything)
    dark = np.vstack([without.emitters, missing * [1, 1, 1, 0]])
    gained = evaluate(image, dark, without.background, layout=complete.layout).cost - complete.cost
    assert gained > 30
    assert significance[0] ** 2 / 2 == pytest.approx(gained, rel=0.3)
    assert photons[0] == pytest.approx(2e3, rel=0.3)
    assert abs(significance[1]) < 4


def test_losses_must_be_positive() -> None:
    with pytest.raises(DataError, match="loss of 0"):
        ImageOptics(sharp_psf(), CameraModel(), 0.0)


def test_everything_compiles_with_a_dark_image(optics: ImageOptics) -> None:
    warm_up(optics)


def test_emitters_must_be_numbers_and_fit_a_given_layout(optics: ImageOptics) -> None:
    image = optics.image(_frame(SMALL))
    here = evaluate(image, nearby(CROWD), 4.5)
    wrong = nearby(CROWD)
    wrong[2, 1] += 6.0
    with pytest.raises(DataError, match=r"Emitter 2 is at .* at most 5 pixels around"):
        evaluate(image, wrong, 4.5, layout=here.layout)
    with pytest.raises(DataError, match="layout for 6 emitters was given with 5"):
        evaluate(image, wrong[:5], 4.5, layout=here.layout)
    with pytest.raises(DataError, match="5 emitters were given with an evaluation of 6"):
        evaluate(image, wrong[:5], 4.5, before=here)
    with pytest.raises(DataError, match=r"layout for images of \(96, 96\) pixels was given with one of \(95, 96\)"):
        evaluate(optics.image(_frame((95, 96))), nearby(CROWD), 4.5, layout=here.layout)
    wrong[3, 2] = np.nan
    for before in (None, here):
        with pytest.raises(DataError, match="Emitter 3 is at"):
            evaluate(image, wrong, 4.5, before=before)
