"""Patterns of a pupil agree with another integral, and the pupil comes back from its noisy planes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration.pupil import ZERNIKES, Pupil, render_pupil
from models.calibration.pupil_fit import MeasuredPlane, fit_pupil
from models.optics import Objective, computed_psf

STEP_UM, PIXEL_UM = 0.4, 0.8


def _relative(image: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(image - other) / np.linalg.norm(other))


def test_a_perfect_pupil_shows_what_the_debye_integral_shows() -> None:
    objective = Objective(0.45, 0.52, PIXEL_UM, bead_diameter_um=1.0)
    psf = computed_psf(objective, np.arange(-12.0, 13.0, 6.0), oversampling=2)
    # Solid angle instead of pupil area, and the sine condition: amplitude 1/√cos α.
    pupil = Pupil(0.45, 1 / 0.52, bead_um=1.0, dimming=(0.45**2 / 4, 0.45**4 * 5 / 32))
    for z_um, plane in zip(psf.z_um, psf.planes, strict=True):
        image = render_pupil(pupil, float(z_um), plane.shape[0] // 2, STEP_UM, PIXEL_UM)
        # The other one integrates over the pixel on 6 x 6 points: some 0.5 % of a pattern as sharp as this.
        assert _relative(image, plane) < 0.01


def test_light_is_kept_and_the_bead_stands_where_it_is_put() -> None:
    pupil = Pupil(0.4, 2.0, focus_um=1.0, bead_um=0.5)
    image = render_pupil(pupil, 9.0, 60, STEP_UM, PIXEL_UM, (1.3, -0.7)).astype(np.float64)
    assert image.sum() == pytest.approx((PIXEL_UM / STEP_UM) ** 2, rel=0.01)
    places = np.arange(-60, 61) * STEP_UM
    assert image.sum(axis=0) @ places / image.sum() == pytest.approx(1.3, abs=0.02)
    assert image.sum(axis=1) @ places / image.sum() == pytest.approx(-0.7, abs=0.02)
    # In focus it is sharpest.
    peaks = [render_pupil(pupil, z, 20, STEP_UM, PIXEL_UM).max() for z in (-2.0, 1.0, 4.0)]
    assert peaks[1] > max(peaks[0], peaks[2])


def test_an_aberrated_pupil_comes_back_from_noisy_planes() -> None:
    waves = np.zeros(len(ZERNIKES))
    waves[:5] = 0.03, -0.02, 0.015, -0.03, -0.06
    truth = Pupil(0.42, 1.8, -0.3, 1.0, (0.05, 0.0), tuple(waves))
    rng = np.random.default_rng(2)
    planes = []
    for z_um in (-12.0, -6.0, -3.0, -1.5, 0.0, 1.5, 3.0, 6.0, 12.0, 20.0, 30.0):
        half = int((abs(z_um) * 0.55 + 8) / STEP_UM)
        image = render_pupil(truth, z_um, half, STEP_UM, PIXEL_UM, (0.05, 0.02))
        noise = 0.03 * np.sqrt(np.mean(image**2)) * rng.standard_normal(image.shape)
        planes.append(MeasuredPlane(z_um, (1.1 * image + noise).astype(np.float32)))
    fit = fit_pupil(planes, STEP_UM, PIXEL_UM, 0.5)
    assert fit.pupil.sine == pytest.approx(truth.sine, rel=0.003)
    assert fit.pupil.waves_per_um == pytest.approx(truth.waves_per_um, rel=0.01)
    assert fit.pupil.focus_um == pytest.approx(truth.focus_um, abs=0.05)
    assert fit.pupil.zernike_waves == pytest.approx(truth.zernike_waves, abs=0.003)
    # What is left is the noise.
    assert fit.misfit == pytest.approx(np.full(len(planes), 0.03), abs=0.006)
    assert fit.shift * STEP_UM == pytest.approx(np.tile([0.05, 0.02], (len(planes), 1)), abs=0.02)
