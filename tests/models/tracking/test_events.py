"""Merges and splits from hand-made states of tracks, one row per track and frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from models.tables import TrackEvents, Tracks
from models.tracking import TrackerSettings, TrackState
from models.tracking.events import EventObserver, TableObserver

Place = tuple[float, float, float]

FAR = {number: (20.0 * number, 150.0, 40.0) for number in range(5, 10)}
"""Tracks that make the volume large, so that two of the others are not together by chance."""


def _state(
    frame: int,
    places: Mapping[int, Place],
    ages: Mapping[int, int] | None = None,
    unseen: Sequence[int] = (),
    ended: Sequence[int] = (),
) -> TrackState:
    places = dict(sorted((dict(places) | FAR).items()))
    ids = np.array(list(places), np.int64)
    xyz = np.array(list(places.values())).T
    none = np.zeros(len(ids))
    return TrackState(
        frame / 100,
        frame,
        ids,
        *xyz,
        *(none.copy() for _ in range(3)),
        *(none + 0.2 for _ in range(3)),
        age=np.array([(ages or {}).get(number, 50 + frame) for number in ids.tolist()]),
        observed=~np.isin(ids, unseen),
        near_focus=none > 0,
        probability=none + 1,
        localization=none.astype(np.int64),
        ambiguity=none.copy(),
        ended=np.array(ended, np.int64),
    )


def _observe(states: Sequence[TrackState]) -> TrackEvents:
    observer = EventObserver()
    return TrackEvents.concatenate(observer.step(state) for state in states)


def _meeting(*, last: Place = (31.5, 30.0, 20.0), frames: int = 80) -> list[TrackState]:
    """Track 1 stays; track 2 is at `last` in frame 9, unseen from frame 10 on, and ends in frame 14."""
    states = [_state(frame, {1: (30.0, 30.0, 20.0), 2: last}) for frame in range(10)]
    states += [_state(frame, {1: (30.0, 30.0, 20.0), 2: last}, unseen=[2]) for frame in range(10, 14)]
    states.append(_state(14, {1: (30.0, 30.0, 20.0)}, ended=[2]))
    return states + [_state(frame, {1: (30.0, 30.0, 20.0)}) for frame in range(15, frames)]


def _division(*, second: Place = (32.0, 30.0, 20.0), age: int = 2, frames: int = 40) -> list[TrackState]:
    """Track 1 stays; track 2 is confirmed in frame 12, `age` frames after its first localization."""
    states = [_state(frame, {1: (30.0, 30.0, 20.0)}) for frame in range(12)]
    later = range(12, frames)
    return states + [_state(n, {1: (30.0, 30.0, 20.0), 2: second}, ages={2: n - 12 + age}) for n in later]


def test_a_track_that_ends_beside_another_one_has_merged_with_it() -> None:
    events = _observe(_meeting())
    assert events.kind.tolist() == ["merge"]
    assert (events.track_id[0], events.other_id[0], events.frame[0]) == (2, 1, 10)
    assert events.t_s[0] == pytest.approx(0.1)
    assert (events.x_um[0], events.y_um[0], events.z_um[0]) == (30.0, 30.0, 20.0)
    assert events.distance_um[0] == pytest.approx(1.5)
    # Both sigmas are 0.2 µm.
    assert events.distance_sigma[0] == pytest.approx(1.5 / np.hypot(0.2, 0.2))
    limits = np.array([2.0, 2.0, 6.0]) + 3 * np.hypot(0.2, 0.2)
    nearer = 4 / 3 * np.pi * limits.prod() * (1.5 / limits[0]) ** 3
    assert events.chance[0] == pytest.approx(1 - np.exp(-7 * nearer / (150.0 * 120.0 * 20.0)))


def test_a_track_that_ends_elsewhere_has_vanished() -> None:
    # 2 µm of resolution and three times the sigma of both, 0.28 µm.
    limit = 2.0 + 3 * np.hypot(0.2, 0.2)
    assert len(_observe(_meeting(last=(30.0 + 0.98 * limit, 30.0, 20.0)))) == 1
    assert len(_observe(_meeting(last=(30.0 + 1.02 * limit, 30.0, 20.0)))) == 0
    assert len(_observe(_meeting(last=(30.0, 30.0, 25.0)))) == 1  # within the axial resolution


def test_a_track_that_is_seen_again_has_not_merged() -> None:
    states = [*_meeting()[:14], *(_state(n, {1: (30.0, 30.0, 20.0), 2: (31.5, 30.0, 20.0)}) for n in range(14, 20))]
    states += [_state(frame, {1: (30.0, 30.0, 20.0), 2: (60.0, 60.0, 20.0)}) for frame in range(20, 30)]
    states += [_state(30, {1: (30.0, 30.0, 20.0)}, ended=[2])]
    assert len(_observe(states + [_state(frame, {1: (30.0, 30.0, 20.0)}) for frame in range(31, 120)])) == 0


def test_a_merge_is_with_a_track_that_goes_on() -> None:
    states = _meeting(frames=16)
    ending = [_state(16, {}, ended=[1])] + [_state(frame, {}) for frame in range(17, 90)]
    assert len(_observe(states + ending)) == 0


def test_a_new_track_beside_one_that_goes_on_has_split_from_it() -> None:
    events = _observe(_division())
    assert events.kind.tolist() == ["split"]
    # The frame before the first localization: until then both were one.
    assert (events.track_id[0], events.other_id[0], events.frame[0]) == (2, 1, 9)
    assert events.distance_um[0] == pytest.approx(2.0)


def test_two_new_tracks_in_one_place_have_not_split() -> None:
    states = [_state(frame, {}) for frame in range(10)]
    states += [_state(10, {1: (30.0, 30.0, 20.0)}, ages={1: 1})]
    both = {1: (30.0, 30.0, 20.0), 2: (32.0, 30.0, 20.0)}
    states += [_state(frame, both, ages={1: frame - 9, 2: frame - 11}) for frame in range(12, 40)]
    assert len(_observe(states)) == 0


def test_a_new_track_elsewhere_is_no_split() -> None:
    assert len(_observe(_division(second=(36.0, 30.0, 20.0)))) == 0


def test_a_new_track_that_is_seen_a_few_times_only_is_no_split() -> None:
    states = _division(frames=15)
    assert len(_observe([*states, _state(15, {1: (30.0, 30.0, 20.0)}, ended=[2])])) == 0


def test_a_new_track_that_takes_the_place_of_a_lost_one_is_no_split() -> None:
    states = [_state(frame, {1: (30.0, 30.0, 20.0)}) for frame in range(10)]
    both = {1: (30.0, 30.0, 20.0), 2: (31.0, 30.0, 20.0)}
    states += [_state(frame, both, ages={2: frame - 9}, unseen=[1]) for frame in range(12, 16)]
    states.append(_state(16, {2: (31.0, 30.0, 20.0)}, ages={2: 7}, ended=[1]))
    states += [_state(frame, {2: (31.0, 30.0, 20.0)}, ages={2: frame - 9}) for frame in range(17, 90)]
    assert len(_observe(states)) == 0


def test_two_that_cross_neither_merge_nor_split() -> None:
    states = _meeting(frames=30)
    again = [_state(n, {1: (30.0, 30.0, 20.0), 3: (31.0, 30.0, 20.0)}, ages={3: n - 28}) for n in range(30, 120)]
    assert len(_observe(states + again)) == 0
    # Long after the merge it is a split.
    states = _meeting(frames=130)
    again = [_state(n, {1: (30.0, 30.0, 20.0), 3: (31.0, 30.0, 20.0)}, ages={3: n - 128}) for n in range(130, 150)]
    assert _observe(states + again).kind.tolist() == ["merge", "split"]


def test_in_a_crowd_an_end_beside_another_track_is_chance() -> None:
    random = np.random.default_rng(1)
    crowd = {number: tuple(random.uniform((0, 130, 20), (200, 170, 60))) for number in range(10, 3000)}
    observer = EventObserver()
    for state in _meeting():
        places = {n: (state.x_um[i], state.y_um[i], state.z_um[i]) for i, n in enumerate(state.track_id.tolist())}
        unseen = state.track_id[~state.observed].tolist()
        assert len(observer.step(_state(state.frame, crowd | places, unseen=unseen, ended=state.ended.tolist()))) == 0


def test_the_resolution_is_a_setting() -> None:
    observer = EventObserver(TrackerSettings(resolution_um=0.1))
    assert sum(len(observer.step(state)) for state in _meeting()) == 0


def test_a_table_has_the_events_of_its_states_however_it_is_divided() -> None:
    states = [*_meeting(frames=90)]
    rows = [state.rows() for state in states]
    table = Tracks.concatenate(row.select(row.observed == 1) for row in rows)
    whole, parts = TableObserver(EventObserver()), TableObserver(EventObserver())
    expected = TrackEvents.concatenate([whole.add(table), whole.finish()])
    halves = [parts.add(table.select(table.frame < 33)), parts.add(table.select(table.frame >= 33)), parts.finish()]
    assert expected.kind.tolist() == ["merge"]
    assert (expected.track_id[0], expected.other_id[0], expected.frame[0]) == (2, 1, 10)
    for name, column in TrackEvents.concatenate(halves).columns().items():
        np.testing.assert_array_equal(column, getattr(expected, name))
