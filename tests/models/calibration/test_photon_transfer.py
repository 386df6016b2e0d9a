"""Camera figures come back from frames that a known camera took."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration.photon_transfer import estimate_camera, measure_camera
from models.camera import CameraModel
from models.errors import DataError
from tests.models.bead_sweeps import CAMERA, simulate


def exposures(camera: CameraModel, level_e: float, count: int, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    electrons = np.full(shape, level_e, np.float32)
    return np.stack([camera.expose(electrons, int(level_e) * 1000 + index) for index in range(count)])


def test_darks_and_flats_give_the_camera_back() -> None:
    camera = CameraModel(100.0, 0.46, 1.6)
    flats = np.concatenate([exposures(camera, level, 10) for level in (50.0, 500.0, 3000.0)])
    measured = measure_camera(exposures(camera, 0.0, 60), flats)
    assert measured.camera.offset_adu == pytest.approx(100, abs=0.1)
    assert measured.camera.electrons_per_adu == pytest.approx(0.46, rel=0.03)
    assert measured.camera.read_noise_e == pytest.approx(1.6, rel=0.03)
    assert measured.offset_map_adu is not None
    assert measured.offset_map_adu.shape == (64, 64)


def test_one_level_is_enough_and_few_darks_give_no_maps() -> None:
    camera = CameraModel(100.0, 2.0, 4.0)
    measured = measure_camera(exposures(camera, 0.0, 10), exposures(camera, 900.0, 10))
    assert measured.camera.electrons_per_adu == pytest.approx(2.0, rel=0.05)
    assert measured.offset_map_adu is None
    assert any("maps need" in note for note in measured.notes)


def test_without_flats_the_gain_is_said_to_be_unknown() -> None:
    measured = measure_camera(exposures(CameraModel(100.0, 2.0, 4.0), 0.0, 10))
    assert measured.camera.electrons_per_adu == 1.0
    assert any("gain is unknown" in note for note in measured.notes)


def test_hot_pixels_are_listed() -> None:
    darks = exposures(CameraModel(100.0, 1.0, 3.0), 0.0, 60)
    darks[:, 5, 9] += 80
    darks[::2, 20, 30] += 60
    assert {(5, 9), (20, 30)} == {tuple(place) for place in measure_camera(darks).hot_pixels.tolist()}


@pytest.mark.parametrize(
    ("darks", "flats", "says"),
    [
        (np.zeros((1, 8, 8), np.uint16), None, "at least 2 frames"),
        (np.full((4, 8, 8), 65535, np.uint16), None, "saturated"),
        (np.full((4, 8, 8), 100, np.uint16), np.full((4, 9, 8), 900, np.uint16), "both must be alike"),
        (np.full((4, 8, 8), 100, np.uint16), np.full((4, 8, 8), 100, np.uint16), "a flat shows light"),
        (
            np.full((4, 8, 8), 100, np.uint16),
            np.arange(1, 5, dtype=np.uint16)[:, None, None] * np.full((1, 8, 8), 500, np.uint16),
            "same level",
        ),
        (np.full((4, 8, 8), 100, np.uint16), np.full((4, 8, 8), 900, np.uint16), "not noisier"),
    ],
)
def test_bad_frames_are_refused(darks: np.ndarray, flats: np.ndarray | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        measure_camera(darks, flats)


@pytest.mark.parametrize("repeats", [1, 2])
def test_camera_is_estimated_from_a_sweep(repeats: int) -> None:
    # Shallow steps, as a real sweep has them: then neighbouring planes differ by noise more than by focus.
    sweep, _ = simulate(beads=9, repeats=repeats, z_um=np.arange(-4.0, 20.0, 0.5))
    camera = estimate_camera(sweep).camera
    background_adu = 20 / CAMERA.electrons_per_adu  # counts as offset, as the note says
    assert camera.offset_adu == pytest.approx(CAMERA.offset_adu + background_adu, abs=1.0)
    assert camera.electrons_per_adu == pytest.approx(CAMERA.electrons_per_adu, rel=0.1 if repeats > 1 else 0.25)


def test_noise_free_sweep_has_no_read_noise() -> None:
    sweep, _ = simulate(beads=4, noise=False)
    measured = estimate_camera(sweep)
    assert (measured.camera.read_noise_e, measured.camera.electrons_per_adu) == (0.0, 1.0)
    assert "no noise" in measured.notes[0]
