"""Rendered scenes agree with their truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.motion import Directed
from models.optics import Objective, computed_psf
from models.scene import EmitterScene, slide_scene

PSF = computed_psf(Objective(0.45, 0.52, 0.65), np.arange(-4.0, 25.0))


def scene(velocity_um_s: float = 0.0) -> EmitterScene:
    motion = Directed(np.array([[30.0, 20.0, 8.0]]), np.array([[velocity_um_s, 0.0, 0.0]]))
    return EmitterScene(PSF, (64, 96), motion, np.array([1e4]), background_e=3.0)


def centroid_um(image: np.ndarray) -> tuple[float, float]:
    light = np.asarray(image, np.float64) - image.min()
    rows, columns = np.indices(image.shape)
    return float((light * columns).sum() / light.sum() * 0.65), float((light * rows).sum() / light.sum() * 0.65)


def test_light_is_centred_on_the_truth() -> None:
    image = scene(50.0).render(0.1, 0.01, 0.0)
    truth = scene(50.0).truth(0.1, 0.0)
    assert centroid_um(image) == pytest.approx(tuple(truth[0, 1:3]), abs=0.2)


def test_moving_the_stage_changes_the_depth_by_as_much() -> None:
    assert scene().truth(0.0, 5.0)[0, 3] == pytest.approx(3.0)
    near, far = (scene().render(0.0, 0.01, stage).max() for stage in (5.0, 0.0))
    assert near > 2 * far


def test_exposure_scales_the_light() -> None:
    short, long = (scene().render(0.0, exposure, 0.0).sum() for exposure in (0.005, 0.01))
    assert long == pytest.approx(2 * short, rel=1e-3)


def test_fast_emitters_are_blurred_along_their_way() -> None:
    still, fast = scene().render(0.0, 0.01, 6.0), scene(1000.0).render(0.0, 0.01, 6.0)
    assert fast.sum() == pytest.approx(still.sum(), rel=0.01)
    assert fast.max() < 0.7 * still.max()


def test_moving_the_xy_stage_moves_the_light_and_the_truth_by_as_much() -> None:
    image = scene().render(0.0, 0.01, 0.0, (6.5, -2.6))
    truth = scene().truth(0.0, 0.0, (6.5, -2.6))
    assert truth[0, 1:3].tolist() == [36.5, pytest.approx(17.4)]
    assert centroid_um(image) == pytest.approx(tuple(truth[0, 1:3]), abs=0.2)


def test_a_slide_changes_at_every_plane_of_a_sweep_beyond_focus() -> None:
    # A sweep goes 8 µm beyond focus and one more step; planes with equal images look like a drive that stands still.
    slide = slide_scene((64, 64), emitters=1)
    images = [slide.render(0.0, 0.01, stage) for stage in np.arange(5.0, 12.0)]
    steps = [np.abs(after - before).max() for before, after in itertools.pairwise(images)]
    assert min(steps) > 0.01 * max(steps)
