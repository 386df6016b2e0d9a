"""Binned images and PSFs equal the sums of their fine pixels."""

from __future__ import annotations

import numpy as np
import pytest

from models.binning import binned, binned_psf, whole_bins
from models.optics import reference_psf
from models.psf import Psf


def test_sums_over_squares() -> None:
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert whole_bins(image, 2).tolist() == [[12, 20], [52, 60]]
    # The last column is repeated to fill its square.
    assert binned(image, 2).tolist() == [[12, 20, 26], [52, 60, 66]]


def _measured() -> Psf:
    """One grid point per pixel, as a sweep gives it; smooth enough for its grid."""
    steps = np.arange(-15, 16)
    squared = steps[:, None] ** 2 + steps[None, :] ** 2
    spread = np.arange(2.0, 6.0)
    planes = np.exp(-squared / (2 * spread[:, None, None] ** 2))
    return Psf((planes / planes.sum(axis=(1, 2), keepdims=True)).astype(np.float32), np.arange(4.0), 1.0)


@pytest.mark.parametrize(("psf", "z_um"), [(reference_psf(), 30.0), (reference_psf(), 60.0), (_measured(), 2.0)])
def test_a_coarse_pattern_is_the_sum_of_the_fine_one(psf: Psf, z_um: float) -> None:
    coarse = binned_psf(psf)
    assert coarse.pixel_size_um == 2 * psf.pixel_size_um
    pixel_um = psf.pixel_size_um
    fine = psf.image(41.3 * pixel_um, 38.6 * pixel_um, z_um, (80, 80))
    # The first coarse pixel's centre is half a fine pixel from the first fine one's.
    image = coarse.image(40.8 * pixel_um, 38.1 * pixel_um, z_um, (40, 40))
    # Two grid points per coarse pixel leave three percent where rings are finer than it.
    np.testing.assert_allclose(image, whole_bins(fine, 2), rtol=0, atol=0.04 * image.max())
    assert image.sum() == pytest.approx(whole_bins(fine, 2).sum(), rel=0.005)
