"""Shared parts of joint fits: depths, bounds, and the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.camera import CameraModel
from models.errors import DataError
from models.fit.joint_fit import JointFit
from models.fit.scale import FitScale, fit_range_um, negative_defocus_um, read_variance
from models.fit.table import localizations_of
from tests.models.joint_fit_scenes import asymmetric_psf
from tests.models.test_psf import gaussian_psf


def test_fits_stay_on_one_side_of_focus_and_reach_as_deep_as_the_psf() -> None:
    psf = gaussian_psf()
    low, high = fit_range_um(psf, (1.0, 5.0))
    assert 1.0 < low < 1.1
    assert high == psf.z_um[-1]


def test_depths_beyond_the_psf_are_rejected() -> None:
    psf = gaussian_psf()
    with pytest.raises(DataError, match="the PSF covers"):
        fit_range_um(psf, (1.0, float(psf.z_um[-1]) + 1.0))


def test_negative_defocus_is_fitted_where_patterns_differ() -> None:
    psf = asymmetric_psf()
    far = negative_defocus_um(psf, (0.0, 20.0))
    assert far is not None
    assert far[0] == psf.z_um[0]
    assert far[1] < 0
    scale = FitScale(psf, 1, (0.05, 20.0), CameraModel(), far)
    _, _, (low, high) = scale.bounds((20, 30), np.array([-4.0, 4.0]))
    assert np.all(low == [psf.z_um[0], 0.05])
    assert np.all(high == [far[1], 20.0])
    # With field curvature reported depths begin before focus; emitters there count as positive defocus.
    before = negative_defocus_um(psf, (-0.8, 20.0))
    assert before is not None
    assert before[1] < -0.8
    _, _, (low, high) = FitScale(psf, 1, (-0.75, 20.0), CameraModel(), before).bounds((20, 30), np.array([-0.75, 0.1]))
    assert np.all(low == -0.75)
    assert np.all(high == 20.0)
    # None if the range crosses focus, the calibration ends at it, or both sides are the same.
    assert negative_defocus_um(psf, (-5.0, 20.0)) is None
    assert negative_defocus_um(gaussian_psf(), (0.5, 5.0)) is None
    mirrored = np.concatenate([psf.planes[psf.z_um > 0][::-1], psf.planes[psf.z_um >= 0]])
    depths = psf.z_um[psf.z_um > 0]
    symmetric = replace(psf, planes=mirrored, z_um=np.concatenate([-depths[::-1], [0.0], depths]))
    assert negative_defocus_um(symmetric, (0.0, 20.0)) is None


def test_a_binned_pixel_has_the_read_noise_of_all_its_pixels() -> None:
    camera = CameraModel(read_noise_e=1.5)
    assert read_variance(camera) == pytest.approx(2.25)
    assert read_variance(CameraModel(read_noise_e=0.0)) > 0
    assert FitScale(gaussian_psf(), 2, (1.0, 5.0), camera).read_variance == pytest.approx(9.0)


def test_emitters_may_lie_outside_the_frame_in_the_fit_but_not_in_the_table() -> None:
    psf = gaussian_psf()
    scale = FitScale(psf, 1, (1.0, 8.0), CameraModel())
    (left, right), (top, bottom), depths = scale.bounds((20, 30))
    assert left < 0 < 29 < right
    assert top < 0 < 19 < bottom
    assert depths == (1.0, 8.0)
    fit = JointFit(
        emitters=np.array([[3.0, 4.0, 2.0, 500.0], [-2.0, 4.0, 2.0, 500.0], [3.0, 4.0, 7.0, 500.0]]),
        sigma=np.ones((3, 4)) * [0.1, 0.2, 50.0, 9.0],
        photon_covariance=np.eye(3),
        overlap=np.eye(3),
        background=1.0,
        expected=np.ones((20, 30), np.float32),
        chi2=np.array([4.0, 1.0, 1.0]),
        unexplained=np.full(3, 0.01),
        pattern_error=np.full(3, 0.01),
        psf_error_shift=np.full((3, 3), 5.0),
        cost=0.0,
        evaluations=1,
    )
    table = localizations_of(fit, 7, np.ones(3), spline=scale.spline, reported_um=(1.0, 5.0), fitted_um=(1.0, 8.0))
    assert table.frame.tolist() == [7]
    assert (table.x_um[0], table.y_um[0]) == pytest.approx((3 * psf.pixel_size_um, 4 * psf.pixel_size_um))
    assert table.z_um[0] == 2.0
    # A misfit of four doubles sigma, two neighbours add a twelfth of the variance, and a pattern error of five pixels
    # adds 12 % of these. Depth is known at least to the depths fitted.
    pixel_um = psf.pixel_size_um
    assert table.sigma_x_um[0] == pytest.approx(pixel_um * np.hypot(0.2 * np.sqrt(1 + 1 / 12), 0.6))
    assert table.sigma_y_um[0] == pytest.approx(pixel_um * np.hypot(0.4 * np.sqrt(1 + 1 / 12), 0.6))
    assert table.sigma_z_um[0] == 7.0
