"""Pairs and the best assignment against brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tracking.association import associate, pairs_near


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
def test_pairs_are_all_within_reach(centres: int, measured: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, two = random.uniform(0, 20, (3, centres)), random.uniform(0, 20, (3, measured))
    reach = random.uniform(0, 12, centres)
    expected = np.linalg.norm(one[:, :, None] - two[:, None], axis=0) <= reach[:, None]
    found = np.zeros_like(expected)
    rows, columns = pairs_near(one, reach, two)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    found[rows, columns] = True
    np.testing.assert_array_equal(found, expected)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_the_sum_of_gains_is_the_largest(tracks: int, hits: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers make ties.
    gains = random.integers(-5, 9, (tracks, hits)).astype(float)
    rows, columns = (index.ravel() for index in np.indices(gains.shape))
    chosen = associate(rows, columns, gains.ravel(), gains.shape)
    assert len(set(chosen.tracks.tolist())) == len(chosen.tracks)
    assert len(set(chosen.hits.tolist())) == len(chosen.hits)
    assert (rows[chosen.pairs] == chosen.tracks).all()
    assert (columns[chosen.pairs] == chosen.hits).all()
    padded = np.maximum(np.pad(gains, ((0, hits), (0, tracks))), 0)
    best = max(sum(padded[row, column] for row, column in enumerate(way)) for way in _ways(padded.shape[0], tracks))
    assert gains[chosen.tracks, chosen.hits].sum() == best


def _ways(columns: int, rows: int) -> set[tuple[int, ...]]:
    return set(permutations(range(columns), rows))


def test_a_decision_without_another_one_is_not_ambiguous() -> None:
    alone = associate(np.array([0]), np.array([0]), np.array([20.0]), (1, 1))
    assert alone.ambiguity[0] < 1e-6
    twins = associate(np.array([0, 0]), np.array([0, 1]), np.array([20.0, 20.0]), (1, 2))
    assert abs(twins.ambiguity[0] - 0.5) < 1e-6
