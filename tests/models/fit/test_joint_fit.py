"""The joint fit against the Cramér-Rao bound of independent code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from evaluation.scores.bounds import JointBounds
from models.fit.joint_fit import Convergence, FitFrame, fit_jointly
from models.pattern_spline import PatternSpline
from models.psf import Psf
from tests.models.joint_fit_scenes import READ_NOISE_E, SMALL, asymmetric_psf, expected_frame, noisy_frame


def _comatic_psf() -> Psf:
    """A pattern that shifts laterally with depth, as with coma: x and z are correlated."""
    psf = asymmetric_psf()
    planes = [ndimage.shift(plane, (0, z / 5), order=3) for plane, z in zip(psf.planes, psf.z_um, strict=True)]
    return replace(psf, planes=np.array(planes))


def test_sigmas_are_the_bound_with_correlated_parameters() -> None:
    psf, background, variance = _comatic_psf(), 5.0, READ_NOISE_E**2
    truth = np.array([[40.2, 41.7, 8.3, 3e4], [43.4, 40.1, 14.2, 4e4]])
    data = noisy_frame(expected_frame(psf, truth, shape=SMALL), 1) + np.float32(variance)
    bounds = ((0.0, 95.0), (0.0, 95.0), (0.5, 29.0))
    fit = fit_jointly(FitFrame(data, PatternSpline(psf), variance), truth, background, bounds, Convergence(30))
    expected = JointBounds(psf).of_frame(truth, background, READ_NOISE_E, SMALL).sigma
    # The crop to 99 % of the light, and noise in the variance.
    assert fit.sigma[:, :3] == pytest.approx(expected[:, :3], rel=0.04)
    normalized = (fit.emitters - truth)[:, :3] / fit.sigma[:, :3]
    assert np.abs(normalized).max() < 4
