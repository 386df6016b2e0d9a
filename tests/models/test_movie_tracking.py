"""Tracks over light that stands still beneath emitters that never leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models.background.frame_light import FrameLight, LightMap
from models.camera import CameraModel
from models.localization import Localizer
from models.metrics import score_table
from models.movie_light import light_beneath, moving_tracks
from models.movie_localization import ArrayMovie
from models.movie_tracking import track_movie
from models.synthesis import PatternTable
from models.tables import Tracks, Truth
from models.weights import reference_model

SHAPE, COUNT, FPS = (128, 128), 48, 100.0
CAMERA = CameraModel(100.0, 1.1, 1.6, 16, "simulated")


@dataclass(frozen=True)
class Scene:
    movie: ArrayMovie
    truth: Truth
    static_e: Any


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer.load(reference_model("live"), "cpu", camera=CAMERA)


@pytest.fixture(scope="module")
def scene(localizer: Localizer) -> Scene:
    """Four emitters that follow each other through the middle, over blotches."""
    rows, columns = np.indices(SHAPE)
    static = (
        15 + 10 * np.sin(columns / 7.0) * np.cos(rows / 9.0) + 40 * np.exp(-((rows - 60) ** 2 + columns**2) / 900.0)
    )
    table = PatternTable(localizer.psf)
    frames, places = [], []
    for number in range(COUNT):
        x_um = (10 + 18 * np.arange(4) + 0.75 * number) % 80
        at = np.column_stack([x_um, np.full(4, 41.0), np.array([20.0, 32.0, 26.0, 38.0]), np.full(4, 3e4)])
        image = static.astype(np.float32)
        table.render(at, image)
        frames.append(CAMERA.expose(image, seed=number))
        places.append(at[:, :3])
    x, y, z = np.concatenate(places).T
    truth = Truth(np.repeat(np.arange(COUNT), 4), x, y, z, np.tile(np.arange(4), COUNT))
    return Scene(ArrayMovie(np.stack(frames)), truth, static)


def _tracks(scene: Scene, offset_um: float = 0.0) -> Tracks:
    """The truth as tracks."""
    truth, still = scene.truth, np.full(len(scene.truth.frame), 0.1)
    return Tracks(
        truth.track_id,
        truth.frame,
        truth.frame / FPS,
        truth.x_um * (offset_um == 0) + offset_um,
        truth.y_um,
        truth.z_um,
        *([0 * still] * 3),
        *([still] * 3),
        np.ones(len(still), np.int64),
        np.ones(len(still)),
    )


def test_tracks_that_stand_still_do_not_move(scene: Scene) -> None:
    assert len(moving_tracks(_tracks(scene), 0.65)) > 0
    assert len(moving_tracks(_tracks(scene, offset_um=30.0), 0.65)) == 0


def test_light_beneath_emitters_is_found_from_their_tracks(scene: Scene, localizer: Localizer) -> None:
    images = localizer.image_model
    assert images is not None
    mean = CAMERA.to_electrons(scene.movie.read(0, COUNT).mean(axis=0))
    before = [FrameLight(LightMap(mean, CAMERA), 1.0)] * (COUNT - 1) + [None]
    lights = light_beneath(scene.movie, _tracks(scene), images, before)
    assert lights[-1] is None
    found = lights[0]
    assert found is not None
    assert found.light.doubt_e2 > 0

    def error_e(light_e: Any) -> float:
        return float(np.std((light_e - scene.static_e)[8:-8, 8:-8]))

    assert error_e(found.light.light_e) < 0.5 * error_e(mean)


def test_a_movie_over_static_light_is_tracked_better_in_turns(
    scene: Scene, localizer: Localizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = localizer.image_model
    assert images is not None
    done: list[float] = []
    tracks, found = track_movie(scene.movie, localizer, images, FPS, static_light="on", advance=done.append)
    assert done == sorted(done)
    assert done[-1] == COUNT
    assert len(found) > 0
    monkeypatch.setattr("models.movie_tracking._light_beneath", lambda *_: None)
    at_once, _ = track_movie(scene.movie, localizer, images, FPS, static_light="on")
    better, worse = (score_table(each, scene.truth).jaccard or 0.0 for each in (tracks, at_once))
    assert better > worse
    assert better > 0.6
