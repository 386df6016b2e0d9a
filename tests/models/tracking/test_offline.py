"""Whole tables: equal to live, or smoothed and joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import DataError
from models.metrics import score_table
from models.tables import Localizations, Tracks, Truth
from models.tracking import Tracker, TrackerSettings, make_tracker, smoothed_tracks, track_table
from models.tracking.events import EventObserver, TableObserver
from models.tracking.smoother import Smoother


def _found(xyz_um: Any, frame: int, sigma_um: float = 0.3) -> Localizations:
    xyz = np.asarray(xyz_um, np.float64).reshape(-1, 3)
    columns: dict[str, Any] = {name: np.ones(len(xyz)) for name in Localizations.names()}
    columns |= {"frame": np.full(len(xyz), frame), "x_um": xyz[:, 0], "y_um": xyz[:, 1], "z_um": xyz[:, 2]}
    columns |= {f"sigma_{axis}_um": np.full(len(xyz), sigma_um) for axis in "xyz"}
    return Localizations.from_columns(columns)


def _walkers(count: int, frames: int, seed: int) -> NDArray[np.float64]:
    """Straight paths with 40 µm/s along each axis, shape (T, N, 3)."""
    random = np.random.default_rng(seed)
    velocity = random.normal(0, 40, (count, 3))
    start = random.uniform(20, 400, (count, 3))
    return np.stack([start + velocity * n / 100 for n in range(frames)])


def _seen(paths: NDArray[np.float64], recall: float, seed: int) -> Localizations:
    random = np.random.default_rng(seed)
    parts = []
    for frame, xyz in enumerate(paths):
        kept = xyz[random.random(len(xyz)) < recall]
        parts.append(_found(kept + random.normal(0, 0.3, kept.shape), frame))
    return Localizations.concatenate(parts)


def _truth(paths: NDArray[np.float64]) -> Truth:
    frames, count = paths.shape[:2]
    return Truth(np.repeat(np.arange(frames), count), *paths.reshape(-1, 3).T, np.tile(np.arange(count), frames))


def test_a_table_is_tracked_as_live() -> None:
    found = _seen(_walkers(15, 40, 3), 0.9, 5)
    tracker = Tracker()
    live = Tracks.concatenate(tracker.step(n / 100, n, found.select(found.frame == n)).rows() for n in range(40))
    shuffled = found.select(np.random.default_rng(1).permutation(len(found)))
    offline = track_table(shuffled.select(np.argsort(shuffled.frame, kind="stable")), fps=100)
    np.testing.assert_array_equal(np.unique(offline.track_id), np.unique(live.track_id))
    assert len(np.unique(offline.track_id)) == 15
    assert np.sort(offline.x_um) == pytest.approx(np.sort(live.x_um), rel=1e-9)
    same = track_table(found, fps=100)
    for name, column in live.columns().items():
        np.testing.assert_array_equal(getattr(same, name), column, err_msg=name)


def test_a_table_with_gaps() -> None:
    still = [[10.0, 20.0, 30.0]]
    found = Localizations.concatenate([_found(still, n) for n in (3, 4, 5, 9, 10**9)])
    tracks = track_table(found, fps=100)
    assert tracks.frame[0] == 4
    assert tracks.t_s[0] == pytest.approx(0.04)
    assert set(tracks.frame[tracks.observed == 1].tolist()) == {4, 5, 9}
    assert tracks.frame.max() < 200
    assert len(track_table(Localizations.empty(), fps=10)) == 0
    for rate in (0, np.inf, -1):
        with pytest.raises(DataError, match="The frame rate is"):
            track_table(found, fps=rate)


def test_smoothed_tracks_have_all_points_and_smaller_errors() -> None:
    paths = _walkers(12, 60, 8)
    found, truth = _seen(paths, 0.85, 2), _truth(paths)
    live, smoothed = track_table(found, 100), smoothed_tracks(found, 100)
    one, two = score_table(live, truth, 5.0), score_table(smoothed, truth, 5.0)
    assert len(np.unique(smoothed.track_id)) == 12
    assert two.jaccard > one.jaccard
    assert two.jaccard > 0.98
    # 60 points on a straight line against the points so far.
    assert two.rmse_um < 0.6 * one.rmse_um
    assert smoothed.observed.sum() == len(found)


def test_smoothed_sigmas_are_the_errors() -> None:
    paths = _walkers(40, 60, 11)
    smoothed, truth = smoothed_tracks(_seen(paths, 0.9, 4), 100), _truth(paths)
    errors = []
    for row in range(len(smoothed)):
        real = truth.frame == smoothed.frame[row]
        away = np.stack([truth.x_um[real] - smoothed.x_um[row], truth.y_um[real] - smoothed.y_um[row]])
        nearest = np.argmin((away**2).sum(axis=0))
        errors.append(away[:, nearest] / [smoothed.sigma_x_um[row], smoothed.sigma_y_um[row]])
    # Conservative, since the motion might have changed at any time.
    assert 0.3 < float(np.mean(np.square(errors))) < 1.1


def test_a_long_gap_is_closed() -> None:
    path = _walkers(1, 200, 4)
    found = _seen(path, 1.0, 3)
    found = found.select((found.frame < 60) | (found.frame > 170))
    assert len(np.unique(track_table(found, 100, TrackerSettings(coast_frames=20)).track_id)) == 2
    joined = smoothed_tracks(found, 100, TrackerSettings(coast_frames=20))
    assert np.unique(joined.track_id).tolist() == [1]
    assert joined.frame.max() == 199


def test_times_of_frames_instead_of_a_rate() -> None:
    found = _seen(_walkers(8, 60, 5), 0.9, 7)
    even = {frame: frame / 100 for frame in range(60)}
    for make in (track_table, smoothed_tracks):
        one, two = make(found, 100.0), make(found, times_s=even)
        for name, column in one.columns().items():
            np.testing.assert_array_equal(getattr(two, name), column, err_msg=name)
    # Frames that were lost have no points; the steps of time are the real ones.
    real = {frame: t_s * 3 for frame, t_s in even.items() if frame % 7}
    kept = found.select(found.frame % 7 > 0)
    smoothed = smoothed_tracks(kept, times_s=real)
    assert set(smoothed.frame.tolist()) <= real.keys()
    np.testing.assert_array_equal(smoothed.t_s, [real[frame] for frame in smoothed.frame.tolist()])
    assert len(np.unique(smoothed.track_id)) == 8
    with pytest.raises(DataError, match="Frame 0 has localizations and no time"):
        track_table(found, times_s=real)
    with pytest.raises(DataError, match="Neither a frame rate nor times"):
        track_table(found)


def test_points_are_given_in_parts() -> None:
    """As all at once, but for what comes later than the lag; each point once, in bounded memory."""
    found = _seen(_walkers(5, 1500, 12), 0.9, 3)
    found = found.select((found.frame < 640) | (found.frame > 780))
    whole = smoothed_tracks(found, times_s={frame: frame / 100 for frame in range(1500)})
    smoother, parts = Smoother(), []
    for frame in range(1500):
        smoother.step(frame / 100, frame, found.select(found.frame == frame))
        if smoother.frames >= Smoother.KEPT_FRAMES + 100:
            parts.append(smoother.take())
            assert smoother.frames <= Smoother.KEPT_FRAMES + 1
    parts.append(smoother.finish())
    assert smoother.frames == 0
    assert len(parts) > 5
    joined = Tracks.concatenate(parts)
    assert len(joined) == len({*zip(joined.track_id.tolist(), joined.frame.tolist(), strict=True)})
    joined, whole = (table.select(table.observed == 1) for table in (joined, whole))
    np.testing.assert_array_equal(joined.track_id, whole.track_id)
    np.testing.assert_array_equal(joined.frame, whole.frame)
    assert joined.x_um == pytest.approx(whole.x_um, abs=0.05)
    assert np.unique(joined.track_id).tolist() == [1, 2, 3, 4, 5]


def test_two_emitters_are_not_joined() -> None:
    first, second = _walkers(2, 80, 9).swapaxes(0, 1)
    parts = [_found(first[n], n) for n in range(40)] + [_found(second[n], n) for n in range(45, 80)]
    assert len(np.unique(smoothed_tracks(Localizations.concatenate(parts), 100).track_id)) == 2


def test_the_published_preset() -> None:
    paths = _walkers(6, 40, 2)
    tracks = track_table(_seen(paths, 1.0, 1), 100, preset="published")
    assert len(np.unique(tracks.track_id)) == 6
    assert tracks.frame.min() == 0
    with pytest.raises(DataError, match="The preset 'published' has the settings of the publication"):
        make_tracker("published", TrackerSettings(step_um=2.0))


def test_tracks_are_not_worse_than_their_localizations() -> None:
    """Diffusing, directed and mixed points, with false ones; in time for every change."""
    random = np.random.default_rng(17)
    count, frames = 20, 80
    start = random.uniform(0, 150, (count, 3))
    for step_um, speed_um in ((0.14, 0.0), (0.45, 0.0), (0.02, 0.75)):
        way = random.normal(size=(count, 3))
        way *= speed_um / np.linalg.norm(way, axis=1, keepdims=True)
        paths = start + np.cumsum(random.normal(0, step_um, (frames, count, 3)) + way, axis=0)
        truth = _truth(paths)
        false = [_found(random.uniform(0, 150, (random.poisson(1.0), 3)), frame) for frame in range(frames)]
        found = Localizations.concatenate([_seen(paths, 0.9, 6), *false])
        for tolerance in (10.0, 5.0, 3.0):
            own = score_table(found, truth, tolerance).jaccard
            assert score_table(track_table(found, 100), truth, tolerance).jaccard > own
            assert score_table(smoothed_tracks(found, 100), truth, tolerance).jaccard > own


def test_localizations_without_a_track_are_smoothed_to_nothing() -> None:
    columns = {name: np.full(3, 0.6) for name in Localizations.names()}
    found = Localizations.from_columns(columns | {"frame": np.arange(3), "x_um": np.arange(3) * 50.0})
    tracks, observer = smoothed_tracks(found, 100), TableObserver(EventObserver())
    assert len(tracks) == len(observer.add(tracks)) == len(observer.finish()) == 0
