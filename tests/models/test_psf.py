"""The PSF: between its samples, outside them, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.psf import Psf, plane_centres

PIXEL_UM = 0.5


def gaussian_psf(oversampling: int = 2, half: int = 12) -> Psf:
    """A Gaussian whose width grows with depth; smooth enough for cubic interpolation to be exact to 1e-3."""
    z = np.arange(0.0, 11.0)
    at = np.arange(-half, half + 1) / oversampling
    squared = at[:, None] ** 2 + at[None, :] ** 2
    sigma = (1.2 + 0.1 * z)[:, None, None]
    planes = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return Psf(planes.astype(np.float32), z, PIXEL_UM, oversampling)


def test_values_between_samples_are_those_of_the_function() -> None:
    psf = gaussian_psf()
    x, y, z = 0.37, -0.81, 4.4
    sigma = 1.2 + 0.1 * z
    expected = np.exp(-(x**2 + y**2) / (2 * (sigma * PIXEL_UM) ** 2)) / (2 * np.pi * sigma**2)
    assert psf.evaluate(np.array(x), np.array(y), np.array(z)) == pytest.approx(expected, rel=2e-3)


def test_light_outside_the_planes_is_zero() -> None:
    assert gaussian_psf().evaluate(np.array([40.0]), np.array([0.0]), np.array([1.0])) == 0


def test_an_image_has_unit_light_and_the_right_centre() -> None:
    image = gaussian_psf().image(10.3, 8.1, 2.0, (40, 50))
    assert image.sum() == pytest.approx(1.0, abs=0.02)
    rows, columns = np.indices(image.shape)
    assert (image * columns).sum() / image.sum() * PIXEL_UM == pytest.approx(10.3, abs=0.02)
    assert (image * rows).sum() / image.sum() * PIXEL_UM == pytest.approx(8.1, abs=0.02)


def test_one_side_keeps_the_planes_around_the_range() -> None:
    kept = gaussian_psf().one_sided(2.5, 7.0)
    assert kept.z_um[0] <= 2.5
    assert kept.z_um[-1] == pytest.approx(7.0)


def test_a_saved_psf_comes_back(tmp_path: Path) -> None:
    psf = gaussian_psf()
    psf.save(tmp_path / "psf.zarr")
    again = Psf.load(tmp_path / "psf.zarr")
    np.testing.assert_array_equal(again.planes, psf.planes)
    np.testing.assert_array_equal(again.z_um, psf.z_um)
    assert (again.pixel_size_um, again.oversampling) == (PIXEL_UM, 2)


def test_the_error_for_a_missing_psf_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Calibrate again"):
        Psf.load(tmp_path / "none.zarr")


@pytest.mark.parametrize(
    ("planes", "z"),
    [
        (np.zeros((5, 4, 4), np.float32), np.arange(5.0)),
        (np.zeros((5, 5, 5), np.float32), np.array([0.0, 1.0, 2.0, 4.0, 5.0])),
        (np.zeros((5, 5, 5), np.float32), np.arange(5.0)[::-1]),
        (np.zeros((3, 5, 5), np.float32), np.arange(3.0)),
    ],
    ids=["even width", "uneven depths", "decreasing depths", "too few planes"],
)
def test_planes_that_are_no_psf_are_refused(planes: np.ndarray, z: np.ndarray) -> None:
    with pytest.raises(DataError):
        Psf(planes, z, 0.5)


def test_centres_of_planes() -> None:
    at = np.arange(-20, 21)
    spot = np.exp(-((at - 2.3) ** 2)[None, :] / 18 - ((at + 4.6) ** 2)[:, None] / 18).astype(np.float32)
    np.testing.assert_allclose(plane_centres(np.stack([spot, 7 * spot])), [[2.3, -4.6]] * 2, atol=1e-3)
    assert plane_centres(np.zeros((1, 41, 41), np.float32)).tolist() == [[0.0, 0.0]]


def test_a_faint_rim_and_noise_hardly_move_a_centre() -> None:
    at = np.arange(-60, 61)
    disc = (np.hypot(at[None, :], at[:, None]) < 40).astype(np.float32)
    noise = np.random.default_rng(5).normal(0, 0.02, disc.shape)
    noise[:, 100:] += 0.02
    moved = plane_centres((disc + noise)[None].astype(np.float32))[0]
    assert np.abs(moved).max() < 0.05  # the mean place of all light moves by 0.5
