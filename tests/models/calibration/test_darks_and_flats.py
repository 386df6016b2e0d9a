"""Figures of a simulated camera are measured from its darks and flats."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from models.calibration.darks_and_flats import measure_camera
from models.camera import CameraModel
from models.errors import DataError


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


QUIET = exposures(CameraModel(100.0, 0.5, 2.0), 0.0, 12)


def _flats(*levels_e: float, count: int = 4) -> np.ndarray:
    return np.concatenate([exposures(CameraModel(100.0, 0.5, 2.0), level, count) for level in levels_e])


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("one dark", "at least 2 frames"),
        ("darks saturated", "saturated"),
        ("darks copied", "Frames 0 and 3 of the darks are equal in every pixel"),
        ("darks at zero", "of the darks are 0"),
        ("darks smoothed", "darks is correlated"),
        ("light leaks in", "The darks are uneven"),
        ("one dark is bright", "1 of the 12 darks differ from the others, most of all frame 7"),
        ("darks get brighter", "differ from the others"),
        ("other size", "both must be alike"),
        ("flats are dark", "a flat must contain light"),
        ("flats copied", "of the flats are equal in every pixel"),
        ("one of each level", "same level"),
        ("flats averaged", "not noisier"),
        ("flats saturated", "flats are saturated (count 65535)"),
        ("flats saturated at 12 bits", "flats are saturated (count 4095)"),
        ("flats saturated at 12 high bits", "flats are saturated (count 65520)"),
        ("flats smoothed", "flats is correlated"),
        ("light moves over the flats", "a light pattern moves"),
        ("bright flats averaged", "The flats disagree"),
    ],
)
def test_bad_frames_are_refused(fault: str, says: str) -> None:
    random = np.random.default_rng(3)
    darks, flats = QUIET.copy(), _flats(2000.0, 6000.0)
    if fault == "one dark":
        darks = darks[:1]
    elif fault == "darks saturated":
        darks[:, :8] = 65535
    elif fault == "darks copied":
        darks[3] = darks[0]
    elif fault == "darks at zero":
        darks = (darks.astype(np.int64) - 104).clip(0).astype(np.uint16)
    elif fault == "darks smoothed":
        darks = ndimage.gaussian_filter(8.0 * darks, (0, 0.8, 0.8)).astype(np.uint16)
    elif fault == "light leaks in":
        electrons = np.broadcast_to(np.linspace(0, 60, 64, dtype=np.float32), (64, 64)).copy()
        darks = np.stack([CameraModel(100.0, 0.5, 2.0).expose(electrons, seed) for seed in range(12)])
    elif fault == "one dark is bright":
        darks[7] = exposures(CameraModel(100.0, 0.5, 2.0), 40.0, 1)[0]
    elif fault == "darks get brighter":
        darks += (5 * np.arange(12, dtype=np.uint16))[:, None, None]
    elif fault == "other size":
        flats = flats[:, :50]
    elif fault == "flats are dark":
        flats = exposures(CameraModel(100.0, 0.5, 2.0), 0.25, 4)
    elif fault == "flats copied":
        flats[2] = flats[1]
    elif fault == "one of each level":
        flats = _flats(500.0, 1500.0, 4500.0, count=1)
    elif fault == "flats averaged":
        flats = (900 + random.normal(0, 0.4, flats.shape)).round().astype(np.uint16)
    elif fault == "flats saturated":
        flats = _flats(32_800.0)
    elif fault.startswith("flats saturated at 12"):
        flats = _flats(1980.0).clip(0, 4095)
        flats = flats << 4 if "high" in fault else flats
        darks = darks << 4 if "high" in fault else darks
    elif fault == "flats smoothed":
        flats = ndimage.gaussian_filter(flats.astype(float), (0, 0.8, 0.8)).astype(np.uint16)
    elif fault == "bright flats averaged":
        bright = exposures(CameraModel(100.0, 0.5, 2.0), 6000.0, 16)
        flats = np.concatenate([_flats(2000.0), bright.reshape(4, 4, 64, 64).mean(axis=1).round().astype(np.uint16)])
    else:
        # A fan or a dirty fibre: the light moves over the field from frame to frame, more of it where it is bright.
        wave = 1 + 0.03 * np.sin(np.arange(64) / 9.0 + random.uniform(0, 6, (8, 1)))
        flats = (100 + (flats - 100.0) * wave[:, None, :]).astype(np.uint16)
    with pytest.raises(DataError, match=re.escape(says)) as refused:
        measure_camera(darks, flats)
    assert refused.value.remedy


def test_flats_whose_light_is_neither_even_nor_steady_give_the_gain() -> None:
    camera = CameraModel(100.0, 0.5, 2.0)
    vignette = 1 - 0.5 * (np.hypot(*np.indices((64, 64)) - 32) / 45) ** 2
    lamp = 1 + 0.02 * np.random.default_rng(2).standard_normal(10)
    flats = np.stack([camera.expose((20_000 * light * vignette).astype(np.float32), i) for i, light in enumerate(lamp)])
    assert measure_camera(QUIET, flats).camera.electrons_per_adu == pytest.approx(0.5, rel=0.05)


def test_columns_with_noise_of_their_own_are_a_camera() -> None:
    random = np.random.default_rng(9)
    columns = random.normal(0, 3, (16, 1, 64))
    darks = (exposures(CameraModel(100.0, 0.5, 2.0), 0.0, 12) + columns[:12]).round().astype(np.uint16)
    assert measure_camera(darks).camera.offset_adu == pytest.approx(100, abs=1)


def test_few_darks_are_told() -> None:
    assert any("3 darks are few" in note for note in measure_camera(QUIET[:3]).notes)
