"""Tracking in camera frames: coordinates, degrees of the fit, change of the model, smoothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.field import FieldMap
from models.tables import Localizations, Tracks
from models.tracking.image_filter import FULL, Effort
from models.tracking.image_tracker import ImageTracker, kept
from models.tracking.smoother import Smoother
from models.tracking.tracker import Tracker
from tests.models.image_samples import FPS, SHAPE, START, candidates, counts, image_model, places_um

FRAMES = 12
FIELD = FieldMap((48.0, 48.0), 48.0, (0.0, 0.0), (0.0, 30.0), ((1.0,) + (0.0,) * 5,) * 2, ((0.5, 0.0, 0.0, 0.5),) * 2)
"""Everything looks 1 µm deeper, and up to 0.5 µm farther from the centre."""


def track(tracker: ImageTracker, effort: Effort | None = FULL, frames: int = FRAMES) -> list[Any]:
    return [tracker.step_image(n / FPS, n, candidates(n), counts(n), None, effort) for n in range(frames)]


def distance_um(points: Any, frame: int) -> Any:
    """From each true position to the nearest point."""
    found = np.column_stack([points.x_um, points.y_um, points.z_um])
    return np.linalg.norm(places_um(frame)[:, None] - found, axis=2).min(axis=1)


def test_tracks_and_localizations_are_at_the_emitters() -> None:
    state, table = track(image_model().tracker())[-1]
    assert len(state) == len(START)
    assert distance_um(state, FRAMES - 1).max() < 0.5
    # Candidates are wrong by 2 µm in depth.
    assert distance_um(table, FRAMES - 1).max() < 0.8
    assert np.isfinite(table.chi2[state.localization]).all()


def test_positions_are_true_ones() -> None:
    """The same as with apparent candidates and no map, corrected at the end."""
    tracker = replace(image_model(), field=FIELD).tracker()
    plain = image_model().tracker()
    for n in range(FRAMES):
        apparent = candidates(n)
        state, table = tracker.step_image(n / FPS, n, FIELD.true(apparent), counts(n))
        expected, rows = plain.step_image(n / FPS, n, apparent, counts(n))
    assert len(state) == len(START)
    x_um, y_um, z_um = FIELD.true_places(expected.x_um, expected.y_um, expected.z_um)
    for name, column in (("x_um", x_um), ("y_um", y_um), ("z_um", z_um)):
        np.testing.assert_allclose(getattr(state, name), column, atol=1e-3)
        np.testing.assert_allclose(getattr(table, name), getattr(FIELD.true(rows), name), atol=1e-3)
    assert np.abs(state.z_um - expected.z_um + 1).max() < 1e-3
    assert state.filtered is not None
    np.testing.assert_allclose(state.filtered.moments[0], [state.x_um, state.y_um, state.z_um])
    means = (state.filtered.weights[:, None] * state.filtered.gaussians[0]).sum(axis=0)
    np.testing.assert_allclose(means, state.filtered.moments[0])


def test_without_a_fit_it_is_the_tracker_of_candidates() -> None:
    plain = Tracker()
    for n, (state, table) in enumerate(track(image_model().tracker(), None)):
        expected = plain.step(n / FPS, n, candidates(n))
        for name, column in expected.rows().columns().items():
            np.testing.assert_array_equal(getattr(state.rows(), name), column)
        assert len(table) == len(START)
        assert np.isnan(table.chi2).all()


def test_another_model_ends_all_tracks() -> None:
    tracker = image_model().tracker()
    before = track(tracker)[-1][0].track_id
    tracker.swap(image_model())
    states = [tracker.step_image(n / FPS, n, candidates(n), counts(n))[0] for n in range(FRAMES, FRAMES + 8)]
    assert set(states[0].ended) == set(before)
    assert len(states[-1]) == len(START)
    assert states[-1].track_id.min() > before.max()
    tracker.swap(None)
    assert not tracker.fits
    _, table = tracker.step_image(30 / FPS, 30, candidates(30), counts(30))
    assert np.isnan(table.chi2).all()


def test_a_model_with_a_psf_is_fitted_after_one_without() -> None:
    tracker, plain = ImageTracker(None), Tracker()
    assert not tracker.fits
    for n, (state, table) in enumerate(track(tracker)):
        expected = plain.step(n / FPS, n, candidates(n))
        np.testing.assert_array_equal(state.track_id, expected.track_id)
        np.testing.assert_array_equal(state.z_um, expected.z_um)
        assert np.isnan(table.chi2).all()
    tracker.swap(image_model())
    assert tracker.fits
    later = [tracker.step_image(n / FPS, n, candidates(n), counts(n)) for n in range(FRAMES, 2 * FRAMES)]
    assert set(later[0][0].ended) == set(expected.track_id)
    state, table = later[-1]
    assert state.track_id.min() > expected.track_id.max()
    assert distance_um(state, 2 * FRAMES - 1).max() < 0.5
    assert np.isfinite(table.chi2[state.localization]).all()


def test_what_is_kept_are_sure_localizations_and_those_of_tracks() -> None:
    state, table = track(image_model().tracker())[-1]
    doubtful = replace(table, probability=np.full(len(table), 0.1))
    found, its = kept(doubtful, state, 0.5)
    np.testing.assert_array_equal(found.x_um[its.localization], table.x_um[state.localization])
    assert len(found) == len(state)
    assert kept(table, state, 0.0)[0] is table


def test_smoothed_tracks_are_those_of_the_filter() -> None:
    smoother, points, found = Smoother(images=image_model()), [], []
    for n in range(FRAMES):
        state, table = smoother.step_image(n / FPS, n, candidates(n), counts(n))
        points.append(state.rows())
        found.append(table)
    smoothed = smoother.finish()
    live = Tracks.concatenate(points)
    assert set(smoothed.track_id) == set(live.track_id)
    assert smoothed.frame.min() == 0  # also before the tracks were confirmed
    of_frames = [smoothed.select(smoothed.frame == n) for n in range(FRAMES)]
    errors = np.array([distance_um(of_frame, n) for n, of_frame in enumerate(of_frames)])
    alone = np.array([distance_um(table, n) for n, table in enumerate(found)])
    assert np.sqrt((errors**2).mean()) < np.sqrt((alone**2).mean())
    assert len(Localizations.concatenate(found)) >= FRAMES * len(START) - 2


def test_frames_need_a_model() -> None:
    with pytest.raises(TypeError, match="images"):
        Smoother().step_image(0.0, 0, candidates(0), np.zeros(SHAPE, np.uint16))
