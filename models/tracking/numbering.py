"""Numbers of live tracks for tracks that were computed again.

Tracks are computed again from the localizations that a run has stored, which
are fewer than those that its tracker was given: candidates of tracks that were
not confirmed yet are missing. So tracks are confirmed in another order, and
their own numbers differ. A track gets the number of the first live track that
is a part of it, which is known from the places: both are estimates of the same
emitter in the same frame.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.metrics import match
from models.tables import Tracks

__all__ = ["LiveNumbers"]

I64 = NDArray[np.int64]

_GATE_SIGMAS = 6.0
"""Largest distance of two estimates of one emitter, in standard deviations of the live one."""


class LiveNumbers:
    """Gives tracks the numbers of live ones; a track without a live one gets a number that no live track has.

    Parameters
    ----------
    last : int
        Highest number of a live track.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._numbers: dict[int, int] = {}

    def rename(self, given: Tracks, ahead: Tracks, live: Tracks) -> Tracks:
        """Number the points that are given.

        Parameters
        ----------
        given : Tracks
            The next points, frame after frame.
        ahead : Tracks
            Points of the same tracks after these, by which tracks that begin in `given` are recognized.
        live : Tracks
            Live tracks in the frames of both.

        Returns
        -------
        Tracks
            `given` with other numbers; a track that was numbered before keeps its number.
        """
        own, rows = np.unique(given.track_id, return_inverse=True)
        unnamed = [number for number in own.tolist() if number not in self._numbers]
        if unnamed:
            pieces = self._pieces(Tracks.concatenate([given, ahead]), live.select(live.observed == 1))
            for number in unnamed:
                if number not in pieces:
                    self._last += 1
                self._numbers[number] = pieces.get(number, self._last)
        numbers = np.array([self._numbers[number] for number in own.tolist()], np.int64)
        return replace(given, track_id=numbers[rows])

    def _pieces(self, points: Tracks, live: Tracks) -> dict[int, int]:
        """For each track the first live track most of whose points are of it; live tracks that are in use are left."""
        used = set(self._numbers.values())
        first: dict[int, tuple[int, int]] = {}
        for number, (track, frame) in _majorities(points, live).items():
            if number not in used:
                first[track] = min(first.get(track, (frame, number)), (frame, number))
        return {track: number for track, (_, number) in first.items()}


def _majorities(points: Tracks, live: Tracks) -> dict[int, tuple[int, int]]:
    """For each live track the track that has more than half of its places, and the first frame of these."""
    if len(points) == 0 or len(live) == 0:
        return {}
    one, two = _pairs(points, live)
    if len(one) == 0:
        return {}
    pairs = np.stack([live.track_id[two], points.track_id[one]])
    (numbers, tracks), places, votes = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    frames = np.full(len(votes), np.iinfo(np.int64).max)
    np.minimum.at(frames, places.ravel(), live.frame[two])
    lengths = dict(zip(*(each.tolist() for each in np.unique(live.track_id, return_counts=True)), strict=True))
    rows = zip(numbers.tolist(), tracks.tolist(), votes.tolist(), frames.tolist(), strict=True)
    return {number: (track, frame) for number, track, count, frame in rows if count > lengths[number] / 2}


def _pairs(points: Tracks, live: Tracks) -> tuple[I64, I64]:
    """Rows of both that are in the same frame at the same place."""
    scale = np.array([np.median(getattr(live, f"sigma_{axis}_um")) for axis in "xyz"])
    places, live_places = (np.column_stack([each.x_um, each.y_um, each.z_um]) / scale for each in (points, live))
    order, live_order = np.argsort(points.frame, kind="stable"), np.argsort(live.frame, kind="stable")
    frames = np.intersect1d(points.frame, live.frame)
    begins, ends = (np.searchsorted(points.frame[order], frames, side) for side in ("left", "right"))
    live_begins, live_ends = (np.searchsorted(live.frame[live_order], frames, side) for side in ("left", "right"))
    one, two = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for begin, end, live_begin, live_end in zip(begins, ends, live_begins, live_ends, strict=True):
        rows, live_rows = order[begin:end], live_order[live_begin:live_end]
        mine, theirs = match(places[rows], live_places[live_rows], _GATE_SIGMAS)
        one.append(rows[mine])
        two.append(live_rows[theirs])
    return np.concatenate(one), np.concatenate(two)
