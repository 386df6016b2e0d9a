"""Beads are found once each, and their patterns are measured."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration.beads import Bead, crowding, find_beads, measure_cone


def spots(places: list[tuple[float, float]], sigma: float = 1.5, shape: tuple[int, int] = (80, 90)) -> np.ndarray:
    rows, columns = np.indices(shape)
    image = np.random.default_rng(0).normal(10, 1, shape)
    for x, y in places:
        image += 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return image.astype(np.float32)


def test_places_are_found_to_a_part_of_a_pixel() -> None:
    truth = [(20.3, 30.6), (60.0, 15.2), (70.5, 60.5)]
    found = find_beads(spots(truth)[None])
    assert found[np.argsort(found[:, 0])] == pytest.approx(np.array(truth), abs=0.15)


def test_two_beads_with_a_dip_are_two() -> None:
    assert len(find_beads(spots([(30.0, 40.0), (38.0, 40.0)])[None])) == 2


def test_a_wide_noisy_bead_is_one() -> None:
    assert len(find_beads(spots([(45.0, 40.0)], sigma=5.0)[None])) == 1


def test_places_outside_the_mask_are_not_found() -> None:
    mask = np.zeros((80, 90), bool)
    mask[:, :45] = True
    found = find_beads(spots([(20.0, 30.0), (60.0, 30.0)])[None], mask)
    assert found[:, 0] == pytest.approx([20.0], abs=0.2)


def test_nothing_is_found_in_noise() -> None:
    assert find_beads(spots([])[None]).shape == (0, 2)


def test_cone_follows_the_width() -> None:
    z = np.arange(-20.0, 21.0, 2)
    planes = np.stack([spots([(45.0, 40.0)], sigma=float(np.hypot(1.5, 0.3 * depth))) for depth in z])
    cone = measure_cone(planes, np.array([[45.0, 40.0]]), z)
    # A Gaussian falls to 2 % at 2.8 sigma.
    assert cone.slope_px == pytest.approx(2.8 * 0.3, rel=0.3)
    assert cone.at(0.0) == pytest.approx(2.8 * 1.5, abs=2.5)


def test_cone_follows_patterns_that_nearly_fill_the_profile() -> None:
    # Discs of 85 pixels leave a fifth of the profile: their slope must not pass for noise.
    z = np.arange(0.0, 101.0, 10)
    rows, columns = np.indices((240, 240)) - 120
    distance = np.hypot(rows, columns)
    noise = np.random.default_rng(3).normal(0, 0.3, (len(z), *distance.shape))
    planes = np.stack([5 + 2e4 / radius**2 * np.clip((radius - distance) / 8 + 0.5, 0, 1) for radius in 5 + 0.8 * z])
    cone = measure_cone((planes + noise).astype(np.float32), np.array([[120.0, 120.0]]), z)
    # The edge is 8 pixels wide, and a pixel is added.
    assert cone.at(100.0) == pytest.approx(85 + 5, abs=4)
    assert cone.slope_px == pytest.approx(0.8, abs=0.06)


def test_crowding_is_the_distance_to_the_next_bead() -> None:
    assert crowding(np.array([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0]]))[:2] == pytest.approx([5.0, 5.0])
    assert np.isinf(crowding(np.array([[1.0, 1.0]]))[0])


def test_a_bead_is_used_unless_there_is_a_reason() -> None:
    assert Bead(1.0, 2.0, 3.0).used
    assert not Bead(1.0, 2.0, 3.0, "dim").used
