"""Tracks of emitters in images: continuity, light, births and ends, and independence of the localizations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit.image_levels import ImageOptics
from models.fit.tensor_image import TensorOptics
from models.tables import Localizations
from models.tracking.image_filter import FULL, Effort, ImageFilter
from models.tracking.pool import Pool
from tests.models.image_samples import CAMERA, DEPTHS_UM, FPS, SHAPE, START, candidates, image_model, places_um
from tests.models.joint_fit_scenes import (
    CROWD,
    READ_NOISE_E,
    SMALL,
    expected_frame,
    nearby,
    network_detections,
    noisy_frame,
    sharp_psf,
)

Array = NDArray[np.float64]

BACKGROUND_E = 5.0
PHOTONS = 4e3
SURE = 8
"""Frames after which all emitters have confirmed tracks."""


def new_filter() -> ImageFilter:
    model = image_model()
    tracker = ImageFilter()
    tracker.swap(model.optics, DEPTHS_UM, model.missed)
    return tracker


def electrons(frame: int, emitters: int = len(START), light: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    of = np.column_stack([places_um(frame, emitters), np.full(emitters, light * PHOTONS)])
    return noisy_frame(expected_frame(image_model().optics.psf, of, BACKGROUND_E, SHAPE), 1000 * seed + frame)


def nothing() -> Localizations:
    return candidates(0).select(np.zeros(0, np.int64))


def seen(frame: int, emitters: int = len(START)) -> Localizations:
    """Candidates with the light of these images."""
    found = candidates(frame, emitters)
    found.photons[:] = PHOTONS
    return found


def steps(tracker: ImageFilter, frames: range, found: Any = seen, light: float = 1.0, effort: Effort = FULL) -> Any:
    """State and localizations of the last frame."""
    for n in frames:
        result = tracker.step_image(n / FPS, n, found(n), electrons(n, light=light), None, effort)
    return result


def ids_by_emitter(state: Any, frame: int, emitters: int = len(START)) -> list[int]:
    """Track at each emitter."""
    found = np.column_stack([state.x_um, state.y_um, state.z_um])
    apart = np.linalg.norm(places_um(frame, emitters)[:, None] - found, axis=2)
    assert apart.min(axis=1).max() < 1.5
    return list(state.track_id[apart.argmin(axis=1)])


@pytest.mark.parametrize("tensors", [False, True])
def test_identities_hold_through_twenty_frames_without_candidates(tensors: bool) -> None:
    tracker = new_filter()
    if tensors:
        tracker.swap(TensorOptics(ImageOptics(image_model().optics.psf, CAMERA), torch.device("cpu")), DEPTHS_UM)
    before = ids_by_emitter(steps(tracker, range(SURE))[0], SURE - 1)
    state, table = steps(tracker, range(SURE, SURE + 20), lambda n: nothing())
    assert ids_by_emitter(state, SURE + 19) == before
    assert len(state) == len(START)
    assert state.observed.all()
    assert len(table) == len(START)


def error_in_a_crowd_um(effort: Effort) -> float:
    """Mean error of three bright emitters that overlap, along the worst axis of each."""
    truth = CROWD[:3]
    tracker = ImageFilter()
    tracker.swap(ImageOptics(sharp_psf(), CameraModel(read_noise_e=READ_NOISE_E)), (0.5, 28.0))
    errors = []
    for n in range(12):
        found = network_detections(nearby(truth, n), n)
        found.probability[:] = 0.9
        counts = noisy_frame(expected_frame(sharp_psf(), truth, BACKGROUND_E, SMALL), n)
        _, table = tracker.step_image(n / FPS, n, found, counts, None, effort)
        if n >= 6:
            apart = np.abs(np.column_stack([table.x_um, table.y_um, table.z_um])[:, None] - truth[:, :3])
            errors.append(apart.max(axis=2).min(axis=0))
    return float(np.mean(errors))


def test_a_full_fit_has_cells_that_do_not_move_bright_emitters() -> None:
    assert error_in_a_crowd_um(FULL) < 0.045
    assert error_in_a_crowd_um(replace(FULL, fine=False)) > 0.05


def test_identities_hold_through_frames_without_images() -> None:
    tracker = new_filter()
    before = ids_by_emitter(steps(tracker, range(SURE))[0], SURE - 1)
    for n in range(SURE, SURE + 9):
        if n % 3:
            state = tracker.step(n / FPS, n, seen(n))
        else:
            state, _ = tracker.step_image(n / FPS, n, seen(n), electrons(n))
    assert ids_by_emitter(state, SURE + 8) == before
    assert len(state) == len(START)


@pytest.mark.parametrize("light", [3.0, 1 / 3])
def test_a_change_of_the_lamp_loses_no_tracks(light: float) -> None:
    tracker = new_filter()
    before = ids_by_emitter(steps(tracker, range(SURE))[0], SURE - 1)
    # The candidates still have the light of before.
    state, table = steps(tracker, range(SURE, SURE + 1), light=light)
    assert ids_by_emitter(state, SURE) == before
    np.testing.assert_allclose(table.photons[state.localization], light * PHOTONS, rtol=0.15)
    state, _ = steps(tracker, range(SURE + 1, SURE + 6), light=light)
    assert ids_by_emitter(state, SURE + 5) == before
    assert len(state) == len(START)


def test_one_of_two_tracks_on_an_emitter_ends() -> None:
    """Candidates show one emitter twice, a little apart, until there are two tracks; then come the images."""
    tracker = new_filter()

    def twice(n: int) -> Localizations:
        found = seen(n)
        again = seen(n).select(np.array([0]))
        again.y_um[:] = found.y_um[0] + 2.5
        return Localizations.concatenate([found, again])

    for n in range(4):
        tracker.step(n / FPS, n, twice(n))
    assert len(tracker) > len(START)
    state, table = steps(tracker, range(4, 24))
    ids_by_emitter(state, 23)
    assert len(state) == len(START)
    assert len(table) == len(START)


def test_of_tracks_at_one_place_the_one_with_fewer_localizations_ends() -> None:
    tracker = new_filter()
    steps(tracker, range(SURE))
    before = len(tracker)
    # Two candidates at one emitter, and one track: the second begins another one.
    for n in range(SURE, SURE + 2):
        found = Localizations.concatenate([seen(n), seen(n).select(np.array([0]))])
        tracker.step(n / FPS, n, found)
    assert len(tracker) > before
    state, _ = steps(tracker, range(SURE + 2, SURE + 8))
    assert len(tracker) == before
    assert list(state.track_id) == [1, 2, 3, 4]


def test_a_copy_of_a_track_ends_at_once() -> None:
    tracker = new_filter()
    steps(tracker, range(SURE))
    copy = tracker._pool.select(np.array([0]))
    copy.hits[:] = 2
    copy.track_id[:] = 9
    tracker._pool = tracker._pool.append(copy)
    state, _ = steps(tracker, range(SURE, SURE + 1))
    assert list(state.ended) == [9]
    assert list(state.track_id) == [1, 2, 3, 4]


def test_duplicates_are_near_in_all_axes() -> None:
    """Tracks beside one with more localizations, or with as many and higher odds."""
    place = np.array([[0, 0, 0], [0.4, 0, 0], [0, 0, 1.5], [0, 0, 2.5], [5, 0, 0], [5.3, 0, 0]], np.float64)
    numbers = np.arange(6)
    gaussians = np.zeros((5, 1, 3, 6))
    gaussians[0, 0] = place.T
    gaussians[2] = 0.01
    odds = np.array([1.0, 3.0, 3.0, 3.0, 1.0, 2.0])
    pool = Pool.begin(gaussians, np.ones((1, 6)), odds, np.ones((2, 6)), numbers, numbers, 0)
    pool.hits[0] = 9
    beside = ImageFilter._beside(pool, np.array([0.6, 0.6, 1.8]))
    np.testing.assert_array_equal(beside, [False, True, True, False, True, False])


def test_light_that_changes_slowly_is_followed() -> None:
    """One emitter grows by 8 % per frame, the others stay."""
    tracker = new_filter()
    steps(tracker, range(SURE))
    for n in range(SURE, SURE + 16):
        of = np.column_stack([places_um(n), np.full(len(START), PHOTONS)])
        of[0, 3] *= 1.08 ** (n - SURE)
        image = noisy_frame(expected_frame(image_model().optics.psf, of, BACKGROUND_E, SHAPE), n)
        state, table = tracker.step_image(n / FPS, n, seen(n), image)
    own = state.localization[np.searchsorted(state.track_id, ids_by_emitter(state, n))]
    np.testing.assert_allclose(table.photons[own], of[:, 3], rtol=0.1)
    # It is known for the next frame.
    known = tracker._pool.light[:, np.isin(tracker._pool.track_id, state.track_id)]
    np.testing.assert_allclose(np.sort(known[0]), np.sort(table.photons[own]), rtol=1e-6)
    assert (np.sqrt(known[1]) < 0.1 * known[0]).all()


def test_an_emitter_that_is_never_a_candidate_is_found() -> None:
    tracker = new_filter()
    state, _ = steps(tracker, range(14), lambda n: seen(n, len(START) - 1))
    assert len(set(ids_by_emitter(state, 13))) == len(START)
    assert len(state) == len(START)
    # Without the search of the residual it is not found.
    blind = new_filter()
    state, _ = steps(blind, range(14), lambda n: seen(n, len(START) - 1), effort=Effort(search_every=0))
    assert len(state) == len(START) - 1


def test_a_track_ends_when_its_emitter_is_gone() -> None:
    tracker = new_filter()
    state, _ = steps(tracker, range(SURE))
    gone = ids_by_emitter(state, SURE - 1)[-1]
    ended: set[int] = set()
    for n in range(SURE, SURE + 12):
        state, _ = tracker.step_image(n / FPS, n, seen(n, 3), electrons(n, 3))
        ended |= set(state.ended.tolist())
    assert ended == {gone}
    assert len(state) == len(START) - 1


def test_false_candidates_of_an_empty_image_make_no_tracks() -> None:
    tracker = new_filter()
    for n in range(10):
        state, _ = tracker.step_image(n / FPS, n, seen(n), electrons(n, 0))
        assert len(state) == 0


def test_frames_without_emitters_and_candidates() -> None:
    tracker = new_filter()
    for n in range(3):
        state, table = tracker.step_image(n / FPS, n, nothing(), electrons(n, 0))
        assert len(state) == 0
        assert len(table) == 0
    assert tracker.idle


def test_localizations_have_independent_errors_of_their_sigmas() -> None:
    """Normalized squared errors of the measured positions are 1 on average, and errors not correlated over time.

    Patterns are on camera pixels nearly everywhere here, because their interpolation on large cells has errors of its
    own. With 2 movies, 4 emitters, 20 frames and 3 axes there are 480 values: their mean is known to 7 %, and their
    correlation to 5 %.
    """
    optics = ImageOptics(image_model().optics.psf, CAMERA, loss=0.02)
    errors = []
    for seed in range(2):
        tracker = ImageFilter()
        tracker.swap(optics, DEPTHS_UM)
        for n in range(SURE + 20):
            state, table = tracker.step_image(n / FPS, n, seen(n), electrons(n, seed=seed))
            if n >= SURE:
                rows = state.localization[np.searchsorted(state.track_id, ids_by_emitter(state, n))]
                assert (rows >= 0).all()
                own = table.select(rows)
                away = np.column_stack([own.x_um, own.y_um, own.z_um]) - places_um(n)
                errors.append(away / np.column_stack([own.sigma_x_um, own.sigma_y_um, own.sigma_z_um]))
    normalized = np.array(errors).reshape(2, 20, len(START), 3)
    assert 0.7 < (normalized**2).mean() < 1.3
    assert abs((normalized[:, 1:] * normalized[:, :-1]).mean()) < 0.2


def test_a_backdrop_is_no_emitter() -> None:
    """Light that stands still is given: nothing is found in it, and the emitters are."""
    spots = np.array([[45.0, 48.0, 6.0, 2e4], [82.0, 12.0, 10.0, 2e4]])
    backdrop = expected_frame(image_model().optics.psf, spots, 0.0, SHAPE).astype(np.float32)
    tracker = new_filter()
    for n in range(SURE):
        of = np.column_stack([places_um(n), np.full(len(START), PHOTONS)])
        light = expected_frame(image_model().optics.psf, of, BACKGROUND_E, SHAPE) + backdrop
        state, _ = tracker.step_image(n / FPS, n, seen(n), noisy_frame(light, n), backdrop)
    ids_by_emitter(state, SURE - 1)
    assert len(state) == len(START)


def test_the_error_of_a_backdrop_is_noise() -> None:
    """Sigmas grow with it, and the light of the emitters and of the background stays."""

    def table(doubt_e2: float) -> Localizations:
        tracker, backdrop = new_filter(), np.zeros(SHAPE, np.float32)
        for n in range(SURE):
            state, found = tracker.step_image(n / FPS, n, seen(n), electrons(n), backdrop, FULL, doubt_e2)
        ids_by_emitter(state, SURE - 1)
        return found

    exact, doubtful = table(0.0), table(100.0)
    assert np.median(doubtful.sigma_x_um) > 1.5 * np.median(exact.sigma_x_um)
    assert doubtful.photons == pytest.approx(exact.photons, rel=0.2)
    assert doubtful.background == pytest.approx(exact.background, abs=1.0)


@pytest.mark.parametrize(("with_map", "doubt_e2"), [(False, 0.0), (True, 0.0), (True, 30.0)])
def test_unseen_tracks_fade_only_where_the_backdrop_has_errors(
    monkeypatch: pytest.MonkeyPatch, with_map: bool, doubt_e2: float
) -> None:
    backdrop = np.zeros(SHAPE, np.float32) if with_map else None

    def odds(unseen: float) -> Any:
        """Log odds of the tracks after a frame without emitters."""
        tracker = new_filter()
        for n in range(SURE):
            tracker.step_image(n / FPS, n, seen(n), electrons(n), backdrop, FULL, doubt_e2)
        monkeypatch.setattr("models.tracking.image_filter._UNSEEN", unseen)
        tracker.step_image(SURE / FPS, SURE, nothing(), electrons(SURE, 0), backdrop, FULL, doubt_e2)
        return tracker._pool.log_odds.copy()

    assert odds(0.0) - odds(0.5) == pytest.approx(0.5 if doubt_e2 else 0.0, abs=1e-9)


def test_motion_in_the_exposure_widens_lateral_sigmas() -> None:
    """Information falls by exp(-2/3 π² b² / p²) for a path with the variance b²."""
    tracker = new_filter()
    for n in range(SURE):
        tracker.step_image(n / FPS, n, seen(n), electrons(n))
    pool, steps_um = tracker._pool, tracker.noise.steps_um
    pool.weights[:] = 0.0
    pool.gaussians[1] = 0.0
    pool.weights[tracker.noise.flow_model] = 1.0
    np.testing.assert_allclose(tracker._blurred(pool), 1.0)
    # Along a line of one pixel, b² is 1/12; a track never loses more than three quarters of its information.
    pool.gaussians[1, :, 0] = FPS
    np.testing.assert_allclose(tracker._blurred(pool)[0], np.exp(np.pi**2 / 18))
    np.testing.assert_allclose(tracker._blurred(pool)[1], 1.0)
    pool.gaussians[1, :, 0] = 10 * FPS
    np.testing.assert_allclose(tracker._blurred(pool)[0], 4.0)
    # A random walk has no direction, and its velocity is none.
    pool.weights[:] = np.eye(len(steps_um))[1][:, None]
    np.testing.assert_allclose(tracker._blurred(pool), np.exp(np.pi**2 * steps_um[1] ** 2 / 9))
