from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.background.estimator import BLOCK_FRAMES, LightEstimator
from tests.models.background.static_scenes import CAMERA, SHAPE, exposed, spot, structure


def estimated(frames: Any, factors: Any = None) -> LightEstimator:
    estimator = LightEstimator(SHAPE, CAMERA)
    for n, counts in enumerate(frames):
        estimator.add(counts)
        estimator.weigh(1.0 if factors is None else factors[n])
    return estimator


@pytest.mark.parametrize("count", [128, 256, 600])
def test_static_light_is_found_without_bias(count: int) -> None:
    """Noise takes a known amount off the lowest block: without the correction the map would be 1.8 e- too dark."""
    truth = structure()
    light = estimated(exposed(truth, count)).light()
    assert abs(float((light - truth).mean())) < 0.25
    # The lowest of blocks of 16 frames: a pixel's noise of 5 e- is averaged to 1.3 e-.
    assert float((light - truth).std()) < 1.3


def test_a_moving_emitter_is_not_absorbed() -> None:
    truth = structure()
    frames = exposed(truth, 256, moving=True)
    middle = (slice(28, 36), slice(20, 60))
    mean_light = np.mean([spot(n)[middle] for n in range(256)])
    absorbed = (estimated(frames).light() - truth)[middle].mean()
    assert mean_light > 2.5
    assert abs(float(absorbed)) < 0.1 * mean_light


def test_flicker_does_not_darken_the_map() -> None:
    factors = np.where(np.arange(256) % 3 == 0, 0.8, 1.1)
    truth = structure()
    light = estimated(exposed(truth, 256, lamp=lambda n: factors[n]), factors).light()
    assert abs(float((light - truth).mean())) < 0.3


def test_bleaching_is_followed() -> None:
    """The light falls by 30 % in 1024 frames; the map knows the last 512 of them."""
    truth = structure()
    light = estimated(exposed(truth, 1024, lamp=lambda n: 1 - 0.3 * n / 1024)).light()
    ratio = float((light / truth).mean())
    assert 0.68 < ratio < 0.78


def test_blocks_are_joined_once() -> None:
    frames = exposed(structure(), 1)
    estimator = LightEstimator(SHAPE, CAMERA)
    ends = []
    for _ in range(70 * BLOCK_FRAMES):
        estimator.add(frames[0])
        if estimator.weigh(1.0):
            ends.append((estimator.frames, estimator.blocks))
    assert ends[:2] == [(16, 1), (32, 2)]
    assert ends[15:18] == [(256, 16), (288, 9), (320, 10)]
    assert ends[-1] == (1120, 16)
    # All blocks are of the same frame, so joining must not change a mean.
    mean = CAMERA.to_electrons(frames[0])
    np.testing.assert_allclose(estimator.squares(estimator.light()), estimator.squares(mean), atol=1.5)


def test_halves_are_of_disjoint_times() -> None:
    dim, bright = exposed(np.full(SHAPE, 10.0), 64), exposed(np.full(SHAPE, 30.0), 64)
    older, newer = estimated(np.concatenate([dim, bright])).halves()
    assert (abs(older.mean() - 10) < 1, abs(newer.mean() - 30) < 1) == (True, True)
