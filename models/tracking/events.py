"""Merge and split: what happens between two tracks, observed frame after frame, live and from tables alike.

*Merge*: a track is seen, and from the next frame on it is not, while another
track at the same place goes on being seen; then it ends. *Split*: a new track
begins at the place of an older one, and both go on being seen.

The same place: the distance is within three standard deviations of both
positions, or within the optical resolution, below which two emitters are one
localization. Both are limits along each axis, and are added in squares. The
position of the track that ends is carried to the frame in which it is first
missing; the one of a new track is carried back to the frame of its first
localization, because a track is confirmed some frames later.

Two emitters that cross are one localization for a while, in which one of the
tracks may end. A track that splits soon from one that another track has just
merged with is such a crossing, and neither is reported. So a merge is reported
some frames later than it happened.

Not every pair in one place is an event: tracks end and begin anywhere. For
each pair the chance is computed that a place, drawn anywhere in the volume of
the tracks, is this near to one of them. Where emitters are so dense that this
is probable, nothing is reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.tables import TrackEvents, Tracks
from models.tracking.association import pairs_near
from models.tracking.settings import TrackerSettings
from models.tracking.state import NEAR_FOCUS_UM, TrackState

__all__ = ["EventObserver", "TableObserver"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_SIGMAS = 3.0
_MOST_CHANCE = 0.05
_SEEN_AFTER = 4
"""Frames in which the tracks that go on must be seen after the event."""

_CROSSING_FRAMES = 50
"""A track that splits within this time from one that another track has merged with is that other one."""

_LEAST_AGE = 5
"""Frames since the first localization of a track that another one merges with or splits from: it is no new one."""

_REMEMBERED = 30
"""Frames within which a new track is confirmed. The position of the others at its first localization is needed."""

_LONGEST_GAP_FRAMES = 200
"""A track of a table that has no point for longer has ended: longer gaps are not closed by `relinking`."""

_SHARED = tuple(name for name in Tracks.names() if name not in ("frame", "t_s", "observed"))

_SMALLEST_BOX_UM = np.array([50.0, 50.0, 20.0])


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Possible events.

    Attributes
    ----------
    events : TrackEvents
    seen : int64, shape (2, N)
        In how many later frames `track_id` and `other_id` were seen.
    ended : bool, shape (N,)
        Whether `track_id` has ended.
    """

    events: TrackEvents
    seen: I64
    ended: NDArray[np.bool_]

    @classmethod
    def new(cls, events: TrackEvents, ended: I64) -> _Candidates:
        """Events that have just happened; `ended` are the numbers of tracks that end with this frame."""
        return cls(events, np.zeros((2, len(events)), np.int64), _among(events.track_id, ended))

    def select(self, rows: NDArray[np.bool_]) -> _Candidates:
        """The candidates of a mask."""
        return _Candidates(self.events.select(rows), self.seen[:, rows], self.ended[rows])

    def append(self, others: _Candidates) -> _Candidates:
        """These candidates and others."""
        return _Candidates(
            TrackEvents.concatenate([self.events, others.events]),
            np.concatenate([self.seen, others.seen], axis=1),
            np.concatenate([self.ended, others.ended]),
        )

    def __len__(self) -> int:
        return len(self.events)


