"""Scores of localizations: Jaccard index, precision, recall and errors.

The matching rule (stated wherever a figure is shown): a localization may be
paired with a true position at most the tolerance away in 3D (10 µm by
default). Of all assignments those with most pairs are taken, and of these the one
with the least total distance. A greedy assignment from nearest to farthest can
lose pairs. J = TP / (TP + FP + FN).

Truth outside the depth range or the field is ignored: missing it is not
counted. Localizations that remain after matching with the counted truth are
matched with the ignored truth by the same rule, and the matched ones are
ignored. All others are false positives, in the depth slice of their own depth.
True positives and misses belong to the slice of their truth.

Published work uses a laxer rule (greedy, 10 µm laterally but 40 µm axially),
so its figures are not directly comparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from models.assignment import IndexArray, assign
from models.errors import DataError

__all__ = [
    "Positions",
    "Region",
    "Score",
    "Scorer",
    "chance_jaccard",
    "frames_remark",
    "match",
    "score_frame",
    "score_table",
]

TOLERANCE_UM = 10.0

# Limit of pairs in one frame; each takes about 150 bytes, and twice as much when all pairs form one cluster.
_MOST_PAIRS = 5_000_000

# Enough random positions to know the chance level to about one percent.
_CHANCE_SAMPLES = 4000
_CHANCE_REPEATS = 50


class Positions(Protocol):
    """A table of positions: localizations, tracks or truth. Columns of shape (N,)."""

    @property
    def frame(self) -> NDArray[np.int64]:
        """Frame number."""

    @property
    def x_um(self) -> NDArray[np.float64]:
        """To the right, µm."""

    @property
    def y_um(self) -> NDArray[np.float64]:
        """Downward, µm."""

    @property
    def z_um(self) -> NDArray[np.float64]:
        """Depth from focus, µm."""


@dataclass(frozen=True, slots=True)
class Region:
    """The box in which truth counts, bounds included, µm; unlimited unless given."""

    x_um: tuple[float, float] = (-inf, inf)
    y_um: tuple[float, float] = (-inf, inf)
    z_um: tuple[float, float] = (-inf, inf)

    def contains(self, xyz_um: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions, shape (N, 3), lie inside; shape (N,)."""
        low, high = np.array([self.x_um, self.y_um, self.z_um]).T
        inside: NDArray[np.bool_] = np.all((xyz_um >= low) & (xyz_um <= high), axis=1)
        return inside


