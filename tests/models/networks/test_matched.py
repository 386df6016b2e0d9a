"""A model without a network: its tracks begin by the search of the image filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.camera import CameraModel
from models.errors import DataError
from models.localization import Localizer
from models.metrics import Score, score_frame
from models.movie_localization import localize_movie
from models.movie_tracking import track_movie
from models.training import TrainingSettings, train
from tests.models.joint_fit_scenes import expected_frame
from tests.models.test_training import small_calibration

CAMERA = CameraModel(100.0, 0.5, 1.5)
FPS, FRAMES, SHAPE = 50.0, 24, (72, 96)
FIRST = np.array([[12.0, 14.0, 4.0], [40.0, 30.0, 9.0], [50.0, 10.0, 13.0], [20.0, 34.0, 7.0]])
VELOCITY_UM_S = np.array([[20.0, 10.0, 0.0], [-20.0, 0.0, 5.0], [0.0, 15.0, -5.0], [10.0, -10.0, 5.0]])
PHOTONS, BACKGROUND_E = 8000.0, 5.0


class Movie:
    """Frames of four emitters that move through the depth range of the small calibration."""

    path = Path("simulated.tif")
    times_s = None
    frame_period_s = 1 / FPS
    bit_depth = 16

    def __init__(self, counts: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> None:
        self.counts, self.shape = counts, counts.shape

    def __len__(self) -> int:
        return len(self.counts)

    def read(self, start: int, stop: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
        return self.counts[start:stop]


def places_um(frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return FIRST + VELOCITY_UM_S * frame / FPS


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    folder = tmp_path_factory.mktemp("models") / "matched"
    settings = TrainingSettings(architecture="matched", size="filter")
    card = train(small_calibration(), folder, settings, model_id="untrained")
    assert (card.architecture, card.training["frames"]) == ("matched", 0)
    return Localizer.load(folder, "cpu")


@pytest.fixture(scope="module")
def movie(localizer: Localizer) -> Movie:
    frames = []
    for n in range(FRAMES):
        light = np.column_stack([places_um(n), np.full(len(FIRST), PHOTONS)])
        electrons = np.random.default_rng(n).poisson(expected_frame(localizer.psf, light, BACKGROUND_E, SHAPE))
        frames.append(np.rint(electrons / 0.5 + 100).astype(np.uint16))
    return Movie(np.stack(frames))


def test_tracks_begin_without_training(localizer: Localizer, movie: Movie) -> None:
    assert not localizer.finds_candidates
    assert localizer.image_model is not None
    tracks, _ = track_movie(movie, localizer, localizer.image_model, FPS, static_light="off")  # type: ignore[arg-type]
    score = Score()
    for n in range(12, FRAMES):
        its = tracks.select(tracks.frame == n)
        score += score_frame(np.column_stack([its.x_um, its.y_um, its.z_um]), places_um(n), 3.0)
    assert score.recall is not None
    assert score.recall > 0.9
    assert score.precision == 1.0


def test_single_frames_are_refused(localizer: Localizer, movie: Movie) -> None:
    with pytest.raises(DataError, match="untrained has no network") as refused:
        localize_movie(movie, localizer, None, lambda _: None)  # type: ignore[arg-type]
    assert "Choose a trained model" in refused.value.remedy
    localizer.check_finds(fits=True)


def test_with_a_joint_fit_single_frames_are_localized(localizer: Localizer, movie: Movie) -> None:
    one = Movie(movie.counts[:1])
    found = localize_movie(one, localizer, localizer.refiner(), lambda _: None, static_light="off")  # type: ignore[arg-type]
    assert score_frame(found.xyz_um, places_um(0), 3.0).tp >= 3
