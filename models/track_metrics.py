"""Scores of tracks: those of the particle tracking challenge, and IDF1.

The particle tracking challenge (Chenouard et al., Nature Methods 11, 281, 2014)
compares sets of tracks by a gated distance: a pair of a true and a found track
costs, for each frame in which one of them exists, the distance between the two
or the gate, whichever is less; a frame in which only one exists costs the gate.
True tracks are paired with found tracks, or with empty ones, at the least total
cost. Here the distance is in µm in 3D.

A pair that has no point within the gate may cost exactly as much as the empty
track. It must not count as a pair, so only pairs that cost less are made.

IDF1 is the share of points that the right track has, with the pairing of true
and found tracks that makes it largest (Ristani et al., ECCV workshop on
benchmarking multi-target tracking, 2016).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.spatial import KDTree

from models.assignment import assign
from models.errors import DataError
from models.metrics import Positions

__all__ = ["GATE_UM", "TrackScore", "TrackedPositions", "score_tracks"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

GATE_UM = 5.0
"""Distance from which a point is no match. The challenge has 5 pixels; depth is known to few µm here."""

_MOST_PAIRS = 20_000_000
"""Pairs of points within the gate, 100 bytes each."""


class TrackedPositions(Positions, Protocol):
    """A table of positions that belong to tracks."""

    @property
    def track_id(self) -> I64:
        """Number of the track."""


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Scores of found tracks against true ones; None where undefined.

    Attributes
    ----------
    alpha : agreement of all true tracks with their found ones; 1 is perfect, 0 is no track at all
    beta : the same, lowered by found tracks that belong to no true one
    jsc : Jaccard index of the points of paired tracks
    jsc_theta : Jaccard index of the tracks
    track_rmse_um : root of the mean squared distance of points within the gate in paired tracks, µm
    idf1 : share of the points that have the right identity
    true_tracks, found_tracks, paired_tracks : numbers of tracks
    """

    alpha: float | None
    beta: float | None
    jsc: float | None
    jsc_theta: float | None
    track_rmse_um: float | None
    idf1: float | None
    true_tracks: int
    found_tracks: int
    paired_tracks: int

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def score_tracks(found: TrackedPositions, truth: TrackedPositions, gate_um: float = GATE_UM) -> TrackScore:
    """Score found tracks against true tracks.

    Parameters
    ----------
    found, truth : TrackedPositions
        Points of tracks, in any order.
    gate_um : float
        Points at this distance, and farther apart, do not match.

    Returns
    -------
    TrackScore

    Raises
    ------
    DataError
        When a track has two points in one frame, or more points lie together than can be compared.
    """
    found_ids, found_track = _tracks(found, "The table")
    true_ids, true_track = _tracks(truth, "The truth")
    shape = (len(true_ids), len(found_ids))
    points, distances = _near(truth, found, gate_um)
    rows, columns = true_track[points[:, 0]], found_track[points[:, 1]]
    keys, pair = np.unique(rows * max(shape[1], 1) + columns, return_inverse=True)
    first, second = keys // max(shape[1], 1), keys % max(shape[1], 1)
    saved = np.bincount(pair, gate_um - distances, len(keys))
    matched = np.bincount(pair, minlength=len(keys))

    # A frame in which the found track exists alone costs the gate, which the empty track does not.
    alone = np.bincount(found_track, minlength=shape[1])[second] - _together(
        truth, true_track, found, found_track, first, second
    )
    gains = saved - gate_um * alone
    # Sums of rounded distances may leave a gain of 1e-13 where there is none.
    better = np.flatnonzero(gains > 1e-9 * gate_um)
    paired, partner = assign(first[better], second[better], -gains[better], shape, 0.0)
    chosen = np.searchsorted(keys, paired * max(shape[1], 1) + partner)
    gained = float(gains[chosen].sum())
    whole = gate_um * len(truth.frame)
    spurious = gate_um * (len(found.frame) - float(np.isin(found_track, partner).sum()))
    hits = int(matched[chosen].sum())
    inside = np.isin(pair, chosen)
    square = float((distances[inside] ** 2).sum())

    of_truth, of_found = assign(first, second, -matched.astype(np.float64), shape, 0.0)
    right = int(matched[np.searchsorted(keys, of_truth * max(shape[1], 1) + of_found)].sum())
    points_in_all = len(truth.frame) + len(found.frame)
    return TrackScore(
        alpha=_ratio(gained, whole),
        beta=_ratio(gained, whole + spurious),
        jsc=_ratio(hits, points_in_all - hits),
        jsc_theta=_ratio(len(paired), sum(shape) - len(paired)),
        track_rmse_um=float(np.sqrt(square / hits)) if hits else None,
        idf1=_ratio(2 * right, points_in_all),
        true_tracks=shape[0],
        found_tracks=shape[1],
        paired_tracks=len(paired),
    )