@dataclass(frozen=True, slots=True)
class Score:
    """Counts and squared errors of a comparison; every figure follows from them.

    Attributes
    ----------
    tp, fp, fn : int
        True positives, false positives, misses.
    square_lateral_um2, square_axial_um2 : float
        Sums of the squared lateral and axial errors of the true positives, µm².
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    square_lateral_um2: float = 0.0
    square_axial_um2: float = 0.0

    def __add__(self, other: Score) -> Score:
        """Both comparisons as one."""
        return Score(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
            self.square_lateral_um2 + other.square_lateral_um2,
            self.square_axial_um2 + other.square_axial_um2,
        )

    @property
    def jaccard(self) -> float | None:
        """TP / (TP + FP + FN); None without truth and localizations."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Share of the localizations that are true positives; None without localizations."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the truth that was found; None without truth."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def rmse_um(self) -> float | None:
        """Root of the mean squared 3D distance of the true positives, µm; None without any."""
        return _root_mean(self.square_lateral_um2 + self.square_axial_um2, self.tp)

    @property
    def rmse_lateral_um(self) -> float | None:
        """Root of the mean of dx² + dy², µm; None without true positives."""
        return _root_mean(self.square_lateral_um2, self.tp)

    @property
    def rmse_axial_um(self) -> float | None:
        """Root of the mean of dz², µm; None without true positives."""
        return _root_mean(self.square_axial_um2, self.tp)

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, None where undefined."""
        return {
            "jaccard": self.jaccard,
            "precision": self.precision,
            "recall": self.recall,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "rmse_um": self.rmse_um,
            "rmse_lateral_um": self.rmse_lateral_um,
            "rmse_axial_um": self.rmse_axial_um,
        }


def match(
    found_xyz_um: NDArray[Any], truth_xyz_um: NDArray[Any], tolerance_um: float = TOLERANCE_UM
) -> tuple[IndexArray, IndexArray]:
    """Match localizations with truth: within the tolerance, most pairs, then least total 3D distance.

    Parameters
    ----------
    found_xyz_um : ndarray, shape (N, 3)
        Localizations, µm.
    truth_xyz_um : ndarray, shape (M, 3)
        Truth, µm.
    tolerance_um : float
        Largest distance of a pair, included.

    Returns
    -------
    found, truth : ndarray of int64, shape (P,)
        Indices of the pairs.

    Raises
    ------
    DataError
        When more pairs are within the tolerance than the memory limit allows.
    """
    found = _as_positions(found_xyz_um)
    truth = _as_positions(truth_xyz_um)
    if not (np.isfinite(tolerance_um) and tolerance_um > 0):
        raise ValueError(f"tolerance_um is {tolerance_um}; it must be positive and finite")
    if len(found) == 0 or len(truth) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # The tree rounds differently: search slightly wider, then gate on the exact distance.
    reach = tolerance_um * (1 + 1e-9)
    trees = KDTree(found), KDTree(truth)
    _check_pair_count(int(trees[0].count_neighbors(trees[1], reach)), len(found), len(truth), tolerance_um)
    near = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    rows, columns = near["i"].astype(np.int64), near["j"].astype(np.int64)
    distances = np.sqrt(((found[rows] - truth[columns]) ** 2).sum(axis=1))
    inside = distances <= tolerance_um
    return assign(rows[inside], columns[inside], distances[inside], (len(found), len(truth)))


class Scorer:
    """Accumulates the scores of frames, in total and by depth slice.

    Parameters
    ----------
    tolerance_um : float
        Largest 3D distance of a pair, µm.
    region : Region
        Region of the counted truth; truth elsewhere is ignored.
    slice_edges_um : sequence of float
        Increasing edges of depth slices [low, high), the last one closed. False positives
        with a depth outside all slices are in the total only.
    """

    def __init__(
        self,
        tolerance_um: float = TOLERANCE_UM,
        region: Region | None = None,
        slice_edges_um: Sequence[float] = (),
    ) -> None:
        self._tolerance_um = tolerance_um
        self._region = region or Region()
        self._edges_um = np.asarray(slice_edges_um, np.float64)
        if len(self._edges_um) == 1 or np.any(np.diff(self._edges_um) <= 0):
            raise ValueError(f"slice edges {list(slice_edges_um)} must increase, and be at least two")
        self._total = Score()
        self._slices = [Score() for _ in self._edges_um[1:]]

    def add(self, found_xyz_um: NDArray[Any], truth_xyz_um: NDArray[Any]) -> Score:
        """Add localizations, shape (N, 3) µm, and truth, shape (M, 3) µm, of one frame; return its score."""
        found, truth = _as_positions(found_xyz_um), _as_positions(truth_xyz_um)
        counts = self._region.contains(truth)
        ignored, truth = truth[~counts], truth[counts]
        matched_found, matched_truth = match(found, truth, self._tolerance_um)
        error = found[matched_found] - truth[matched_truth]
        unmatched = np.delete(found, matched_found, axis=0)
        ignored_found, _ = match(unmatched, ignored, self._tolerance_um)
        false = np.delete(unmatched, ignored_found, axis=0)
        missed = np.delete(truth, matched_truth, axis=0)
        frame = _frame_score(error, len(false), len(missed))
        self._total += frame
        if self._slices:
            of_true, of_false, of_missed = map(self._slice_of, (truth[matched_truth, 2], false[:, 2], missed[:, 2]))
            for index in range(len(self._slices)):
                self._slices[index] += _frame_score(
                    error[of_true == index], np.sum(of_false == index), np.sum(of_missed == index)
                )
        return frame

    def result(self) -> dict[str, Any]:
        """The figures so far by name, None where undefined."""
        return self._total.as_dict()

    @property
    def score(self) -> Score:
        """The score so far."""
        return self._total

    @property
    def slices(self) -> tuple[Score, ...]:
        """The score of each depth slice so far."""
        return tuple(self._slices)

    def _slice_of(self, z_um: NDArray[np.float64]) -> IndexArray:
        index = np.searchsorted(self._edges_um, z_um, side="right") - 1
        index[z_um == self._edges_um[-1]] = len(self._edges_um) - 2
        return index


def score_frame(
    found_xyz_um: NDArray[Any],
    truth_xyz_um: NDArray[Any],
    tolerance_um: float = TOLERANCE_UM,
    region: Region | None = None,
) -> Score:
    """Score the localizations, shape (N, 3), of one frame against its truth, shape (M, 3), both µm."""
    return Scorer(tolerance_um, region).add(found_xyz_um, truth_xyz_um)


def score_table(
    found: Positions,
    truth: Positions,
    tolerance_um: float = TOLERANCE_UM,
    region: Region | None = None,
) -> Score:
    """Score tables of many frames: all frames that occur in either of them."""
    scorer = Scorer(tolerance_um, region)
    for localizations, expected in _frames(found, truth):
        scorer.add(localizations, expected)
    return scorer.score


def frames_remark(found: Positions, truth: Positions) -> str | None:
    """Check whether the frame numbers of two tables start from different numbers.

    Returns
    -------
    str or None
        A message; None when the frames fit, and when one of the tables is empty.

    Raises
    ------
    DataError
        When all frames of one table come before all frames of the other: there is nothing to compare.
    """
    if len(found.frame) == 0 or len(truth.frame) == 0:
        return None
    first, last = int(found.frame.min()), int(found.frame.max())
    true_first, true_last = int(truth.frame.min()), int(truth.frame.max())
    extents = f"The localizations are in frames {first} to {last}, the truth in frames {true_first} to {true_last}"
    if last < true_first or true_last < first:
        raise DataError(
            f"{extents}; they have no frame in common.", "Give the truth of this movie; frames count from 0."
        )
    if first == true_first + 1 and last == true_last + 1:
        return f"{extents}: one of them may count frames from 1. Frames count from 0."
    if len(np.intersect1d(found.frame, truth.frame)) == 0:
        return f"{extents}, and no frame has both."
    return None


def places_remark(found: Positions, truth: Positions, score: Score) -> str | None:
    """State the extents of localizations and truth when none match, which shows another unit or origin.

    Returns
    -------
    str or None
        A message; None when some match, and when one of the tables is empty.
    """
    if score.tp or len(found.frame) == 0 or len(truth.frame) == 0:
        return None
    boxes = []
    for table in (found, truth):
        low, high = _xyz(table).min(axis=0), _xyz(table).max(axis=0)
        boxes.append(", ".join(f"{axis} {a:.6g} to {b:.6g}" for axis, a, b in zip("xyz", low, high, strict=True)))
    return f"Nothing matches. The localizations lie at {boxes[0]} µm, the truth at {boxes[1]} µm; both must be in µm."


def chance_jaccard(
    found: Positions,
    truth: Positions,
    tolerance_um: float = TOLERANCE_UM,
    region: Region | None = None,
    seed: int = 0,
) -> float | None:
    """Jaccard index of as many random positions per frame in the box of the truth.

    The box is the smallest one around the counted truth of all frames. The
    positions are uniform in it and independent, and the truth is unchanged, so
    the figure is the score due to crowding alone. It is a mean over repeats;
    equal seeds give equal figures.

    Parameters
    ----------
    found, truth : Positions
        As for `score_table`.
    tolerance_um, region
        As for `score_table`.
    seed : int
        Seed of the random positions.

    Returns
    -------
    float or None
        None when no truth counts.
    """
    counted = _xyz(truth)[(region or Region()).contains(_xyz(truth))]
    if len(counted) == 0:
        return None
    low, high = counted.min(axis=0), counted.max(axis=0)
    random = np.random.default_rng(seed)
    scorer = Scorer(tolerance_um, region)
    repeats = min(ceil(_CHANCE_SAMPLES / len(counted)), _CHANCE_REPEATS)
    for localizations, expected in _frames(found, truth):
        for _ in range(repeats):
            scorer.add(random.uniform(low, high, size=(len(localizations), 3)), expected)
    return scorer.score.jaccard


def _frames(found: Positions, truth: Positions) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    frames = np.union1d(found.frame, truth.frame)
    parts = []
    for table in (found, truth):
        order = np.argsort(table.frame, kind="stable")
        ends = np.searchsorted(table.frame[order], frames, side="right")
        parts.append(np.split(_xyz(table)[order], ends[:-1]) if len(frames) else [])
    yield from zip(*parts, strict=True)


def _xyz(table: Positions) -> NDArray[np.float64]:
    return np.column_stack([table.x_um, table.y_um, table.z_um])


def _as_positions(xyz_um: NDArray[Any]) -> NDArray[np.float64]:
    xyz = np.asarray(xyz_um, np.float64)
    if xyz.size == 0:
        return xyz.reshape(0, 3)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise ValueError(f"positions of shape {xyz.shape} were given; they are (N, 3) and finite")
    return xyz


def _frame_score(error_um: NDArray[np.float64], false: int, missed: int) -> Score:
    square = error_um**2
    return Score(len(error_um), int(false), int(missed), float(square[:, :2].sum()), float(square[:, 2].sum()))


def _check_pair_count(pairs: int, found: int, truth: int, tolerance_um: float) -> None:
    if pairs > _MOST_PAIRS:
        raise DataError(
            f"{found} localizations and {truth} positions of truth in one frame have {pairs} pairs within "
            f"{tolerance_um:g} µm; at most {_MOST_PAIRS} can be compared.",
            "Check the frame numbers of both tables, or choose a smaller tolerance.",
        )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _root_mean(total: float, count: int) -> float | None:
    return float(np.sqrt(total / count)) if count else None
