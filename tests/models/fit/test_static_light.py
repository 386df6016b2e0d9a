"""The joint fit over static light that is known: no bias, and errors as stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit.joint_fit import FitFrame, distribute_light
from models.fit.refiner import RefinementSettings, Refiner
from models.fit.scale import FitScale
from models.optics import reference_psf
from models.pattern_spline import PatternSpline
from models.psf import Psf
from tests.models.joint_fit_scenes import READ_NOISE_E, SHAPE, expected_frame, network_detections, noisy_frame

TRUTH = np.array([[40.0, 60.0, 12.0, 3e4], [90.0, 45.0, 30.0, 3e4], [70.0, 95.0, 22.0, 3e4]])


@pytest.fixture(scope="module")
def psf() -> Psf:
    return reference_psf()


def _tissue() -> Any:
    """Blotches as wide as the patterns: 0 to 60 photo-electrons."""
    rows, columns = np.indices(SHAPE)
    waves = np.sin(rows / 7) * np.cos(columns / 9) + np.sin((rows + columns) / 15)
    return (15 * (waves - waves.min())).astype(np.float32)


def test_known_static_light_does_not_bias_the_fit(psf: Psf) -> None:
    camera = CameraModel(read_noise_e=READ_NOISE_E)
    refiner = Refiner(psf, camera, RefinementSettings(z_range_um=(0, 100), rounds=0))
    tissue = _tissue()
    frame = noisy_frame(expected_frame(psf, TRUTH) + tissue, 8)
    start = network_detections(TRUTH + np.array([0.3, -0.3, 0.5, 0]))

    def errors(backdrop: NDArray[np.float32] | None) -> Any:
        fit, _ = refiner.fit(frame, start, backdrop)
        scale = np.array([psf.pixel_size_um, psf.pixel_size_um, 1, 1])
        return fit, (fit.emitters * scale - TRUTH) / (fit.sigma * scale)

    fit, in_sigmas = errors(tissue)
    assert np.abs(in_sigmas).max() < 4
    assert abs(fit.background - 5.0) < 0.3
    # The variance contains the static light, so the misfit is that of noise.
    np.testing.assert_allclose(fit.chi2, 1, atol=0.2)
    assert np.abs(errors(None)[1]).max() > 8


def test_the_backdrop_is_that_of_each_pixel_size(psf: Psf) -> None:
    scale = FitScale(psf, 4, (0.0, 100.0), CameraModel())
    tissue = _tissue()
    over = scale.over(tissue)
    coarse = over.frame(np.zeros((48, 48), np.float32)).backdrop
    assert coarse is not None
    np.testing.assert_allclose(coarse, tissue.reshape(48, 4, 48, 4).sum(axis=(1, 3)), rtol=1e-6)
    assert scale.frame(np.zeros((48, 48), np.float32)).backdrop is None
    assert scale.over(None) is scale


def test_light_is_distributed_above_the_backdrop(psf: Psf) -> None:
    tissue, variance = _tissue(), READ_NOISE_E**2
    image = (expected_frame(psf, TRUTH) + variance + tissue).astype(np.float32)
    places = TRUTH[:, :3] / [psf.pixel_size_um, psf.pixel_size_um, 1]
    photons, background = distribute_light(FitFrame(image, PatternSpline(psf), variance, tissue), places, 3.0, 60)
    np.testing.assert_allclose(photons, TRUTH[:, 3], rtol=0.03)
    assert abs(background - 5) < 0.2
