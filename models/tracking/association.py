"""Which localization continues which track: gates, gains, and the best assignment of a frame.

The gain of a pair is the log-likelihood ratio of two hypotheses: the
localization comes from the track, against: the track is not seen and the
localization is a new emitter or false. The assignment with the largest sum of
gains over the whole frame is the most probable one. Where it could have been
another one, the decision is ambiguous, and the track carries by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from models.assignment import assign

__all__ = ["Association", "associate", "pairs_near"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_NONE: I64 = np.zeros(0, np.int64)

_DENSE = 40_000
"""Tracks times localizations up to which all distances are computed at once."""


@dataclass(frozen=True, slots=True)
class Association:
    """The assignment of one frame.

    Attributes
    ----------
    tracks, hits : ndarray of int64, shape (P,)
        Rows of the tracks and of the localizations that belong together.
    pairs : ndarray of int64, shape (P,)
        Their rows among the pairs that were given.
    ambiguity : ndarray of float64, shape (P,)
        Probability that the right decision for this track was another one: 0 for a clear decision.
    """

    tracks: I64
    hits: I64
    pairs: I64
    ambiguity: F64


def pairs_near(centres_um: F64, reach_um: F64, measured_um: F64) -> tuple[I64, I64]:
    """All pairs of a centre and a measured position within the reach of the centre.

    Parameters
    ----------
    centres_um : ndarray of float64, shape (N, 3)
    reach_um : ndarray of float64, shape (N,)
    measured_um : ndarray of float64, shape (K, 3)

    Returns
    -------
    centres, measured : ndarray of int64, shape (P,)
    """
    if len(centres_um) == 0 or len(measured_um) == 0:
        return _NONE, _NONE
    if len(centres_um) * len(measured_um) <= _DENSE:
        away = centres_um[:, None] - measured_um[None]
        near = np.einsum("nka,nka->nk", away, away) <= (reach_um * reach_um)[:, None]
        first, second = np.nonzero(near)
        return first.astype(np.int64), second.astype(np.int64)
    # A search with one radius is several times faster than one with a radius for each point: two classes of radius.
    tree = KDTree(measured_um)
    usual = reach_um <= 2 * np.median(reach_um)
    parts = []
    for rows in (np.flatnonzero(usual), np.flatnonzero(~usual)):
        if len(rows):
            found = KDTree(centres_um[rows]).sparse_distance_matrix(tree, reach_um[rows].max(), output_type="ndarray")
            found = found[found["v"] <= reach_um[rows[found["i"]]]]
            parts.append((rows[found["i"]], found["j"].astype(np.int64)))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def associate(tracks: I64, hits: I64, gains: F64, shape: tuple[int, int]) -> Association:
    """The assignment with the largest sum of gains, and the ambiguity of each of its decisions.

    Parameters
    ----------
    tracks, hits : ndarray of int64, shape (P,)
        Pairs of track and localization, each once.
    gains : ndarray of float64, shape (P,)
        Log-likelihood ratio of each pair; pairs with a gain below 0 are not made.
    shape : tuple of int
        Number of tracks and of localizations.
    """
    keep = np.flatnonzero(gains > 0)
    tracks, hits, gains = tracks[keep], hits[keep], gains[keep]
    made = _clear(tracks, hits, gains, shape)
    rest = np.flatnonzero(~made)
    taken_tracks, taken_hits = np.zeros(shape[0], bool), np.zeros(shape[1], bool)
    taken_tracks[tracks[made]] = True
    taken_hits[hits[made]] = True
    rest = rest[~taken_tracks[tracks[rest]] & ~taken_hits[hits[rest]]]
    if len(rest):
        first, second = assign(tracks[rest], hits[rest], -gains[rest], shape, 0.0)
        partner = np.full(shape[0], -1, np.int64)
        partner[first] = second
        made[rest[partner[tracks[rest]] == hits[rest]]] = True
    chosen = np.flatnonzero(made)
    odds = np.exp(np.minimum(gains, 500.0))
    all_tracks = np.bincount(tracks, odds, shape[0])[tracks[chosen]]
    all_hits = np.bincount(hits, odds, shape[1])[hits[chosen]]
    own = odds[chosen]
    ambiguity = 1 - own / (1 + all_tracks + all_hits - own)
    return Association(tracks[chosen], hits[chosen], keep[chosen], ambiguity)


def _clear(tracks: I64, hits: I64, gains: F64, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pairs that belong to the best assignment whatever the others are.

    A pair is one if its gain is not below the best other gain of its track plus the best other gain of its
    localization: any assignment without the pair loses nothing when these two are replaced by it.
    """
    if len(tracks) == 0:
        return np.zeros(0, bool)
    best_of_track, other_of_track = _two_best(tracks, gains, shape[0])
    best_of_hit, other_of_hit = _two_best(hits, gains, shape[1])
    is_best = (gains >= best_of_track[tracks]) & (gains >= best_of_hit[hits])
    clear = is_best & (gains > other_of_track[tracks] + other_of_hit[hits])
    result: NDArray[np.bool_] = clear
    return result


def _two_best(groups: I64, gains: F64, count: int) -> tuple[F64, F64]:
    """Largest and second largest gain of each group; 0 where there is none."""
    best, second = np.zeros(count), np.zeros(count)
    order = np.lexsort((gains, groups))
    sorted_groups, sorted_gains = groups[order], gains[order]
    last = np.flatnonzero(np.append(sorted_groups[1:] != sorted_groups[:-1], True))
    best[sorted_groups[last]] = sorted_gains[last]
    before = last - 1
    same = (before >= 0) & (sorted_groups[np.maximum(before, 0)] == sorted_groups[last])
    second[sorted_groups[last[same]]] = sorted_gains[before[same]]
    return best, second