def _tracks(table: TrackedPositions, name: str) -> tuple[I64, I64]:
    """Numbers of the tracks, and for each point the row of its track among them."""
    ids, track = np.unique(table.track_id, return_inverse=True)
    order = np.lexsort((table.frame, track))
    frames, tracks = np.asarray(table.frame)[order], track[order]
    twice = np.flatnonzero((np.diff(frames) == 0) & (np.diff(tracks) == 0))
    if len(twice):
        raise DataError(
            f"{name} has two points of track {ids[tracks[twice[0]]]} in frame {frames[twice[0]]}; a track has one "
            "point in a frame.",
            "Give each track a number of its own.",
        )
    return ids.astype(np.int64), track.astype(np.int64)


def _near(truth: Positions, found: Positions, gate_um: float) -> tuple[I64, F64]:
    """Pairs of points in the same frame nearer than the gate, shape (P, 2), and their distances, shape (P,)."""
    if not (len(truth.frame) and len(found.frame)):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    frames = np.unique(np.concatenate([truth.frame, found.frame]))
    # Time as a fourth axis, so long that points of different frames are never near.
    first, second = (_with_time(table, frames, 10 * gate_um) for table in (truth, found))
    trees, reach = (KDTree(first), KDTree(second)), gate_um * (1 + 1e-9)
    pairs = int(trees[0].count_neighbors(trees[1], reach))
    if pairs > _MOST_PAIRS:
        raise DataError(
            f"{pairs} pairs of true and found points lie within {gate_um:g} µm; at most {_MOST_PAIRS} can be compared.",
            "Check the frame numbers of both tables, or compare a part of the movie.",
        )
    near = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    points = np.column_stack([near["i"], near["j"]]).astype(np.int64)
    distances = np.linalg.norm(first[points[:, 0], :3] - second[points[:, 1], :3], axis=1)
    inside = distances < gate_um
    return points[inside], distances[inside]


def _with_time(table: Positions, frames: I64, length_um: float) -> F64:
    time = np.searchsorted(frames, table.frame) * length_um
    return np.column_stack([table.x_um, table.y_um, table.z_um, time])


def _together(
    truth: TrackedPositions, true_track: I64, found: TrackedPositions, found_track: I64, first: I64, second: I64
) -> I64:
    """In how many frames both tracks of each pair exist."""
    if len(first) == 0:
        return np.zeros(0, np.int64)
    frames = np.unique(np.concatenate([truth.frame, found.frame]))
    tables = []
    for table, track in ((truth, true_track), (found, found_track)):
        ones, at = np.ones(len(track), np.int64), np.searchsorted(frames, table.frame)
        tables.append(coo_array((ones, (track, at)), shape=(int(track.max()) + 1, len(frames))).tocsr())
    counts = np.zeros(len(first), np.int64)
    # One true track at a time: the product of both tables could be dense.
    for row, members in _groups(first):
        overlap = tables[1] @ tables[0][[row]].toarray()[0]
        counts[members] = overlap[second[members]]
    return counts


def _groups(labels: I64) -> list[tuple[int, I64]]:
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return list(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
