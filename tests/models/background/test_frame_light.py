from __future__ import annotations

import numpy as np

from models.background.frame_light import FrameLight, LightMap, remove_light
from tests.models.background.static_scenes import CAMERA, SHAPE, exposed, structure


def test_what_remains_is_even_and_keeps_the_light_of_emitters() -> None:
    truth = structure()
    emitter = np.zeros(SHAPE, np.float32)
    emitter[30:34, 40:44] = 50
    frame = CAMERA.expose(truth + emitter, seed=5)
    light = LightMap(truth, CAMERA)
    left = CAMERA.to_electrons(light.removed_from(frame, 1.0))
    elsewhere = emitter == 0
    assert abs(float(left[elsewhere].mean()) - light.level_e) < 0.3
    assert abs(np.corrcoef(left[elsewhere], truth[elsewhere])[0, 1]) < 0.05
    np.testing.assert_allclose(left[30:34, 40:44].mean() - light.level_e, 50, atol=4 * 9 / 4)


def test_a_flash_of_the_lamp_leaves_no_structure() -> None:
    truth = structure()
    frame = CAMERA.expose(truth * np.float32(1.5), seed=6)
    left = CAMERA.to_electrons(LightMap(truth, CAMERA).removed_from(frame, 1.5))
    assert abs(np.corrcoef(left.ravel(), truth.ravel())[0, 1]) < 0.05


def test_an_even_map_changes_no_count() -> None:
    frames = exposed(structure(), 2)
    light = FrameLight(LightMap(np.full(SHAPE, 7.3, np.float32), CAMERA), 1.07)
    np.testing.assert_array_equal(remove_light(frames, [light, None]), frames)
    assert remove_light(frames, [None, None]) is frames


def test_the_noise_of_a_hot_pixel_is_limited() -> None:
    """A pixel of 10,000 e- has a noise of 100 e-; the input of the network has three times that of its neighbours."""
    truth = np.full(SHAPE, 10.0, np.float32)
    truth[20, 20] = 10_000
    light = LightMap(truth, CAMERA)
    left = [CAMERA.to_electrons(light.removed_from(counts, 1.0))[20, 20] for counts in exposed(truth, 40)]
    assert abs(np.mean(left) - 10) < 7
    assert 6 < np.std(left) < 16  # 3 sqrt(10 + 1.6²) = 10.6


def test_the_backdrop_is_what_a_fit_adds_to_its_background() -> None:
    truth = structure()
    light = FrameLight(LightMap(truth, CAMERA), 1.2)
    assert light.backdrop_e.min() == 0
    inside = truth > light.light.darkest_e
    background = 1.2 * light.light.darkest_e
    np.testing.assert_allclose((light.backdrop_e + background)[inside], 1.2 * truth[inside], rtol=1e-5)
    assert np.isclose(background + light.backdrop_level_e, 1.2 * np.median(truth), rtol=1e-5)
