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

from models.assignment import assign

__all__ = ["Association", "associate", "pairs_near"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


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

    The candidates of a centre are those in a window along one axis, found by bisection; the rest is one comparison
    of distances. For as many points as a frame has this is faster than a search tree.

    Parameters
    ----------
    centres_um : ndarray of float64, shape (3, N)
    reach_um : ndarray of float64, shape (N,)
    measured_um : ndarray of float64, shape (3, K)

    Returns
    -------
    centres, measured : ndarray of int64, shape (P,)
    """
    axis, *others = np.argsort(-np.ptp(measured_um, axis=1)).tolist()
    order = np.argsort(measured_um[axis])
    ordered = measured_um[:, order]
    first = np.searchsorted(ordered[axis], centres_um[axis] - reach_um)
    counts = np.searchsorted(ordered[axis], centres_um[axis] + reach_um, side="right") - first
    ends = np.cumsum(counts)
    centres = np.repeat(np.arange(len(reach_um)), counts)
    places = np.arange(ends[-1]) + np.repeat(first - ends + counts, counts)
    # The second axis leaves few of the pairs for the third comparison.
    for other in others:
        near = np.abs(centres_um[other, centres] - ordered[other, places]) <= reach_um[centres]
        centres, places = centres[near], places[near]
    away = centres_um[:, centres] - ordered[:, places]
    near = (away * away).sum(axis=0) <= (reach_um * reach_um)[centres]
    return centres[near], order[places[near]]


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

    A pair is one if its gain is above the best other gain of its track plus the best other gain of its
    localization: any assignment without the pair gains when these two are replaced by it.
    """
    clear: NDArray[np.bool_] = gains > _best_other(tracks, gains, shape[0]) + _best_other(hits, gains, shape[1])
    return clear


def _best_other(groups: I64, gains: F64, count: int) -> F64:
    """The largest gain among the other pairs of the same group, 0 where there is none; shape (P,)."""
    best = np.zeros(count)
    np.maximum.at(best, groups, gains)
    is_best = gains == best[groups]
    second = np.zeros(count)
    np.maximum.at(second, groups[~is_best], gains[~is_best])
    # Two pairs with the same best gain: each is the other one's best other.
    twice = np.bincount(groups[is_best], minlength=count) > 1
    second[twice] = best[twice]
    result: F64 = np.where(is_best, second[groups], best[groups])
    return result
