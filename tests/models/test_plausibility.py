"""What the network believed and what the fit found, weighed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.optics import reference_psf
from models.pattern_spline import PatternSpline
from models.plausibility import Plausibility, log_odds, probability

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def spline() -> PatternSpline:
    return PatternSpline(reference_psf())


def _alone(spline: PatternSpline, significance: float, network: float, misfit: float = 1.0) -> float:
    judge = Plausibility(np.array([[90.0, 90, 30, 1e4]]), spline, np.array([network]), np.array([misfit]))
    photons = np.array([1e4])
    return float(probability(judge.odds(photons, (photons / significance) ** 2))[0])


def test_log_odds_and_probability_are_inverse_and_finite() -> None:
    values = np.array([0.05, 0.5, 0.9])
    np.testing.assert_allclose(probability(log_odds(values)), values)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_light_and_the_network_both_speak_for_an_emitter(spline: PatternSpline) -> None:
    doubted, believed = float(log_odds(np.array(0.1))), float(log_odds(np.array(0.95)))
    assert _alone(spline, 20, believed) > 0.95
    assert _alone(spline, 20, doubted) > 0.8
    assert _alone(spline, 4, believed) > 0.5
    assert _alone(spline, 3, doubted) < 0.2
    assert _alone(spline, 3, np.nan) < 0.4
    assert _alone(spline, 20, np.nan) > 0.8
    # What the model does not explain makes nothing significant.
    assert _alone(spline, 20, doubted, misfit=25.0) == pytest.approx(_alone(spline, 4, doubted))
    assert _alone(spline, 20, doubted, misfit=0.7) == pytest.approx(_alone(spline, 20, doubted))


def test_a_faint_answer_beside_a_bright_emitter_is_doubted(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 1e5], [100.0, 90, 40, 2e3], [240.0, 240, 10, 2e3]])
    photons = emitters[:, 3]
    judge = Plausibility(emitters, spline, np.full(3, -2.0), np.ones(3))
    beside, apart = judge.odds(photons, (photons / 15) ** 2)[1:]
    assert beside < apart - 0.5
    # Once the bright one has gone it is as plausible as any.
    alive = np.array([False, True, True])
    assert judge.odds(photons, (photons / 15) ** 2, alive)[1] == pytest.approx(apart)


def test_the_light_outside_a_crop_is_no_emitter(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 1e6], [110.0, 90, 60, 5e3]])
    judge = Plausibility(emitters, spline, np.zeros(2), np.ones(2))
    assert judge.odds(emitters[:, 3], np.full(2, 50.0**2)).tolist()[1] == -10


def test_of_two_that_share_their_light_one_stays_with_all_of_it(spline: PatternSpline) -> None:
    emitters = np.array([[90.0, 90, 30, 6e3], [91.0, 90, 31, 4e3]])
    # Their sum is known to 300 photons, their difference to 8000.
    covariance = np.array([[1.0, -1.0], [-1.0, 1.0]]) * 4e3**2 + np.full((2, 2), 150.0**2)
    judge = Plausibility(emitters, spline, np.array([0.0, -1.0]), np.ones(2))
    alive, photons = judge.survivors(emitters[:, 3], covariance, least=0.0, most=3)
    assert alive.tolist() == [True, False]
    assert photons[0] == pytest.approx(1e4, rel=0.01)


def test_no_more_are_removed_than_one_fit_can_foretell(spline: PatternSpline) -> None:
    emitters = np.column_stack([np.arange(5) * 60.0, np.full(5, 90.0), np.full(5, 10.0), np.full(5, 100.0)])
    judge = Plausibility(emitters, spline, np.full(5, -3.0), np.ones(5))
    alive, _ = judge.survivors(emitters[:, 3], np.diag(np.full(5, 1e4)), least=0.0, most=2)
    assert alive.sum() == 3
