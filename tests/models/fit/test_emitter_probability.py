"""The probability of emitters from the network and the fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fit.emitter_probability import EmitterProbability, log_odds, probability
from models.optics import reference_psf
from models.pattern_spline import PatternSpline

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def spline() -> PatternSpline:
    return PatternSpline(reference_psf())


def _estimator(
    emitters: Array, spline: PatternSpline, network: Array, misfit: Array | None = None, error: float = 0.0
) -> EmitterProbability:
    """Estimator for emitters that each take half of the light that is missing of another."""
    count = len(emitters)
    overlap = np.where(np.eye(count, dtype=bool), 1.0, 0.5)
    chi2 = np.ones(count) if misfit is None else misfit
    return EmitterProbability(emitters, spline, network, chi2, overlap, np.full(count, error))


def _alone(spline: PatternSpline, significance: float, network: float, misfit: float = 1.0) -> float:
    estimator = _estimator(np.array([[90.0, 90, 30, 1e4]]), spline, np.array([network]), np.array([misfit]))
    photons = np.array([1e4])
    return float(probability(estimator.log_odds(photons, (photons / significance) ** 2))[0])


def test_log_odds_and_probability_are_inverse_and_finite() -> None:
    values = np.array([0.05, 0.5, 0.9])
    np.testing.assert_allclose(probability(log_odds(values)), values)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_significance_and_network_both_raise_the_probability(spline: PatternSpline) -> None:
    low, high = float(log_odds(np.array(0.1))), float(log_odds(np.array(0.95)))
    assert _alone(spline, 20, high) > 0.95
    assert _alone(spline, 20, low) > 0.8
    assert _alone(spline, 4, high) > 0.5
    assert _alone(spline, 3, low) < 0.2
    assert _alone(spline, 3, np.nan) < 0.4
    assert _alone(spline, 20, np.nan) > 0.8
    # A misfit lowers the significance.
    assert _alone(spline, 20, low, misfit=25.0) == pytest.approx(_alone(spline, 4, low))
    assert _alone(spline, 20, low, misfit=0.7) == pytest.approx(_alone(spline, 20, low))


def test_a_faint_emitter_beside_a_bright_one_is_less_probable(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 1e5], [100.0, 90, 40, 2e3], [240.0, 240, 10, 2e3]])
    photons = emitters[:, 3]
    estimator = _estimator(emitters, spline, np.full(3, -2.0))
    beside, apart = estimator.log_odds(photons, (photons / 15) ** 2)[1:]
    assert beside < apart - 0.5
    # Without the bright one it is as probable as any.
    alive = np.array([False, True, True])
    assert estimator.log_odds(photons, (photons / 15) ** 2, alive)[1] == pytest.approx(apart, abs=0.01)


def test_the_light_outside_a_crop_is_no_emitter(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 1e6], [110.0, 90, 60, 5e3]])
    odds = _estimator(emitters, spline, np.zeros(2)).log_odds(emitters[:, 3], np.full(2, 50.0**2))
    assert odds[0] > 3
    assert odds[1] < -3
    # That light is spread out: where a sharp pattern would be there is less of it.
    emitters[1, 2] = 2.0
    assert _estimator(emitters, spline, np.zeros(2)).log_odds(emitters[:, 3], np.full(2, 50.0**2))[1] > odds[1] + 0.5


def test_light_far_from_a_very_bright_emitter_is_no_emitter(spline: PatternSpline) -> None:
    emitters = np.array([[114.5, 197.4, 38, 2.7e6], [132.5, 113.4, 26.9, 343]])
    assert not spline.touching(emitters).any()
    estimator = _estimator(emitters, spline, np.array([6.9, -1.0]))
    variance = (emitters[:, 3] / [1000, 6]) ** 2
    bright, scattered = estimator.log_odds(emitters[:, 3], variance)
    assert bright > 3
    assert scattered < -2
    assert estimator.log_odds(emitters[:, 3], variance, np.array([False, True]))[1] > -1


def test_light_within_the_psf_model_error_of_a_bright_emitter_is_no_emitter(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 60, 1e6], [95.0, 90, 20, 2e4], [240.0, 240, 20, 2e4]])
    photons, variance = emitters[:, 3], (emitters[:, 3] / 40) ** 2
    exact = _estimator(emitters, spline, np.full(3, -2.0)).log_odds(photons, variance)
    with_error = _estimator(emitters, spline, np.full(3, -2.0), error=0.04).log_odds(photons, variance)
    assert exact[1] > 0
    assert with_error[1] < -3
    assert with_error[[0, 2]] == pytest.approx(exact[[0, 2]], abs=0.1)
    # Without the bright one it is as probable as any.
    alive = np.array([False, True, True])
    alone = _estimator(emitters, spline, np.full(3, -2.0), error=0.04).log_odds(photons, variance, alive)
    assert alone[1] == pytest.approx(alone[2], abs=0.01)


def test_of_two_overlapping_emitters_one_stays_with_all_light(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 6e3], [91.0, 90, 31, 4e3]])
    # Their sum is known to 300 photons, their difference to 8000.
    covariance = np.array([[1.0, -1.0], [-1.0, 1.0]]) * 4e3**2 + np.full((2, 2), 150.0**2)
    estimator = _estimator(emitters, spline, np.array([0.0, -1.0]))
    alive, photons = estimator.prune(emitters[:, 3], covariance, least=0.0, most=3)
    assert alive.tolist() == [True, False]
    assert photons[0] == pytest.approx(1e4, rel=0.01)


def test_removals_between_two_fits_are_limited(spline: PatternSpline) -> None:
    emitters = np.column_stack([np.arange(5) * 60.0, np.full(5, 90.0), np.full(5, 10.0), np.full(5, 100.0)])
    estimator = _estimator(emitters, spline, np.full(5, -3.0))
    alive, _ = estimator.prune(emitters[:, 3], np.diag(np.full(5, 1e4)), least=0.0, most=2)
    assert alive.sum() == 3
