"""Sweeps are refused for what they say about themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.calibration.sweep import Sweep, fit_peak
from models.errors import DataError


def stack(planes: int = 10, value: int = 100) -> np.ndarray:
    return np.full((planes, 1, 16, 16), value, np.uint16)


def test_three_axes_mean_one_repeat() -> None:
    sweep = Sweep.from_steps(stack()[:, 0], pixel_size_um=1.0, z_step_um=0.5, z_start_um=-2.0)
    assert sweep.planes.shape == (10, 1, 16, 16)
    assert sweep.z_um[0] == -2.0
    assert sweep.z_step_um == pytest.approx(0.5)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_step_must_be_positive(step: float) -> None:
    with pytest.raises(DataError, match="must be positive"):
        Sweep.from_steps(stack(), pixel_size_um=1.0, z_step_um=step)


@pytest.mark.parametrize(
    ("planes", "z_um", "pixel", "says"),
    [
        (stack(10).astype(np.float32), np.arange(10.0), 1.0, "unsigned 16-bit"),
        (stack(10), np.arange(9.0), 1.0, "10 planes but 9 positions"),
        (stack(4), np.arange(4.0), 1.0, "at least 8"),
        (stack(10), np.arange(10.0), 0.0, "pixel size at the sample is 0"),
        (stack(10), np.where(np.arange(10) == 3, np.nan, np.arange(10.0)), 1.0, "not numbers"),
        (stack(10), np.arange(10.0) % 5, 1.0, "back and forth"),
        (stack(10), np.arange(10.0) ** 2, 1.0, "must be even"),
    ],
)
def test_contradictions_are_refused(planes: np.ndarray, z_um: np.ndarray, pixel: float, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        Sweep(planes, z_um, pixel)


def test_falling_positions_are_a_sweep_that_goes_down() -> None:
    assert Sweep(stack(), -np.arange(10.0), 1.0).z_step_um == pytest.approx(-1.0)


def test_saturated_sweep_is_refused() -> None:
    planes = stack()
    planes[4, 0, :2] = 65535
    with pytest.raises(DataError, match="saturated"):
        Sweep(planes, np.arange(10.0), 1.0).check_exposure()


def test_saturation_follows_the_bit_depth() -> None:
    planes = stack()
    planes[4, 0, :2] = 4095
    with pytest.raises(DataError, match="count 4095"):
        Sweep(planes, np.arange(10.0), 1.0, 12).check_exposure()


def test_a_camera_of_12_bits_is_known_by_its_counts_in_a_file_of_16() -> None:
    light = np.random.default_rng(1).normal(3000, 900, (12, 1, 32, 32)).clip(0, None).astype(np.uint16)
    plain = Sweep(light, np.arange(12.0), 1.0)
    assert plain.saturation_adu == 65535
    overexposed = Sweep(light.clip(0, 4095), np.arange(12.0), 1.0)
    assert overexposed.saturation_adu == 4095
    with pytest.raises(DataError, match="count 4095"):
        overexposed.check_exposure()
    chance = light.clip(0, 4000)
    chance[0, 0, 0, 0] = 4095
    assert Sweep(chance, np.arange(12.0), 1.0).saturation_adu == 65535


@pytest.mark.parametrize(("highest", "shift", "less"), [(4095, 4, 0), (16383, 2, 0), (3000, 0, 0), (4095, 0, 90)])
def test_a_top_that_many_pixels_share_is_saturation_whatever_its_value(highest: int, shift: int, less: int) -> None:
    random = np.random.default_rng(2)
    rows, columns = np.indices((48, 48)) % 16 - 8
    bead = np.exp(-(rows**2 + columns**2) / 12)
    light = random.normal(100 + 3 * highest * bead, 4 + np.sqrt(highest * bead), (9, 1, 48, 48)).clip(95, None)
    plain = (((light / 4).astype(np.uint16) << shift) - less).astype(np.uint16)
    assert Sweep(plain, np.arange(9.0), 1.0).saturation_adu == 65535
    cut = ((light.clip(None, highest).astype(np.uint16) << shift) - less).astype(np.uint16)
    assert Sweep(cut, np.arange(9.0), 1.0).saturation_adu == (highest << shift) - less


@pytest.mark.parametrize(
    ("pixel", "step", "says"),
    [
        (16.0, 1.0, "pixel of the camera itself"),
        (1600.0, 1.0, "1600 nm are 1.6 µm"),
        (1.6, 1000.0, "1000 nm are 1 µm"),
        (1.6, 1e-7, "plausible values"),
    ],
)
def test_lengths_in_other_units_are_refused(pixel: float, step: float, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Sweep.from_steps(stack(), pixel_size_um=pixel, z_step_um=step)


def test_a_few_pixels_at_the_top_of_high_bits_are_saturated() -> None:
    planes = np.random.default_rng(6).integers(90, 2000, (9, 1, 32, 32)).astype(np.uint16) << 4
    planes[3, 0, 5, [4, 9, 20, 25]] = 65520
    assert Sweep(planes, np.arange(9.0), 1.0).saturation_adu == 65520


def test_black_sweep_is_refused() -> None:
    with pytest.raises(DataError, match="Every pixel"):
        Sweep(stack(), np.arange(10.0), 1.0).check_exposure()


def test_sweep_without_focus_is_refused() -> None:
    planes = np.random.default_rng(1).poisson(100, (12, 1, 64, 64)).astype(np.uint16)
    with pytest.raises(DataError, match="Nothing changes with focus"):
        Sweep(planes, np.arange(12.0), 1.0).focus_curve()


def test_peak_is_found_between_planes() -> None:
    z = np.arange(-10.0, 11.0)
    assert fit_peak(z, np.exp(-((z - 0.37) ** 2) / 18)) == pytest.approx(0.37, abs=1e-6)


def test_peak_at_the_end_stays_at_the_end() -> None:
    z = np.arange(10.0)
    assert fit_peak(z, 10.0 - z) <= 1.0
