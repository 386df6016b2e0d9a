from __future__ import annotations

import numpy as np
import pytest

from models.background.hot_pixels import hot_pixels
from models.optics import reference_psf
from models.synthesis import PatternTable
from tests.models.background.static_scenes import SHAPE, structure


@pytest.fixture(scope="module")
def table() -> PatternTable:
    return PatternTable(reference_psf())


def test_a_pixel_alone_is_hot() -> None:
    light = structure()
    light[10, 10] += 100
    light[0, 79] += 5000
    light[40, 40] += 30  # less than 8 standard deviations of the noise of a frame
    assert np.argwhere(hot_pixels(light, 1.6)).tolist() == [[0, 79], [10, 10]]


@pytest.mark.parametrize("offset_px", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("depth_um", [0.0, 2.0, 4.0, 6.9])
def test_an_emitter_in_focus_is_not(table: PatternTable, offset_px: float, depth_um: float) -> None:
    image = np.full(SHAPE, 5.0, np.float32)
    place = (30 + offset_px) * table.pixel_size_um
    table.render(np.array([[place, place, depth_um, 1e5]]), image)
    assert not hot_pixels(image, 1.6).any()
