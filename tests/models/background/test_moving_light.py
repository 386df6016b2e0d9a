"""Static light beneath emitters that move, from both together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.background.moving_light import MovingLight
from models.binning import binned_psf
from models.optics import REFERENCE_OPTICS, computed_psf
from models.pattern_spline import PatternSpline
from models.psf import Psf
from models.synthesis import PatternTable

SHAPE = (96, 102)
"""Not a multiple of the squares."""


@pytest.fixture(scope="module")
def psf() -> Psf:
    return computed_psf(REFERENCE_OPTICS, np.arange(0.0, 31.0))


def _scene(psf: Psf, count: int = 40) -> tuple[Any, ...]:
    """Blotches, and three emitters whose light never leaves the middle row."""
    rows, columns = np.indices(SHAPE)
    static = 20 + 15 * np.exp(-((rows - 30) ** 2 + (columns - 60) ** 2) / 200.0) + 5 * np.cos(columns / 9)
    photons = np.array([20_000.0, 8_000.0, 14_000.0])
    table = PatternTable(psf)
    frames, places = [], []
    for number in range(count):
        x_px = (np.array([10.0, 40.0, 70.0]) + 0.9 * number) % 100
        at = np.column_stack([x_px, np.full(3, 48.0), np.array([12.0, 20.0, 25.0])])
        image = static.astype(np.float32)
        pixel_um = psf.pixel_size_um
        table.render(np.column_stack([at[:, :2] * pixel_um, at[:, 2], photons]), image)
        frames.append(image)
        places.append(at)
    return static, photons, frames, places


def _sums(psf: Psf, frames: Any, places: Any) -> MovingLight:
    sums = MovingLight(PatternSpline(binned_psf(binned_psf(psf))), 4, frames[0])
    for image, at in zip(frames, places, strict=True):
        sums.add(image, np.arange(3) + 7, at)
    return sums


def test_light_that_never_leaves_is_told_from_static_light_by_its_changes(psf: Psf) -> None:
    static, photons, frames, places = _scene(psf)
    light, found = _sums(psf, frames, places).light(np.array([7, 8, 9]))
    assert found == pytest.approx(photons, rel=0.05)
    assert np.sqrt(np.mean((light - static) ** 2)) < 1
    mean = np.mean(frames, axis=0)
    assert np.sqrt(np.mean((mean - static) ** 2)) > 3


def test_tracks_that_do_not_take_part_stay_in_the_light(psf: Psf) -> None:
    _, _, frames, places = _scene(psf)
    sums = _sums(psf, frames, places)
    light, none = sums.light(np.array([], np.int64))
    assert light == pytest.approx(np.mean(frames, axis=0), rel=1e-4)
    assert len(none) == 0
    _, found = sums.light(np.array([5, 7]))
    assert found[0] == 0
    assert found[1] > 0


def test_frames_without_tracks_count(psf: Psf) -> None:
    static, _, frames, places = _scene(psf)
    sums = _sums(psf, frames, places)
    for _ in range(len(frames)):
        sums.add(static.astype(np.float32), np.array([], np.int64), np.zeros((0, 3)))
    light, found = sums.light(np.array([7, 8, 9]))
    assert np.sqrt(np.mean((light - static) ** 2)) < 1
    assert (found > 5000).all()