class EventObserver:
    """Finds merges and splits in the states of a tracker.

    Parameters
    ----------
    settings : TrackerSettings, optional
        Lateral and axial resolution are used.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        settings = settings or TrackerSettings()
        self._resolution_um = np.array([settings.resolution_um] * 2 + [settings.axial_resolution_um])
        self._past: deque[TrackState] = deque(maxlen=_REMEMBERED)
        self._known = np.zeros(0, np.int64)
        self._candidates = _Candidates.new(TrackEvents.empty(), np.zeros(0, np.int64))
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def step(self, state: TrackState) -> TrackEvents:
        """Take the tracks after the next frame.

        Returns
        -------
        TrackEvents
            The events that are certain with this frame; each happened some frames before.
        """
        if len(state):
            places = _positions(state)
            self._low = np.minimum(self._low, places.min(axis=1))
            self._high = np.maximum(self._high, places.max(axis=1))
        certain = self._follow(state) if len(self._candidates) else TrackEvents.empty()
        self._lose(state)
        self._past.append(state)
        self._begin(state)
        return certain

    def _follow(self, state: TrackState) -> TrackEvents:
        """Take what the tracks of the candidates did in this frame; return the events that are certain now."""
        events, before = self._candidates.events, self._candidates
        merge = events.kind == "merge"
        one, other = (_seen(state, ids) for ids in (events.track_id, events.other_id))
        seen = before.seen + np.stack([one, other])
        one_ended, other_ended = (_among(ids, state.ended) for ids in (events.track_id, events.other_id))
        ended = before.ended | one_ended
        over = other_ended | np.where(merge, one, one_ended)
        stays = ended & (state.frame - events.frame >= _CROSSING_FRAMES)
        certain = ~over & (seen[1] >= _SEEN_AFTER) & np.where(merge, stays, seen[0] >= _SEEN_AFTER)
        self._candidates = _Candidates(events, seen, ended).select(~over & ~certain)
        return events.select(certain)

    def _lose(self, state: TrackState) -> None:
        """Note merges: tracks that were seen in the frame before and are not seen now, beside one that is."""
        if not self._past:
            return
        before = self._past[-1]
        lost = np.flatnonzero(before.observed & ~_seen(state, before.track_id))
        others = np.flatnonzero((state.age >= _LEAST_AGE) & _among(state.track_id, before.track_id))
        self._note("merge", before, lost, state, others, state.t_s - before.t_s)

    def _begin(self, state: TrackState) -> None:
        """Note splits: tracks that are new, beside one that was seen in the frame of their first localization."""
        if len(state.ended):
            self._known = self._known[~_among(self._known, state.ended)]
        if len(self._past) > 1 and np.array_equal(state.track_id, self._past[-2].track_id):
            return
        new = np.flatnonzero(~_among(state.track_id, self._known))
        self._known = np.union1d(self._known, state.track_id)
        for age in np.unique(state.age[new]).tolist():
            # The frame before: until then the two were one localization, between the places where they are now.
            then = next((past for past in reversed(self._past) if past.frame < state.frame - age), None)
            if then is not None:
                others = np.flatnonzero(then.age >= _LEAST_AGE)
                self._note("split", state, new[state.age[new] == age], then, others, then.t_s - state.t_s)

    def _note(
        self, kind: Literal["merge", "split"], of: TrackState, rows: I64, at: TrackState, others: I64, step_s: float
    ) -> None:
        """Note as candidates the tracks `rows` of one state that are beside one of `others` in another one.

        Their positions are carried by `step_s` to the time of the latter.
        """
        if not (len(rows) and len(others)):
            return
        places = (_positions(of) + step_s * np.stack([of.vx_um_s, of.vy_um_s, of.vz_um_s]))[:, rows]
        variances, their_variances = _sigmas(of)[:, rows] ** 2, _sigmas(at)[:, others] ** 2
        theirs = _positions(at)[:, others]
        largest = variances.max(axis=0) + their_variances.max()
        reach = _SIGMAS * np.sqrt(largest) + self._resolution_um.max()
        one, other = pairs_near(places, reach, theirs)
        apart = of.track_id[rows[one]] != at.track_id[others[other]]
        one, other = one[apart], other[apart]
        if not len(one):
            return
        away = theirs[:, other] - places[:, one]
        variance = variances[:, one] + their_variances[:, other]
        limit = _SIGMAS * np.sqrt(variance) + self._resolution_um[:, None]
        share = np.sqrt(((away / limit) ** 2).sum(axis=0))
        box = float(np.prod(np.maximum(self._high - self._low, _SMALLEST_BOX_UM)))
        near = 4 / 3 * np.pi * limit.prod(axis=0) * share**3
        chance = -np.expm1(-len(at) * near / box)
        # Of several others, the nearest one.
        order = np.lexsort((share, one))
        order = order[np.diff(one[order], prepend=-1) != 0]
        order = order[(share[order] <= 1) & (chance[order] <= _MOST_CHANCE)]
        one, other = one[order], other[order]
        count = len(order)
        found = TrackEvents(
            np.full(count, kind),
            np.full(count, at.frame),
            np.full(count, at.t_s),
            of.track_id[rows[one]],
            at.track_id[others[other]],
            theirs[0, other],
            theirs[1, other],
            theirs[2, other],
            np.sqrt((away[:, order] ** 2).sum(axis=0)),
            np.sqrt((away[:, order] ** 2 / variance[:, order]).sum(axis=0)),
            chance[order],
        )
        if count and kind == "split":
            found = self._without_crossings(found)
        if len(found):
            self._candidates = self._candidates.append(_Candidates.new(found, at.ended))

    def _without_crossings(self, splits: TrackEvents) -> TrackEvents:
        """The splits from tracks that no other one has just merged with; those merges are dropped too."""
        events = self._candidates.events
        merged = events.kind == "merge"
        crossed = np.isin(splits.other_id, events.other_id[merged])
        self._candidates = self._candidates.select(~(merged & np.isin(events.other_id, splits.other_id[crossed])))
        return splits.select(~crossed)


class TableObserver:
    """Finds merges and splits in a table of tracks, given in parts.

    Parameters
    ----------
    observer : EventObserver
    """

    def __init__(self, observer: EventObserver) -> None:
        self._observer = observer
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def add(self, points: Tracks) -> TrackEvents:
        """Take the points of the next frames, in the order of the frames; all points of a frame at once."""
        return TrackEvents.concatenate(self._observer.step(state) for state in self._states(points))

    def finish(self) -> TrackEvents:
        """The events that are certain when no more points come: all tracks without a point in the last frame ended."""
        newest = max(self._last.values(), default=0)
        found = []
        for frame in sorted(set(self._last.values()) - {newest}):
            ended = [number for number, last in self._last.items() if last == frame]
            found.append(self._observer.step(_state(Tracks.empty(), newest + _CROSSING_FRAMES, self._first, ended)))
        return TrackEvents.concatenate(found)

    def _states(self, points: Tracks) -> Iterator[TrackState]:
        if not len(points):
            return
        frames, starts = np.unique(points.frame, return_index=True)
        ends = np.append(starts, len(points))[1:]
        for frame, start, end in zip(frames.tolist(), starts.tolist(), ends.tolist(), strict=True):
            part = points.select(slice(start, end))
            part = part.select(np.argsort(part.track_id))
            ids = part.track_id.tolist()
            self._first = dict.fromkeys(ids, frame) | self._first
            self._last |= dict.fromkeys(ids, frame)
            ended = [number for number, last in self._last.items() if frame - last > _LONGEST_GAP_FRAMES]
            for number in ended:
                del self._last[number], self._first[number]
            yield _state(part, frame, self._first, ended)


def _state(points: Tracks, frame: int, first: Mapping[int, int], ended: Sequence[int]) -> TrackState:
    """The tracks of one frame of a table, by rising number; `first` are the first frames of the tracks."""
    return TrackState(
        float(points.t_s[0]) if len(points) else np.nan,
        frame,
        **{name: getattr(points, name) for name in _SHARED},
        age=frame - np.array([first[number] for number in points.track_id.tolist()], np.int64),
        observed=points.observed == 1,
        near_focus=np.abs(points.z_um) < NEAR_FOCUS_UM,
        localization=np.full(len(points), -1, np.int64),
        ambiguity=np.zeros(len(points)),
        ended=np.array(sorted(ended), np.int64),
    )


def _positions(state: TrackState) -> F64:
    return np.stack([state.x_um, state.y_um, state.z_um])


def _sigmas(state: TrackState) -> F64:
    return np.stack([state.sigma_x_um, state.sigma_y_um, state.sigma_z_um])


def _seen(state: TrackState, track_ids: I64) -> NDArray[np.bool_]:
    """Which of these tracks were seen in the frame of a state."""
    return _among(track_ids, state.track_id[state.observed])


def _among(numbers: I64, ordered: I64) -> NDArray[np.bool_]:
    """Which numbers are among rising ones; faster than `numpy.isin` for as few as a frame has."""
    if not len(ordered):
        return np.zeros(len(numbers), bool)
    found: NDArray[np.bool_] = ordered[np.searchsorted(ordered[:-1], numbers)] == numbers
    return found
