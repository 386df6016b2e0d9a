"""Densities and detection probabilities, from hand-made frames."""

from __future__ import annotations

import numpy as np
import pytest

from models.tracking.detection import Detection

CORNERS = np.array([[0.0, 100.0], [0.0, 100.0], [0.0, 50.0]])
VOLUME_UM3 = 100 * 100 * 50


def test_localizations_that_tracks_explain_are_not_new() -> None:
    odds = np.full(2, 9.0)
    alone = Detection().densities(CORNERS, odds, expected=0.0)
    assert alone.real == pytest.approx(1.8 / VOLUME_UM3)
    assert alone.new == pytest.approx(1.8 / VOLUME_UM3)
    explained = Detection().densities(CORNERS, odds, expected=1.5)
    assert explained.real == pytest.approx(alone.real)
    assert explained.new == pytest.approx(0.3 / VOLUME_UM3)
    # Never none: an emitter may always appear.
    assert Detection().densities(CORNERS, odds, expected=5.0).new == pytest.approx(0.1 / VOLUME_UM3)


def test_misses_in_bursts_are_learned() -> None:
    detection = Detection()
    for _ in range(300):
        detection.learn(np.repeat([True, False], 20), np.repeat([True, False], 20))
    after_hit, after_miss = detection.probability(np.array([True, False]))
    assert after_hit > 0.98
    assert after_miss < 0.05


def test_outside_is_beyond_the_margin() -> None:
    detection = Detection()
    assert not detection.outside(np.full((3, 1), 1e6)).any()
    detection.densities(CORNERS, np.full(2, 9.0), 0.0)
    places = np.array([[50.0, 104.0, 106.0], [50.0, 50.0, 50.0], [25.0, 25.0, 25.0]])
    assert detection.outside(places).tolist() == [False, False, True]
