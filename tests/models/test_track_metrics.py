"""Scores of tracks, on cases that are computed by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import DataError
from models.track_metrics import TrackScore, score_tracks


@dataclass
class Points:
    track_id: NDArray[np.int64]
    frame: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]


def points(*tracks: tuple[int, list[tuple[float, float, float]]]) -> Points:
    """Tracks, each from its first frame and its positions."""
    rows = [
        (number, start + step, *place)
        for number, (start, places) in enumerate(tracks)
        for step, place in enumerate(places)
    ]
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    return Points(columns[0].astype(np.int64), columns[1].astype(np.int64), *columns[2:])


def line(y: float, frames: int = 4, z: float = 0.0) -> list[tuple[float, float, float]]:
    return [(float(x), y, z) for x in range(frames)]


def test_perfect_tracks_have_perfect_scores() -> None:
    truth = points((0, line(0.0)), (2, line(20.0)))
    assert score_tracks(truth, truth) == TrackScore(1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 2, 2, 2)


def test_distances_are_gated_and_in_three_dimensions() -> None:
    truth = points((0, line(0.0)))
    found = points((0, [(0.0, 0.0, 3.0), (1.0, 4.0, 0.0), (2.0, 30.0, 0.0), (3.0, 0.0, 0.0)]))
    score = score_tracks(found, truth)
    # The costs are 3, 4, the gate of 5, and 0, of 20 that the empty track costs.
    assert score.alpha == score.beta == pytest.approx(1 - 12 / 20)
    assert score.jsc == pytest.approx(3 / 5)
    assert score.track_rmse_um == pytest.approx(np.sqrt(25 / 3))
    assert score.idf1 == pytest.approx(3 / 4)


def test_a_spurious_track_lowers_beta_and_not_alpha() -> None:
    truth = points((0, line(0.0)))
    found = points((0, line(0.0)), (0, line(50.0, frames=2)))
    score = score_tracks(found, truth)
    assert score.alpha == 1.0
    assert score.beta == pytest.approx(20 / (20 + 10))
    assert (score.jsc, score.jsc_theta) == (pytest.approx(4 / 6), pytest.approx(1 / 2))


def test_a_broken_track_is_one_track_and_a_spurious_one() -> None:
    truth = points((0, line(0.0, frames=5)))
    found = points((0, line(0.0, frames=3)), (3, [(3.0, 0.0, 0.0), (4.0, 0.0, 0.0)]))
    score = score_tracks(found, truth)
    assert score.alpha == pytest.approx(3 / 5)
    assert score.beta == pytest.approx(15 / (25 + 10))
    assert (score.jsc, score.jsc_theta) == (pytest.approx(3 / 7), pytest.approx(1 / 2))
    assert score.idf1 == pytest.approx(6 / 10)


def test_swapped_identities_cost_half_of_the_points() -> None:
    truth = points((0, line(0.0)), (0, line(20.0)))
    swapped = points((0, line(0.0)[:2] + line(20.0)[2:]), (0, line(20.0)[:2] + line(0.0)[2:]))
    score = score_tracks(swapped, truth)
    assert (score.alpha, score.idf1, score.jsc_theta) == (0.5, 0.5, 1.0)
    assert score.jsc == pytest.approx(4 / 12)


def test_a_pair_without_points_within_the_gate_is_no_pair() -> None:
    # In the same frames at 6 µm: the pair costs as much as the empty track.
    score = score_tracks(points((0, line(6.0))), points((0, line(0.0))))
    assert (score.paired_tracks, score.jsc_theta, score.alpha, score.beta) == (0, 0.0, 0.0, 0.0)
    assert score.track_rmse_um is None
    # At the gate itself too.
    assert score_tracks(points((0, line(5.0))), points((0, line(0.0)))).paired_tracks == 0


def test_a_long_false_track_that_meets_a_true_one_once_is_spurious() -> None:
    truth = points((0, [(0.0, 0.0, 0.0)]))
    found = points((0, line(0.0, frames=8)))
    # One match saves 5, the seven frames alone cost 35.
    assert score_tracks(found, truth).paired_tracks == 0
    assert score_tracks(found, truth).idf1 == pytest.approx(2 / 9)


def test_tables_without_rows() -> None:
    nothing, truth = points(), points((0, line(0.0)))
    assert score_tracks(nothing, truth) == TrackScore(0.0, 0.0, 0.0, 0.0, None, 0.0, 1, 0, 0)
    assert score_tracks(truth, nothing) == TrackScore(None, 0.0, 0.0, 0.0, None, 0.0, 0, 1, 0)
    assert score_tracks(nothing, nothing) == TrackScore(None, None, None, None, None, None, 0, 0, 0)


def test_two_points_of_a_track_in_a_frame_are_refused() -> None:
    twice = points((0, line(0.0)), (0, line(5.0)))
    twice.track_id[:] = 7
    with pytest.raises(DataError, match="two points of track 7 in frame 0"):
        score_tracks(twice, points((0, line(0.0))))


@pytest.mark.parametrize("seed", range(5))
def test_the_pairing_is_the_best_one(seed: int) -> None:
    """Against all pairings of few random tracks, by the definition."""
    rng = np.random.default_rng(seed)

    def random_tracks(count: int) -> list[tuple[int, list[tuple[float, float, float]]]]:
        return [
            (int(rng.integers(3)), [tuple(rng.uniform(0, 6, 3)) for _ in range(rng.integers(1, 6))])  # type: ignore[misc]
            for _ in range(count)
        ]

    def distance(one: dict[int, tuple[float, ...]], other: dict[int, tuple[float, ...]]) -> float:
        total = 0.0
        for frame in one.keys() | other.keys():
            both = frame in one and frame in other
            total += min(np.linalg.norm(np.subtract(one[frame], other[frame])), 5.0) if both else 5.0
        return total

    true, got = random_tracks(3), random_tracks(4)
    as_frames = [[{start + n: place for n, place in enumerate(places)} for start, places in t] for t in (true, got)]
    found_or_empty = [*as_frames[1], {}, {}, {}]
    best = min(
        sum(distance(t, f) for t, f in zip(as_frames[0], chosen, strict=True))
        for chosen in permutations(found_or_empty, len(true))
    )
    whole = 5.0 * sum(len(places) for _, places in true)
    assert score_tracks(points(*got), points(*true)).alpha == pytest.approx(1 - best / whole)
