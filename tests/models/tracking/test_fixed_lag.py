"""Tracks that are smoothed by the next few frames."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.tracks.detections import QUALITIES, detections
from evaluation.tracks.patterns import PATTERNS, true_tracks
from models.errors import DataError
from models.metrics import score_table
from models.tables import Localizations, Tracks, Truth
from models.tracking import Tracker, TrackState, make_tracker, track_table
from models.tracking.fixed_lag import FixedLag
from models.tracking.motion_models import Bank, combined, mix, predict

F64 = NDArray[np.float64]

FRAMES = 60


def scene(pattern: str, quality: int = 0) -> tuple[Truth, Localizations]:
    chosen = next(each for each in PATTERNS if each.name == pattern)
    truth = true_tracks(chosen, 12, FRAMES, 100.0, 4)
    return truth, detections(truth, QUALITIES[quality], 5)


def states_of(found: Localizations) -> list[TrackState]:
    tracker = Tracker()
    return [tracker.step(n / 100, n, found.select(found.frame == n)) for n in range(FRAMES)]


def smoothed(states: list[TrackState], lag_frames: int, at_once: int) -> Tracks:
    lag = FixedLag(lag_frames)
    parts = [lag.add(states[first : first + at_once]) for first in range(0, len(states), at_once)]
    return Tracks.concatenate([*parts, lag.finish()])


def assert_equal(one: Tracks, two: Tracks, names: tuple[str, ...] = Tracks.names()) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize(("pattern", "gain"), [("directed", 0.8), ("brownian 1", 0.85), ("fast", 0.8)])
def test_identities_and_frames_are_those_of_the_filter_and_errors_are_smaller(pattern: str, gain: float) -> None:
    truth, found = scene(pattern)
    filtered = track_table(found, 100.0)
    points = track_table(found, 100.0, lag_frames=10)
    assert_equal(points, filtered, ("track_id", "frame", "t_s", "observed", "probability"))
    before, after = score_table(filtered, truth).rmse_um, score_table(points, truth).rmse_um
    assert before is not None
    assert after is not None
    assert after < gain * before
    sigmas = ("sigma_x_um", "sigma_y_um", "sigma_z_um")
    assert all(np.mean(getattr(points, name)) < np.mean(getattr(filtered, name)) for name in sigmas)


def test_points_do_not_depend_on_how_many_frames_come_together() -> None:
    states = states_of(scene("switching", 1)[1])
    whole = smoothed(states, 7, FRAMES)
    for at_once in (1, 4, 33):
        assert_equal(smoothed(states, 7, at_once), whole)


def test_points_are_given_a_lag_later_and_each_once() -> None:
    states = states_of(scene("directed")[1])
    lag = FixedLag(5)
    for number, state in enumerate(states):
        given = lag.add([state])
        expected = states[number - 5].track_id if number >= 5 else np.zeros(0)
        np.testing.assert_array_equal(given.track_id, expected)
        assert set(given.frame) <= {number - 5}
    rest = lag.finish()
    assert set(rest.frame) == set(range(FRAMES - 5, FRAMES))
    assert len(lag.finish()) == 0


def test_only_the_frames_of_the_lag_count() -> None:
    """Later frames, and those after a track was left out, change nothing."""
    states = states_of(scene("directed")[1])
    whole, cut = smoothed(states, 5, FRAMES), smoothed(states[:30], 5, FRAMES)
    assert_equal(cut.select(cut.frame < 25), whole.select(whole.frame < 25))
    # The newest point has no later frame.
    assert_equal(cut.select(cut.frame == 29), states[29].rows())
    gone = [*states[:25], Tracker().step(0.25, 25, Localizations.empty()), *states[26:]]
    apart = smoothed(gone, 5, FRAMES)
    assert_equal(apart.select(apart.frame == 24), states[24].rows())


def test_one_step_back_is_that_of_the_joint_gaussian() -> None:
    """Prediction and covariance of two frames, computed from the models one by one."""
    states = states_of(scene("switching")[1])
    for one, two in pairwise(states[20:24]):
        common, own, other = np.intersect1d(one.track_id, two.track_id, return_indices=True)
        assert len(common) > 5
        lag = FixedLag(1)
        lag.add([one])
        points = lag.add([two])
        assert one.filtered is not None
        assert two.filtered is not None
        motion, step_s = one.filtered.motion, two.t_s - one.t_s
        stays = motion.stays(np.array(step_s))
        gaussians, shares = one.filtered.gaussians[..., own], one.filtered.weights[:, own]
        mixed, weights = mix(gaussians, shares, stays, motion.shares)
        ahead = predict(mixed, motion.bank, step_s)
        after = combined(two.filtered.gaussians, two.filtered.weights)[..., other]
        for track in range(len(common)):
            for axis, name in enumerate(("x_um", "y_um", "z_um")):
                mean, cross, then, spread = _joint(
                    mixed[:, :, axis, track], ahead[:, :, axis, track], weights[:, track], motion.bank, step_s
                )
                gain = cross @ np.linalg.inv(spread)
                expected = mean + gain @ (after[:2, axis, track] - then)
                assert getattr(points, name)[own[track]] == pytest.approx(expected[0], abs=1e-9)
                assert getattr(points, f"v{name}_s")[own[track]] == pytest.approx(expected[1], abs=1e-7)
                later = _matrix(after[:, axis, track])
                now = _matrix(combined(mixed, weights)[:, axis, track])
                variance = (now + gain @ (later - spread) @ gain.T)[0, 0]
                assert getattr(points, f"sigma_{name}")[own[track]] == pytest.approx(np.sqrt(variance), rel=1e-9)


def _matrix(moments: F64) -> F64:
    return np.array([[moments[2], moments[3]], [moments[3], moments[4]]])


def _joint(now: F64, then: F64, share: F64, bank: Bank, step_s: float) -> tuple[F64, F64, F64, F64]:
    """Mean now, covariance with the next state, mean then, and covariance then, of models (5, M), (M,)."""
    mean, mean_then = now[:2] @ share, then[:2] @ share
    cross, spread = np.zeros((2, 2)), np.zeros((2, 2))
    for model, weight in enumerate(share):
        still = np.array([[1.0, 0.0], [0.0, np.exp(-step_s / bank.memory_s)]])
        carry = np.array([[1.0, step_s], [0.0, 1.0]]) if bank.directed[model] else still
        away, away_then = now[:2, model] - mean, then[:2, model] - mean_then
        cross += weight * (_matrix(now[:, model]) @ carry.T + np.outer(away, away_then))
        spread += weight * (_matrix(then[:, model]) + np.outer(away_then, away_then))
    return mean, cross, mean_then, spread


def test_a_lag_of_zero_takes_any_tracker() -> None:
    found = scene("directed")[1]
    tracker = make_tracker("published")
    states = [tracker.step(n / 100, n, found.select(found.frame == n)) for n in range(5)]
    assert_equal(FixedLag(0).add(states), Tracks.concatenate(state.rows() for state in states))
    with pytest.raises(DataError, match="no motion models"):
        FixedLag(3).add(states)
