"""Scores: hand-made cases, brute-force assignment of small frames, and general properties."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.metrics import Region, Score, Scorer, chance_jaccard, match, score_frame, score_table

_points = st.integers(0, 5).flatmap(
    lambda count: arrays(np.float64, (count, 3), elements=st.integers(0, 30).map(lambda v: v / 2))
)


@dataclass
class _Table:
    frame: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]


def _table(rows: list[tuple[int, float, float, float]]) -> _Table:
    columns = np.array(rows, np.float64).reshape(-1, 4)
    return _Table(columns[:, 0].astype(np.int64), *columns[:, 1:].T)


def _best(found: NDArray[np.float64], truth: NDArray[np.float64], tolerance_um: float) -> tuple[int, float]:
    distances = np.linalg.norm(found[:, None] - truth[None], axis=2)
    best = (0, 0.0)
    for size in range(1, min(distances.shape) + 1):
        for chosen in combinations(range(len(found)), size):
            for partners in permutations(range(len(truth)), size):
                pairs = distances[list(chosen), list(partners)]
                if (pairs <= tolerance_um).all():
                    best = min(best, (-size, float(pairs.sum())))
    return -best[0], best[1]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(_points, _points, st.sampled_from([3.0, 5.0, 10.0]))
def test_most_pairs_then_least_distance(
    found: NDArray[np.float64], truth: NDArray[np.float64], tolerance_um: float
) -> None:
    rows, columns = match(found, truth, tolerance_um)
    distances = np.linalg.norm(found[rows] - truth[columns], axis=1)
    assert len(set(rows)) == len(set(columns)) == len(rows)
    assert (distances <= tolerance_um).all()
    count, total = _best(found, truth, tolerance_um)
    assert len(rows) == count
    assert distances.sum() == pytest.approx(total, abs=1e-9)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(_points, _points, st.randoms(use_true_random=False))
def test_order_and_sides_do_not_matter(found: NDArray[np.float64], truth: NDArray[np.float64], random: Random) -> None:
    score = score_frame(found, truth)
    shuffled = list(range(len(found)))
    random.shuffle(shuffled)
    again = score_frame(found[shuffled], truth)
    assert (again.tp, again.fp, again.fn) == (score.tp, score.fp, score.fn)
    other = score_frame(truth, found)
    assert (other.tp, other.fp, other.fn) == (score.tp, score.fn, score.fp)
    assert score.jaccard == other.jaccard
    assert score.tp + score.fp == len(found)
    assert score.tp + score.fn == len(truth)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(_points)
def test_the_truth_itself_is_perfect(truth: NDArray[np.float64]) -> None:
    score = score_frame(truth, truth)
    assert score.jaccard == (1.0 if len(truth) else None)
    assert score.rmse_um == (0.0 if len(truth) else None)


def test_greedy_would_lose_a_pair() -> None:
    # The nearest pair is (found 0, truth 1), 1 µm; taking it leaves the others 17 µm apart.
    found = np.array([[8.0, 0, 0], [17.0, 0, 0]])
    truth = np.array([[0.0, 0, 0], [9.0, 0, 0]])
    score = score_frame(found, truth)
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)
    assert score.rmse_um == pytest.approx(8.0)


def test_errors_by_direction() -> None:
    score = score_frame(np.array([[3.0, 4, 12]]), np.zeros((1, 3)), tolerance_um=13)
    assert (score.rmse_um, score.rmse_lateral_um, score.rmse_axial_um) == (13.0, 5.0, 12.0)
    assert score_frame(np.array([[3.0, 4, 12]]), np.zeros((1, 3)), tolerance_um=12.999).tp == 0


def test_undefined_figures_are_none() -> None:
    assert set(Scorer().result().values()) == {None, 0}
    only_truth = score_frame(np.zeros((0, 3)), np.zeros((1, 3)))
    assert (only_truth.jaccard, only_truth.precision, only_truth.recall) == (0.0, None, 0.0)
    only_localizations = score_frame(np.zeros((2, 3)), np.zeros((0, 3)))
    assert (only_localizations.jaccard, only_localizations.precision, only_localizations.recall) == (0.0, 0.0, None)


def test_ignored_truth_matches_one_localization_only() -> None:
    region = Region(x_um=(0, 100), y_um=(0, 100), z_um=(0, 100))
    truth = np.array([[50.0, 50, 50], [50, 50, 104], [-200, 50, 50]])
    assert score_frame(np.zeros((0, 3)), truth, region=region) == Score(fn=1)
    found = np.array([[50.0, 50, 51], [50, 50, 99], [52, 50, 99]])
    score = score_frame(found, truth, region=region)
    assert (score.tp, score.fp, score.fn) == (1, 1, 0)


def test_counted_truth_is_matched_before_ignored() -> None:
    region = Region(z_um=(0, 100))
    truth = np.array([[0.0, 0, 99], [0, 0, 101]])
    score = score_frame(np.array([[0.0, 0, 101]]), truth, region=region)
    assert (score.tp, score.fp, score.fn) == (1, 0, 0)


def test_depth_slices() -> None:
    scorer = Scorer(slice_edges_um=(0, 20, 40))
    truth = np.array([[0.0, 0, 19], [50, 0, 40], [90, 0, 10]])
    found = np.array([[0.0, 0, 21], [50, 0, 38], [0, 90, 30], [90, 90, 60]])
    scorer.add(found, truth)
    shallow, deep = scorer.slices
    assert (shallow.tp, shallow.fp, shallow.fn) == (1, 0, 1)
    assert (deep.tp, deep.fp, deep.fn) == (1, 1, 0)
    assert scorer.score.fp == 2


def test_tables_score_frame_by_frame() -> None:
    truth = _table([(0, 1, 1, 1), (2, 1, 1, 1), (3, 5, 5, 5)])
    found = _table([(3, 5, 5, 6), (2, 1, 1, 1), (7, 1, 1, 1), (0, 30, 1, 1)])
    score = score_table(found, truth)
    assert (score.tp, score.fp, score.fn) == (2, 2, 1)
    nothing = _table([])
    assert score_table(nothing, nothing).jaccard is None


def test_a_scorer_adds_up_frames() -> None:
    random = np.random.default_rng(3)
    scorer = Scorer(tolerance_um=5)
    total = Score()
    for _ in range(10):
        truth = random.uniform(0, 100, (20, 3))
        found = truth[:15] + random.normal(0, 2, (15, 3))
        total += score_frame(found, truth, tolerance_um=5)
        scorer.add(found, truth)
    assert scorer.score == total
    assert scorer.result()["tp"] == total.tp


def test_chance_level_of_a_crowd() -> None:
    # The definitions quote 0.16 for 100 random points in 100 x 100 x 100 µm³ at 10 µm.
    random = np.random.default_rng(1)
    rows = [(frame, *random.uniform(0, 100, 3)) for frame in range(10) for _ in range(100)]
    truth = _table(rows)
    level = chance_jaccard(truth, truth)
    assert level == pytest.approx(0.16, abs=0.015)
    assert level == chance_jaccard(truth, truth)
    assert chance_jaccard(truth, _table([])) is None


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.full((1, 3), np.nan)])
def test_positions_that_are_none(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"they are \(N, 3\) and finite"):
        match(bad, np.zeros((1, 3)))


def test_impossible_parameters() -> None:
    with pytest.raises(ValueError, match="tolerance_um is 0"):
        match(np.zeros((1, 3)), np.zeros((1, 3)), 0)
    with pytest.raises(ValueError, match="must increase"):
        Scorer(slice_edges_um=(1, 1))
