"""Tracks: births, gates, coasting, ends, and what must hold for any localizations whatever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.tables import Localizations, Tracks
from models.tracking import Tracker, TrackerSettings, TrackState


def _found(xyz_um: Any, frame: int = 0, sigma_um: float = 0.3, probability: float = 1.0) -> Localizations:
    xyz = np.asarray(xyz_um, np.float64).reshape(-1, 3)
    columns: dict[str, Any] = {name: np.ones(len(xyz)) for name in Localizations.names()}
    columns |= {"frame": np.full(len(xyz), frame), "x_um": xyz[:, 0], "y_um": xyz[:, 1], "z_um": xyz[:, 2]}
    columns |= {f"sigma_{axis}_um": np.full(len(xyz), sigma_um) for axis in "xyz"}
    columns["probability"] = np.full(len(xyz), probability)
    return Localizations.from_columns(columns)


def _run(tracker: Tracker, frames: list[Any], first: int = 0, fps: float = 100.0) -> list[TrackState]:
    return [tracker.step(n / fps, n, _found(xyz, n)) for n, xyz in enumerate(frames, start=first)]


STILL = [[10.0, 20.0, 30.0]]


def test_a_track_is_confirmed_when_it_was_seen_again() -> None:
    states = _run(Tracker(), [STILL, STILL, STILL])
    assert [state.track_id.tolist() for state in states] == [[], [1], [1]]
    assert states[2].age.tolist() == [2]
    assert states[1].probability[0] > 0.95


def test_improbable_localizations_need_more_of_them() -> None:
    tracker = Tracker()
    shown = [len(tracker.step(n / 100, n, _found(STILL, n, probability=0.1))) for n in range(6)]
    # Others nearby are certain, so this one is one of few that could be false.
    assert shown[0] == 0
    assert shown[-1] == 1


def test_below_the_least_probability_nothing_is_taken() -> None:
    tracker = Tracker(TrackerSettings(least_probability=0.3))
    states = [tracker.step(n / 100, n, _found(STILL, n, probability=0.2)) for n in range(10)]
    assert sum(len(state) for state in states) == 0
    assert tracker.idle


def test_a_track_knows_its_localization() -> None:
    tracker = Tracker(TrackerSettings(least_probability=0.3))
    for n in range(5):
        found = _found([[99.0, 99.0, 99.0], *STILL], n)
        found.probability[0] = 0.1
        state = tracker.step(n / 100, n, found)
    assert state.localization.tolist() == [1]
    assert tracker.step(0.05, 5, _found([])).localization.tolist() == [-1]


def test_coasting_then_end_and_numbers_are_not_used_again() -> None:
    tracker = Tracker(TrackerSettings(coast_frames=3))
    _run(tracker, [STILL] * 12)
    coasting = _run(tracker, [[]] * 4, first=12)
    assert [state.observed.tolist() for state in coasting[:2]] == [[False], [False]]
    sigma = [float(state.sigma_x_um[0]) for state in coasting[:2]]
    probability = [float(state.probability[0]) for state in coasting[:2]]
    assert sigma == sorted(sigma)
    assert probability == sorted(probability, reverse=True)
    assert [state.ended.tolist() for state in coasting] == [[], [], [], [1]]
    assert tracker.idle
    assert _run(tracker, [STILL] * 3, first=16)[-1].track_id.tolist() == [2]


def test_a_track_that_is_not_seen_is_left_out_before_it_ends() -> None:
    tracker = Tracker()
    _run(tracker, [STILL] * 30)
    states = _run(tracker, [[]] * 40, first=30)
    shown = [len(state) for state in states]
    assert shown[0] == 1
    assert shown[-1] == 0
    ended = next(number for number, state in enumerate(states) if len(state.ended))
    assert shown.index(0) < ended


def test_a_coasting_track_is_found_again() -> None:
    tracker = Tracker()
    moving = [[[10 + 0.5 * n, 20, 30]] for n in range(40)]
    for n in range(25, 33):
        moving[n] = []
    states = _run(tracker, moving)
    assert states[-1].track_id.tolist() == [1]
    assert states[-1].vx_um_s[0] == pytest.approx(50, abs=5)
    assert not states[30].observed[0]


def test_frames_that_were_not_analysed_are_no_misses() -> None:
    tracker = Tracker(TrackerSettings(coast_frames=3))
    for n in range(0, 12, 4):
        state = tracker.step(n / 100, n, _found(STILL))
    assert state.track_id.tolist() == [1]
    assert state.probability[0] > 0.99
    # Numbers of frames count for the end of a track, though.
    state = tracker.step(0.50, 50, _found(STILL))
    assert state.ended.tolist() == [1]


def test_a_far_localization_does_not_continue_a_track() -> None:
    tracker = Tracker()
    _run(tracker, [STILL] * 10)
    state = _run(tracker, [[[10.0, 28.0, 30.0]]], first=10)[0]
    assert not state.observed[0]
    assert state.y_um[0] == pytest.approx(20)


def test_two_close_tracks_keep_their_own() -> None:
    # Greedy pairing would give the first track the localization between both and leave the second alone.
    tracker = Tracker()
    _run(tracker, [[[0.0, 0, 50], [2.0, 0, 50]]] * 10)
    state = _run(tracker, [[[1.0, 0, 50], [3.0, 0, 50]]], first=10)[0]
    assert state.observed.all()
    assert state.x_um[0] < state.x_um[1]


def test_a_probable_track_keeps_its_localization_against_a_new_one() -> None:
    tracker = Tracker()
    _run(tracker, [STILL] * 10)
    beside, between = [11.0, 20.0, 30.0], [10.3, 20.0, 30.0]
    states = _run(tracker, [[*STILL, beside], [between]], first=10)
    assert states[-1].observed.tolist() == [True]


def test_an_ambiguous_decision_is_stated() -> None:
    tracker = Tracker()
    clear = _run(tracker, [STILL] * 20)[-1]
    twins = _run(tracker, [[[9.7, 20.0, 30.0], [10.3, 20.0, 30.0]]], first=20)[-1]
    assert clear.ambiguity[0] < 0.01
    assert twins.ambiguity[0] > 0.2


def test_crossing_tracks_keep_their_numbers() -> None:
    n = np.arange(100)[:, None]
    first = np.hstack([0.4 * n, 0 * n, 50 + 0 * n])
    second = np.hstack([40 - 0.4 * n, 1.5 + 0 * n, 50 + 0 * n])
    states = _run(Tracker(), list(np.stack([first, second], axis=1)))
    assert states[-1].track_id.tolist() == [1, 2]
    assert states[-1].x_um[0] > 39
    assert states[-1].x_um[1] < 1


def test_near_focus_is_flagged_and_never_reflected() -> None:
    """A particle falls through focus; its pattern beyond looks like one above, so its depth is found as |z|."""
    depth = 15 - 1.0 * np.arange(40)
    states = _run(Tracker(), [[[0.0, 0.0, abs(z)]] for z in depth])
    for state in states:
        np.testing.assert_array_equal(state.near_focus, np.abs(state.z_um) < 3)
    falling = [state for state in states if 1 in state.track_id]
    assert falling[-1].frame <= 15 + 3 + 10
    assert all(state.vz_um_s[0] < -50 for state in falling[3:])
    assert falling[-1].z_um[0] < 0
    assert states[-1].track_id.tolist() == [2]
    # With both sides in the calibration the same particle is one track.
    whole = _run(Tracker(), [[[0.0, 0.0, z]] for z in depth])
    assert whole[-1].track_id.tolist() == [1]


def test_snapshots_do_not_change() -> None:
    tracker = Tracker()
    state = _run(tracker, [STILL] * 4)[-1]
    before = state.x_um.copy()
    _run(tracker, [[[10.5, 20, 30]]] * 3, first=4)
    np.testing.assert_array_equal(state.x_um, before)
    with pytest.raises(ValueError, match="read-only"):
        state.x_um[0] = 0
    with pytest.raises(AttributeError):
        state.frame = 3  # type: ignore[misc]


def test_rows_for_the_store() -> None:
    rows = _run(Tracker(), [STILL] * 4)[-1].rows()
    assert isinstance(rows, Tracks)
    assert (rows.track_id.tolist(), rows.frame.tolist(), rows.observed.tolist()) == ([1], [3], [1])
    assert rows.t_s.tolist() == [0.03]
    assert rows.z_um[0] == pytest.approx(30)


def test_sigmas_rule_the_weight() -> None:
    precise, vague = Tracker(), Tracker()
    for tracker, sigma in ((precise, 0.2), (vague, 3.0)):
        for n in range(30):
            tracker.step(n / 100, n, _found(STILL, sigma_um=0.5))
        state = tracker.step(0.3, 30, _found([[10.5, 20.0, 30.0]], sigma_um=sigma))
        assert state.observed[0]
        if sigma == 0.2:
            moved = state.x_um[0]
    assert 10 < state.x_um[0] < moved < 10.5


def test_order_of_time_is_enforced() -> None:
    tracker = Tracker()
    tracker.step(1.0, 5, _found(STILL))
    for t_s, frame in ((1.0, 6), (0.9, 6), (1.1, 5), (1.1, 4)):
        with pytest.raises(DataError, match=r"came after frame 5 at 1\.0 s; both must increase"):
            tracker.step(t_s, frame, _found(STILL))
    with pytest.raises(DataError, match="it must be finite"):
        tracker.step(np.nan, 6, _found(STILL))
    tracker.step(1.1, 6, _found(STILL))


@pytest.mark.parametrize(("column", "name"), [("z_um", "position"), ("sigma_z_um", "sigma")])
def test_values_that_are_no_numbers(column: str, name: str) -> None:
    columns = _found([[1, 2, 3], [4, 5, 6]], frame=7).columns()
    columns[column][1] = np.nan
    with pytest.raises(DataError, match=f"Localization 1 of frame 7 has the {name}"):
        Tracker().step(0.0, 7, Localizations.from_columns(columns))


_frames = st.lists(
    st.tuples(
        st.integers(1, 40) | st.sampled_from([1, 1, 1, 10_000_000]),
        st.lists(st.tuples(*[st.integers(-20, 120)] * 3), max_size=6),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(_frames, st.integers(0, 4))
def test_laws_for_any_localizations(frames: list[tuple[int, list[tuple[int, int, int]]]], coast_frames: int) -> None:
    tracker = Tracker(TrackerSettings(coast_frames=coast_frames))
    frame = 0
    gone: set[int] = set()
    ever: set[int] = set()
    last_seen: dict[int, int] = {}
    for gap, xyz in frames:
        frame += gap
        state = tracker.step(frame / 100, frame, _found(xyz, frame))
        now = set(state.track_id.tolist())
        assert len(now) == len(state) == len(state.rows())
        assert (np.diff(state.track_id) > 0).all()
        gone |= set(state.ended.tolist())
        assert not now & gone
        assert set(state.ended.tolist()) <= ever
        assert state.observed.sum() <= len(xyz)
        for name in ("x_um", "vz_um_s", "sigma_x_um", "sigma_z_um"):
            assert np.isfinite(getattr(state, name)).all()
        assert (state.sigma_z_um > 0).all()
        for track, observed in zip(state.track_id.tolist(), state.observed, strict=True):
            if observed:
                last_seen[track] = frame
            assert frame - last_seen[track] <= coast_frames
        ever |= now
    assert gone <= ever == set(range(1, len(ever) + 1))


def test_ending_all_tracks_reports_them_and_counts_on() -> None:
    tracker = Tracker()
    here = np.array([[10.0, 10.0, 30.0], [60.0, 60.0, 40.0]])
    for frame in range(5):
        before = tracker.step(0.01 * frame, frame, _found(here, frame))
    assert len(before) == 2
    tracker.end_all()
    after = tracker.step(0.05, 5, _found(here, 5))
    assert set(after.ended) == set(before.track_id)
    for frame in range(6, 10):
        after = tracker.step(0.01 * frame, frame, _found(here, frame))
    assert len(after) == 2
    assert not set(after.track_id) & set(before.track_id)
