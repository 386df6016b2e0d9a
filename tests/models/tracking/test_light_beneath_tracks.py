"""The static light of a run improves with its tracks, and tracks of a time without it end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.background.frame_light import FrameLight, LightMap
from models.camera import CameraModel
from models.localization import Localizer
from models.synthesis import PatternTable
from models.tables import Tracks
from models.tracking.image_tracker import ImageModel
from models.tracking.light_beneath_tracks import LightBeneathTracks
from models.tracking.state import TrackState
from models.weights import reference_model

SHAPE = (128, 128)
CAMERA = CameraModel(100.0, 1.1, 1.6, 16, "simulated")


class Maps:
    def __init__(self) -> None:
        self.used: list[tuple[LightMap, int]] = []

    def use(self, light: LightMap, number: int) -> None:
        self.used.append((light, number))


class State:
    """Tracks at given places."""

    def __init__(self, places_um: Any, frame: int) -> None:
        still = np.full(len(places_um), 0.1)
        x, y, z = np.asarray(places_um, np.float64).T
        ids = np.arange(len(places_um))

        self._rows = Tracks(
            ids, np.full(len(ids), frame), np.full(len(ids), frame / 100), x, y, z,
            *([0 * still] * 3), *([still] * 3), np.ones(len(ids), np.int64), np.ones(len(ids)),
        )  # fmt: skip

    def rows(self) -> Any:
        return self._rows


@pytest.fixture(scope="module")
def images() -> ImageModel:
    model = Localizer.load(reference_model("live"), "cpu", camera=CAMERA).image_model
    assert model is not None
    return model


def test_maps_become_better_and_tracks_end_when_they_do(images: ImageModel) -> None:
    columns, rows = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    static = 20 + 10 * np.sin(columns / 7.0) * np.cos(rows / 9.0)
    table = PatternTable(images.optics.psf)
    maps = Maps()
    beneath = LightBeneathTracks(images, maps)
    mean = LightMap((static + 8 * np.exp(-((rows - 63) ** 2) / 200.0)).astype(np.float32), CAMERA, 100.0)
    ended = []
    for number in range(265):
        x_um = (8 + 18 * np.arange(4) + 0.3 * number) % 80
        places = np.column_stack([x_um, np.full(4, 41.0), np.array([20.0, 32.0, 26.0, 38.0])])
        image = static.astype(np.float32)
        table.render(np.column_stack([places, np.full(4, 2e4)]), image)
        counts = CAMERA.expose(image, seed=number)
        state: TrackState = State(places, number)  # type: ignore[assignment]
        ended.append(beneath.add(counts, FrameLight(mean, 1.0, number), state))
    assert [number for number, ends in enumerate(ended) if ends] == [0]
    (better, first) = maps.used[0]
    assert first == 256 + 64

    def error_e(light_e: Any) -> float:
        return float(np.std((light_e - static)[8:-8, 8:-8]))

    assert error_e(better.light_e) < 0.7 * error_e(mean.light_e)
    empty: TrackState = State(np.zeros((0, 3)), 300)  # type: ignore[assignment]
    counts = CAMERA.expose(static.astype(np.float32), seed=1)
    assert beneath.add(counts, FrameLight(better, 1.0, 320), empty)
    assert not beneath.add(counts, FrameLight(better, 1.0, 321), empty)
    assert not beneath.add(counts, None, empty)
    hot_pixels = LightMap(mean.light_e, CAMERA)
    assert not beneath.add(counts, FrameLight(hot_pixels, 1.0, 322), empty)
    assert beneath.add(counts, FrameLight(better, 1.0, 323), empty)
