"""Noise has the stated mean and variance at every level."""

from __future__ import annotations

import numpy as np
import pytest

from models.camera import CameraModel
from models.noise import detect_electrons


@pytest.mark.parametrize("mean", [0.05, 0.5, 3.0, 5.0, 40.0, 3000.0])
def test_shot_noise_has_poisson_mean_and_variance(mean: float) -> None:
    expected = np.full((500, 500), mean, np.float32)
    detected = np.empty_like(expected)
    detect_electrons(expected, detected, np.uint64(3), np.float32(0))
    # 250,000 draws: standard errors of mean and variance, four of them; the approximation adds under 3 %.
    error = 4 * np.sqrt(mean / expected.size)
    assert detected.mean() == pytest.approx(mean, abs=error + 1e-3 * mean)
    assert detected.var() == pytest.approx(mean, rel=0.04)
    assert detected.min() >= 0


def test_read_noise_adds() -> None:
    expected = np.full((400, 400), 9.0, np.float32)
    detected = np.empty_like(expected)
    detect_electrons(expected, detected, np.uint64(4), np.float32(2.0))
    assert detected.var() == pytest.approx(9 + 4, rel=0.04)


def test_equal_seeds_give_equal_frames_and_others_differ() -> None:
    camera = CameraModel(100.0, 0.46, 1.6)
    light = np.full((32, 32), 20.0, np.float32)
    np.testing.assert_array_equal(camera.expose(light, 5), camera.expose(light, 5))
    assert (camera.expose(light, 5) != camera.expose(light, 6)).any()


def test_counts_saturate_at_the_bit_depth() -> None:
    camera = CameraModel(100.0, 1.0, 0.0, bit_depth=12)
    assert camera.expose(np.full((4, 4), 1e6, np.float32), 1).max() == 4095
