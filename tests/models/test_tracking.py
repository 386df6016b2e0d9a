"""Tracks: births, gates, coasting, ends, and what must hold for any localizations whatever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import DataError
from models.tables import Localizations, Tracks
from models.tracking import Tracker, TrackerSettings, TrackState, track_table


def _found(xyz_um: Any, frame: int = 0, sigma_um: float = 0.3) -> Localizations:
    xyz = np.asarray(xyz_um, np.float64).reshape(-1, 3)
    columns: dict[str, Any] = {name: np.ones(len(xyz)) for name in Localizations.names()}
    columns |= {"frame": np.full(len(xyz), frame), "x_um": xyz[:, 0], "y_um": xyz[:, 1], "z_um": xyz[:, 2]}
    columns |= {f"sigma_{axis}_um": np.full(len(xyz), sigma_um) for axis in "xyz"}
    return Localizations.from_columns(columns)


def _run(tracker: Tracker, frames: list[Any], first: int = 0, fps: float = 100.0) -> list[TrackState]:
    return [tracker.step(n / fps, n, _found(xyz, n)) for n, xyz in enumerate(frames, start=first)]


STILL = [[10.0, 20.0, 30.0]]


def test_three_of_four_confirm() -> None:
    states = _run(Tracker(), [STILL, STILL, STILL])
    assert [state.track_id.tolist() for state in states] == [[], [], [1]]
    assert states[2].age.tolist() == [2]
    states = _run(Tracker(), [STILL, [], STILL, STILL])
    assert [len(state) for state in states] == [0, 0, 0, 1]
    states = _run(Tracker(), [STILL, [], [], STILL, STILL])
    assert [len(state) for state in states] == [0] * 5


def test_one_hit_is_enough_when_told_so() -> None:
    states = _run(Tracker(TrackerSettings(confirm_hits=1, confirm_steps=1)), [STILL])
    assert states[0].track_id.tolist() == [1]


def test_coasting_then_end_and_numbers_are_not_used_again() -> None:
    tracker = Tracker(TrackerSettings(coast_frames=3))
    _run(tracker, [STILL] * 5)
    coasting = _run(tracker, [[]] * 4, first=5)
    assert [state.observed.tolist() for state in coasting] == [[False], [False], [False], []]
    sigma = [float(state.sigma_x_um[0]) for state in coasting[:3]]
    assert sigma == sorted(sigma)
    assert coasting[3].ended.tolist() == [1]
    assert tracker.idle
    assert _run(tracker, [STILL] * 3, first=9)[-1].track_id.tolist() == [2]


def test_a_coasting_track_is_found_again() -> None:
    tracker = Tracker()
    moving = [[[10 + 0.5 * n, 20, 30]] for n in range(40)]
    for n in range(25, 33):
        moving[n] = []
    states = _run(tracker, moving)
    assert states[-1].track_id.tolist() == [1]
    assert states[-1].vx_um_s[0] == pytest.approx(50, abs=5)
    assert not states[30].observed[0]


def test_frames_that_were_not_analysed_count_for_coasting_only() -> None:
    tracker = Tracker(TrackerSettings(coast_frames=3))
    for n in range(0, 12, 4):
        state = tracker.step(n / 100, n, _found(STILL))
    assert state.track_id.tolist() == [1]
    state = tracker.step(0.11, 11, _found([]))
    assert state.track_id.tolist() == [1]
    state = tracker.step(0.50, 50, _found(STILL))
    assert (state.track_id.tolist(), state.ended.tolist()) == ([], [1])


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


def test_confirmed_tracks_choose_first() -> None:
    tracker = Tracker()
    _run(tracker, [STILL] * 10)
    beside = [10.8, 20.0, 30.0]
    states = _run(tracker, [[*STILL, beside], [beside]], first=10)
    assert states[-1].observed.tolist() == [True]


def test_crossing_tracks_keep_their_numbers() -> None:
    n = np.arange(100)[:, None]
    first = np.hstack([0.4 * n, 0 * n, 50 + 0 * n])
    second = np.hstack([40 - 0.4 * n, 1.5 + 0 * n, 50 + 0 * n])
    states = _run(Tracker(), list(np.stack([first, second], axis=1)))
    assert states[-1].track_id.tolist() == [1, 2]
    assert states[-1].x_um[0] > 39
    assert states[-1].x_um[1] < 1


def test_near_focus_is_flagged_and_never_reflected() -> None:
    """A particle falls through focus; its pattern beyond looks like one above, so depth is answered as |z|."""
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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"acceleration_um_s2": 0.0}, "acceleration_um_s2 is 0.0; it must be positive and finite"),
        ({"gate_probability": 1.0}, "gate_probability is 1.0; it must be between 0 and 1"),
        ({"confirm_steps": 2}, "confirm_steps is 2; it must be at least confirm_hits"),
        ({"coast_frames": -1}, "coast_frames is -1; it must be not negative"),
    ],
)
def test_impossible_settings(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        TrackerSettings(**change)


def test_the_gate_of_three_dimensions() -> None:
    assert TrackerSettings().gate == pytest.approx(16.266, abs=1e-3)


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
    alive: set[int] = set()
    ever: set[int] = set()
    last_seen: dict[int, int] = {}
    for gap, xyz in frames:
        frame += gap
        state = tracker.step(frame / 100, frame, _found(xyz, frame))
        now = set(state.track_id.tolist())
        assert len(now) == len(state) == len(state.rows())
        assert (np.diff(state.track_id) > 0).all()
        assert set(state.ended.tolist()) == alive - now
        assert not (now - alive) & ever
        assert state.observed.sum() <= len(xyz)
        for name in ("x_um", "vz_um_s", "sigma_x_um", "sigma_z_um"):
            assert np.isfinite(getattr(state, name)).all()
        assert (state.sigma_z_um > 0).all()
        for track, observed in zip(state.track_id.tolist(), state.observed, strict=True):
            if observed:
                last_seen[track] = frame
            assert frame - last_seen[track] <= coast_frames
        alive, ever = now, ever | now
    assert ever == set(range(1, len(ever) + 1))


def _walkers(count: int, frames: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    velocity = random.normal(0, 40, (count, 3))
    start = random.uniform(20, 400, (count, 3))
    return np.stack([start + velocity * n / 100 for n in range(frames)])


def test_a_table_is_tracked_as_live() -> None:
    random = np.random.default_rng(5)
    truth = _walkers(15, 40, 3)
    parts, live, tracker = [], [], Tracker()
    for n, xyz in enumerate(truth):
        seen = xyz[random.random(15) < 0.9]
        part = _found(seen + random.normal(0, 0.3, seen.shape), n)
        parts.append(part)
        live.append(tracker.step(n / 100, n, part).rows())
    found = Localizations.concatenate(parts)
    offline = track_table(found.select(random.permutation(len(found))), fps=100)
    online = Tracks.concatenate(live)
    assert len(offline) == len(online)
    np.testing.assert_array_equal(np.unique(offline.track_id), np.unique(online.track_id))
    assert len(np.unique(offline.track_id)) == 15
    assert np.sort(offline.x_um) == pytest.approx(np.sort(online.x_um))


def test_a_table_with_gaps() -> None:
    found = Localizations.concatenate([_found(STILL, n) for n in (3, 4, 5, 9, 10**9)])
    tracks = track_table(found, fps=100)
    assert tracks.frame.tolist() == list(range(5, 20))
    assert tracks.observed.tolist() == [1, 0, 0, 0, 1] + [0] * 10
    assert tracks.t_s[0] == pytest.approx(0.05)
    assert len(track_table(Localizations.empty(), fps=10)) == 0
    with pytest.raises(DataError, match="The frame rate is 0 fps"):
        track_table(found, fps=0)


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
