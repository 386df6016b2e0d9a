"""Scores of beads of a sweep: tilt, groups, and assignment of localizations to beads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.beads.bead_scores import localize_bead_sweep, score_depths
from models.calibration.sweep import Sweep
from models.tables import Localizations

PLACES = np.random.default_rng(4).uniform(0, 100, (30, 2))
TRUTH = np.arange(5.0, 50.0)
TILT = 0.02 * (PLACES[:, 0] - 50)


def _localized_depths(noise_um: float = 0.0) -> NDArray[np.float64]:
    noise: NDArray[np.float64] = np.random.default_rng(0).normal(0, noise_um, (len(TRUTH), len(PLACES)))
    return TRUTH[:, None] + TILT[None, :] + noise


def test_the_tilt_of_the_slide_is_no_error() -> None:
    score = score_depths(_localized_depths(0.1), TRUTH, PLACES)
    assert score.sigma_um == pytest.approx(0.1, rel=0.05)
    assert score.sigma_untilted_um is not None
    assert score.sigma_untilted_um > 0.4
    assert score.slope == pytest.approx(1, abs=1e-3)
    assert score.tilt_um[0] == pytest.approx(0.02 * np.ptp(PLACES, axis=0).max(), rel=0.1)


def test_few_beads_take_the_tilt_of_many() -> None:
    localized, few = _localized_depths(0.1), slice(0, 4)
    alone = score_depths(localized[:, few], TRUTH, PLACES[few])
    with_tilt = score_depths(localized[:, few], TRUTH, PLACES[few], tilt_from=(localized, PLACES))
    assert alone.sigma_um is not None
    assert alone.sigma_um > 0.3  # four beads do not determine a tilt, so theirs counts as error
    assert with_tilt.sigma_um == pytest.approx(0.1, rel=0.1)


def test_without_localizations_there_is_no_score() -> None:
    score = score_depths(np.full((3, 2), np.nan), TRUTH[:3], PLACES[:2])
    assert (score.found, score.sigma_um, score.slope) == (0.0, None, None)


def test_a_localization_is_assigned_to_one_bead() -> None:
    z_um = np.arange(0.0, 8.0)
    sweep = Sweep(np.zeros((8, 2, 16, 16), np.uint16), z_um, 1.0)

    def localize(frames: NDArray[np.uint16], numbers: NDArray[np.int64]) -> Localizations:
        one = np.ones(len(numbers))
        return Localizations(numbers, 4.2 * one, 8 * one, 3 * one, one, one, one, one, one, one, one)

    localized = localize_bead_sweep(
        localize, sweep, np.array([[4.0, 8.0], [6.0, 8.0]]), focus_um=0.0, z_range_um=(2, 6), repeats=1
    )
    assert localized.depth_um.shape == (5, 2)
    assert np.isfinite(localized.depth_um[:, 0]).all()
    assert np.isnan(localized.depth_um[:, 1]).all()
    score = localized.score(np.array([True, False]))
    assert (score.expected, score.answered) == (5, 1.0)
    assert score.lateral_um == pytest.approx(0, abs=1e-9)
