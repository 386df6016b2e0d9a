"""The arrays of all tracks: begin, select, append, and views that write through."""

from __future__ import annotations

import numpy as np

from models.tracking.pool import Pool

MODELS = 2


def pool(births: list[int], frame: int = 7) -> Pool:
    count = len(births)
    numbers = np.array(births, np.int64)
    gaussians = np.broadcast_to(numbers.astype(np.float64), (5, MODELS, 3, count)).copy()
    light = np.stack([100.0 * numbers, 1.0 * numbers])
    weights = np.full((MODELS, count), 1 / MODELS, np.float64)
    return Pool.begin(gaussians, weights, np.asarray(0.1 * numbers, np.float64), light, numbers, 10 * numbers, frame)


def test_tracks_begin_with_one_localization() -> None:
    new = pool([1, 2, 3])
    assert len(new) == 3
    np.testing.assert_array_equal(new.birth, [1, 2, 3])
    np.testing.assert_array_equal(new.track_id, 0)
    np.testing.assert_array_equal(new.first_frame, 7)
    np.testing.assert_array_equal(new.last_frame, 7)
    np.testing.assert_array_equal(new.hits, 1)
    np.testing.assert_array_equal(new.localization, [10, 20, 30])
    np.testing.assert_allclose(new.log_odds, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(new.ambiguity, 0.0)


def test_columns_are_views() -> None:
    of = pool([1, 2])
    of.log_odds[0] = 5.0
    of.hits[:] += 1
    of.track_id[1] = 4
    np.testing.assert_allclose(of.existence[0], [5.0, 0.2])
    np.testing.assert_array_equal(of.history[[1, 4]], [[0, 4], [2, 2]])


def test_all_columns_are_selected_and_appended_together() -> None:
    of = pool([1, 2, 3]).select(np.array([True, False, True])).append(pool([8], 9)).select(np.array([2, 0]))
    np.testing.assert_array_equal(of.birth, [8, 1])
    np.testing.assert_array_equal(of.first_frame, [9, 7])
    np.testing.assert_allclose(of.light, [[800.0, 100.0], [8.0, 1.0]])
    np.testing.assert_allclose(of.log_odds, [0.8, 0.1])
    np.testing.assert_allclose(of.gaussians[0, 0, 0], [8.0, 1.0])
    assert of.weights.shape == (MODELS, 2)


def test_a_selection_is_a_copy() -> None:
    of = pool([1, 2])
    of.select(np.array([0])).log_odds[:] = 9.0
    np.testing.assert_allclose(of.log_odds, [0.1, 0.2])


def test_no_tracks() -> None:
    empty = Pool.empty(MODELS)
    assert len(empty) == 0
    assert len(empty.append(pool([5]))) == 1
    assert len(pool([5]).append(empty).select(np.zeros(1, bool))) == 0
