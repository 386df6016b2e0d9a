"""Overlapping emitters do not move at once."""

from __future__ import annotations

import numpy as np

from models.fit.move_selection import select_moves

EMITTERS = np.array([[10.0, 10.0, 5.0, 1e3], [14.0, 10.0, 30.0, 1e3], [40.0, 10.0, 5.0, 1e3], [41.0, 10.0, 5.0, 1e3]])


def test_of_overlapping_emitters_the_one_that_gains_most_moves() -> None:
    radius = np.array([5.0, 12.0, 5.0, 5.0])
    assert select_moves(EMITTERS, np.array([3.0, 9.0, 2.0, 1.0]), radius).tolist() == [False, True, True, False]


def test_a_small_pattern_well_inside_the_rim_of_a_large_one_is_independent() -> None:
    assert select_moves(EMITTERS, np.array([3.0, 9.0, 0.0, 0.0]), np.array([3.5, 12.0, 5.0, 5.0])).tolist()[:2] == [
        True,
        True,
    ]


def test_emitters_without_gain_stay() -> None:
    assert not select_moves(EMITTERS, np.zeros(4), np.ones(4)).any()
    assert select_moves(np.zeros((0, 4)), np.zeros(0), np.zeros(0)).shape == (0,)
