"""Posterior bound: equal to the covariance of a Kalman filter and smoother in linear cases, and to known limits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.scores.bounds import JointBounds
from evaluation.scores.posterior_bound import brownian_model, directed_model, posterior_bound
from models.errors import DataError
from models.optics import REFERENCE_OPTICS, computed_psf

F64 = NDArray[np.float64]

STEP_S = 0.01
SIGMA_UM = np.array([0.3, 0.4, 1.2])


def information(emitters: int = 1) -> F64:
    """Independent positions with the standard deviations `SIGMA_UM`, and intensities known to a tenth."""
    return np.diag(np.tile(np.append(SIGMA_UM**-2, 100.0), emitters))


def test_bound_of_the_past_is_the_variance_of_a_kalman_filter() -> None:
    model = directed_model(75.0, 500.0, STEP_S)
    bound = posterior_bound([information()] * 15, model)
    axis = 2
    both = np.ix_([axis, 4 + axis], [axis, 4 + axis])
    transition, noise, covariance = (each[both] for each in (model.transition, model.noise, model.prior))
    for sigma in bound.filtered_um[:, 0, axis]:
        gain = covariance[:, 0] / (covariance[0, 0] + SIGMA_UM[axis] ** 2)
        covariance = covariance - np.outer(gain, covariance[0])
        assert sigma == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-9)
        covariance = transition @ covariance @ transition.T + noise


def test_bound_of_all_frames_is_that_of_all_positions_at_once() -> None:
    diffusion, frames = 10.0, 6
    bound = posterior_bound([information()] * frames, brownian_model(diffusion, STEP_S))
    step = np.diff(np.eye(frames), axis=0)
    whole = step.T @ step / (2 * diffusion * STEP_S) + np.eye(frames) / SIGMA_UM[0] ** 2
    whole[0, 0] += 1 / brownian_model(diffusion, STEP_S).prior[0, 0]
    assert bound.smoothed_um[:, 0, 0] == pytest.approx(np.sqrt(np.diagonal(np.linalg.inv(whole))), rel=1e-9)


def test_position_that_rests_is_known_by_the_root_of_the_frames() -> None:
    bound = posterior_bound([information()] * 25, brownian_model(0.0, STEP_S))
    assert bound.filtered_um[-1, 0] == pytest.approx(SIGMA_UM / 5, rel=1e-3)
    assert bound.smoothed_um[0, 0] == pytest.approx(bound.filtered_um[-1, 0], rel=1e-6)


def test_knowledge_of_one_emitter_helps_its_neighbour() -> None:
    alone = posterior_bound([information(2)] * 5, brownian_model(1.0, STEP_S))
    coupled = information(2)
    coupled[2, 6] = coupled[6, 2] = 0.9 * np.sqrt(coupled[2, 2] * coupled[6, 6])
    overlapping = posterior_bound([coupled] * 5, brownian_model(1.0, STEP_S))
    first, later = (overlapping.filtered_um[frame, 0, 2] / alone.filtered_um[frame, 0, 2] for frame in (0, 4))
    assert first == pytest.approx(1 / np.sqrt(1 - 0.81), rel=0.02)
    assert later > 1.0


def test_emitter_without_light_is_only_predicted() -> None:
    model = brownian_model(1.0, STEP_S)
    bound = posterior_bound([information(), np.zeros((4, 4))], model)
    assert bound.filtered_um[1, 0, 0] ** 2 == pytest.approx(bound.filtered_um[0, 0, 0] ** 2 + 2 * STEP_S, rel=1e-9)


def test_frames_with_other_numbers_of_emitters_are_refused() -> None:
    with pytest.raises(DataError, match="2 different shapes"):
        posterior_bound([information(1), information(2)], brownian_model(1.0, STEP_S))


def test_information_of_a_frame_gives_the_bounds_of_the_frame() -> None:
    limits = JointBounds(computed_psf(REFERENCE_OPTICS, np.arange(-2.0, 20.0)))
    emitters = np.array([[14.1, 15.2, 8.3, 5e3], [18.4, 17.0, 11.9, 9e3]])
    sigma = np.sqrt(np.diagonal(np.linalg.inv(limits.information(emitters, 4.0, 1.5, (48, 48))))).reshape(2, 4)
    sigma[:, 3] *= emitters[:, 3]
    assert sigma == pytest.approx(limits.of_frame(emitters, 4.0, 1.5, (48, 48)).sigma, rel=1e-6)
