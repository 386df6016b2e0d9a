"""Which localization continues which track: gates, gains, and the best assignment of a frame.

The gain of a pair is the log-likelihood ratio of two hypotheses: the
localization comes from the track, against: the track is not seen and the
localization is a new emitter or false. The assignment with the largest sum of
gains over the whole frame is the most probable one. Where it could have been
another one, the decision is ambiguous, and the track carries by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
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
    measured = np.ascontiguousarray(measured_um)
    axis = _longest_axis(measured)
    order = np.argsort(measured[axis])
    pairs: tuple[I64, I64] = _pairs_near(np.ascontiguousarray(centres_um), reach_um, measured, axis, order)
    return pairs


@numba.njit(cache=True, nogil=True)
def _longest_axis(places: Any) -> int:
    longest, axis = -1.0, 0
    for each in range(3):
        low, high = np.inf, -np.inf
        for n in range(places.shape[1]):
            low, high = min(low, places[each, n]), max(high, places[each, n])
        if high - low > longest:
            longest, axis = high - low, each
    return axis


@numba.njit(cache=True, nogil=True)
def _pairs_near(centres: Any, reach: Any, measured: Any, axis: int, order: Any) -> Any:
    places = np.empty((len(order), 3))
    for n in range(len(order)):
        for each in range(3):
            places[n, each] = measured[(axis + each) % 3, order[n]]
    count = 0
    tracks, hits = np.empty(0, np.int64), np.empty(0, np.int64)
    # The pairs are counted first, and then written.
    for writing in range(2):
        if writing:
            tracks, hits = np.empty(count, np.int64), np.empty(count, np.int64)
            count = 0
        for n in range(len(reach)):
            x, y, z = centres[axis, n], centres[(axis + 1) % 3, n], centres[(axis + 2) % 3, n]
            low, high = 0, len(order)
            while low < high:
                middle = (low + high) // 2
                if places[middle, 0] < x - reach[n]:
                    low = middle + 1
                else:
                    high = middle
            while low < len(order) and places[low, 0] <= x + reach[n]:
                away_x, away_y, away_z = places[low, 0] - x, places[low, 1] - y, places[low, 2] - z
                if away_x * away_x + away_y * away_y + away_z * away_z <= reach[n] * reach[n]:
                    if writing:
                        tracks[count], hits[count] = n, order[low]
                    count += 1
                low += 1
    return tracks, hits


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
    made, open_pairs, ambiguity = _decide(tracks, hits, gains, *shape)
    rest = np.flatnonzero(open_pairs)
    if len(rest):
        first, second = assign(tracks[rest], hits[rest], -gains[rest], shape, 0.0)
        partner = np.full(shape[0], -1, np.int64)
        partner[first] = second
        made[rest[partner[tracks[rest]] == hits[rest]]] = True
    chosen = np.flatnonzero(made)
    return Association(tracks[chosen], hits[chosen], chosen, ambiguity[chosen])


@numba.njit(cache=True, nogil=True)
def _decide(tracks: Any, hits: Any, gains: Any, track_count: int, hit_count: int) -> Any:
    """Pairs that belong to the best assignment whatever the others are, pairs that are open, and all ambiguities.

    A pair is clear if its gain is above the best other gain of its track plus the best other gain of its
    localization: any assignment without the pair gains when these two are replaced by it.
    """
    count = len(gains)
    # The largest and the second largest gain, equal where two pairs share the largest.
    of_tracks, of_hits = np.zeros((2, track_count)), np.zeros((2, hit_count))
    odds, all_tracks, all_hits = np.zeros(count), np.zeros(track_count), np.zeros(hit_count)
    for p in range(count):
        if gains[p] > 0:
            _rank(of_tracks, tracks[p], gains[p])
            _rank(of_hits, hits[p], gains[p])
            odds[p] = np.exp(min(gains[p], 500.0))
            all_tracks[tracks[p]] += odds[p]
            all_hits[hits[p]] += odds[p]
    made, ambiguity = np.zeros(count, np.bool_), np.zeros(count)
    taken_tracks, taken_hits = np.zeros(track_count, np.bool_), np.zeros(hit_count, np.bool_)
    for p in range(count):
        t, h = tracks[p], hits[p]
        others = of_tracks[1 if gains[p] == of_tracks[0, t] else 0, t]
        others += of_hits[1 if gains[p] == of_hits[0, h] else 0, h]
        ambiguity[p] = 1 - odds[p] / (1 + all_tracks[t] + all_hits[h] - odds[p])
        if gains[p] > 0 and gains[p] > others:
            made[p] = taken_tracks[t] = taken_hits[h] = True
    open_pairs = np.zeros(count, np.bool_)
    for p in range(count):
        open_pairs[p] = gains[p] > 0 and not taken_tracks[tracks[p]] and not taken_hits[hits[p]]
    return made, open_pairs, ambiguity


@numba.njit(cache=True, nogil=True)
def _rank(best: Any, group: int, gain: float) -> None:
    """Keep the two largest gains (2, G) of a group."""
    if gain > best[0, group]:
        best[1, group], best[0, group] = best[0, group], gain
    elif gain > best[1, group]:
        best[1, group] = gain
