"""Patterns of spheres: the mean of the patterns of their points."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import DataError
from models.object_size import ObjectSize, psf_of_sphere
from models.psf import Psf

GRID_UM, STEP_UM = 0.25, 0.5


def _psf() -> Psf:
    """A Gaussian that widens with depth, 31 planes."""
    z_um = STEP_UM * np.arange(31)
    axis = GRID_UM * (np.arange(121) - 60)
    squared = axis[:, None] ** 2 + axis[None, :] ** 2
    planes = []
    for depth in z_um:
        width = 1.0 + 0.15 * depth
        planes.append(np.exp(-squared / (2 * width**2)) * GRID_UM**2 / (2 * np.pi * width**2))
    return Psf(np.array(planes, np.float32), z_um, 2 * GRID_UM, 2)


def _moments(plane: np.ndarray) -> tuple[float, float]:
    """Light and variance along an axis, µm²."""
    axis = GRID_UM * (np.arange(121) - 60)
    return float(plane.sum()), float((plane.sum(axis=0) * axis**2).sum() / plane.sum())


def test_a_sphere_widens_the_pattern_by_its_second_moment_and_keeps_the_light() -> None:
    point, sphere = _psf(), psf_of_sphere(_psf(), 4.0)
    for index in (10, 15):
        before, after = _moments(point.planes[index]), _moments(sphere.planes[index])
        assert after[0] == pytest.approx(before[0], abs=1e-4)
        # R²/5 of the sphere, and of its sections at other depths the curvature of width² times the variance R²/5 of h.
        expected = before[1] + 4.0 / 5 + 0.15**2 * 4.0 / 5
        assert after[1] == pytest.approx(expected, rel=0.01)


def test_a_sphere_is_the_mean_of_many_points_in_it() -> None:
    psf, radius = _psf(), 2.0
    rng = np.random.default_rng(3)
    inside = rng.uniform(-radius, radius, (40_000, 3))
    inside = inside[(inside**2).sum(axis=1) < radius**2]
    axis = np.linspace(-6, 6, 25)
    values = [psf.evaluate(x - inside[:, 0], -inside[:, 1], 7.0 + inside[:, 2]).mean() for x in axis]
    assert psf_of_sphere(psf, 2 * radius).evaluate(axis, np.zeros(25), np.full(25, 7.0)) == pytest.approx(
        np.array(values), abs=2e-4
    )


def test_sections_of_the_sphere_are_at_their_own_depths() -> None:
    """Only one plane has light: the planes around it get the sections at their distance."""
    psf = _psf()
    planes = np.zeros_like(psf.planes)
    planes[15] = psf.planes[15]
    light = psf_of_sphere(Psf(planes, psf.z_um, psf.pixel_size_um, psf.oversampling), 4.0).planes.sum(axis=(1, 2))
    assert light.sum() == pytest.approx(planes.sum(), rel=1e-4)
    at_um = STEP_UM * (np.arange(31) - 15)
    expected = np.where(np.abs(at_um) < 2, 3 * (4 - at_um**2) / 32 * STEP_UM, 0)
    assert light / planes.sum() == pytest.approx(expected, abs=0.03)


def test_no_size_changes_nothing() -> None:
    psf = _psf()
    assert psf_of_sphere(psf, 0.0) is psf


def test_what_beads_have_of_the_size_is_not_added_again() -> None:
    assert ObjectSize(5.0, 3.0).missing_um == pytest.approx(4.0)
    assert ObjectSize(5.0).missing_um == 5.0


@pytest.mark.parametrize(
    ("object_um", "bead_um", "message"),
    [
        (1.0, 2.0, "smaller than the beads"),
        (0.0, 0.0, "diameter"),
        (5000.0, 0.0, "nanometres"),
        (5.0, -1.0, "diameter"),
    ],
)
def test_impossible_sizes_are_refused(object_um: float, bead_um: float, message: str) -> None:
    with pytest.raises(DataError) as refused:
        ObjectSize(object_um, bead_um)
    assert message in f"{refused.value}"
