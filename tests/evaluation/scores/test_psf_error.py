"""Errors of patterns that are known: none, a shift, a depth, a wrong shape."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores.psf_error import pattern_error, pattern_errors
from models.calibration.pupil import Pupil, render_pupil
from models.psf import Psf

PIXEL_UM, OVERSAMPLING, HALF = 0.8, 2, 40
DEPTHS = np.arange(0.0, 16.0)


def _psf(pupil: Pupil, place_um: tuple[float, float] = (0.0, 0.0)) -> Psf:
    planes = [render_pupil(pupil, z, HALF, PIXEL_UM / OVERSAMPLING, PIXEL_UM, place_um) for z in DEPTHS]
    return Psf(np.stack(planes), DEPTHS, PIXEL_UM, OVERSAMPLING)


TRUE = _psf(Pupil(0.4, 1.8, bead_um=1.0))


def test_the_true_pattern_has_no_error() -> None:
    (same,) = pattern_errors(TRUE, TRUE, [7.0])
    assert same.relative < 1e-4
    assert same.light == pytest.approx(1.0, abs=1e-3)
    assert same.negative == 0.0


def test_place_and_depth_are_no_error_of_the_pattern() -> None:
    moved = pattern_error(_psf(Pupil(0.4, 1.8, bead_um=1.0, focus_um=-0.2), (0.15, -0.1)), TRUE, 7.0)
    assert moved.relative < 0.01  # cubic interpolation between planes 1 µm apart
    assert moved.shift_um == pytest.approx((0.15, -0.1), abs=0.005)
    assert moved.depth_um == pytest.approx(0.2, abs=0.01)
    # The same, from the focus.
    assert pattern_error(TRUE, TRUE, 7.0, 0.5).depth_um == pytest.approx(-0.5, abs=0.01)


def test_another_shape_and_negative_light_are_errors() -> None:
    waves = (0.05,) + (0.0,) * 13
    other = pattern_error(_psf(Pupil(0.4, 1.8, bead_um=1.0, zernike_waves=waves)), TRUE, 7.0)
    assert other.relative > 0.05
    planes = TRUE.planes.copy()
    planes[:, HALF + 30, HALF] = -0.1 * planes[7].max()
    assert pattern_error(Psf(planes, DEPTHS, PIXEL_UM, OVERSAMPLING), TRUE, 7.0).negative == pytest.approx(
        0.1, abs=0.01
    )
