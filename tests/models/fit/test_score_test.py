"""The score test predicts the gain of a fit with the candidate; a matched filter of the residual underestimates it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.binning import binned_psf
from models.fit.joint_fit import Convergence, FitFrame, JointFit, fit_jointly
from models.fit.prior import Prior
from models.fit.rendering import Rendered, normal_equations
from models.fit.score_test import score_candidates
from models.optics import reference_psf
from models.pattern_spline import PatternSpline
from tests.models.joint_fit_scenes import READ_NOISE_E, SMALL, asymmetric_psf, expected_frame, noisy_frame

Array = NDArray[np.float64]

BOUNDS = ((0.0, 95.0), (0.0, 95.0), (0.5, 29.0))
CROWD = np.array([[40.2, 41.7, 8.3, 3e4], [47.4, 40.1, 14.2, 4e4], [36.0, 47.0, 20.0, 4e4]])
MISSING = np.array([[38.0, 45.0, 18.0, 5e2]])


@pytest.fixture(scope="module")
def spline() -> PatternSpline:
    return PatternSpline(asymmetric_psf())


def _fit(data: NDArray[np.float32], spline: PatternSpline, start: Array) -> JointFit:
    return fit_jointly(FitFrame(data, spline, READ_NOISE_E**2), start, 5.0, BOUNDS, Convergence(40, 1e-3))


def _candidate(*places: Array) -> Array:
    """Rows as those of the matched filter, the radius last."""
    xyz = np.array([place[:3] for place in places])
    return np.column_stack([xyz, np.full((len(xyz), 2), np.nan), np.full(len(xyz), 9.0)])


def _tested(candidates: Array, data: NDArray[np.float32], fit: JointFit, spline: PatternSpline) -> Array:
    return score_candidates(candidates, data, fit, Prior.none(len(fit.emitters)), spline, fit.expected)


def test_it_predicts_the_gain_of_a_fit(spline: PatternSpline) -> None:
    everything = np.concatenate([CROWD, MISSING])
    data = noisy_frame(expected_frame(asymmetric_psf(), everything, shape=SMALL), 1) + np.float32(READ_NOISE_E**2)
    without, complete = _fit(data, spline, CROWD), _fit(data, spline, everything)
    found = _tested(_candidate(MISSING[0]), data, without, spline)[0]
    gained = without.cost - complete.cost
    assert gained > 30
    # The test is to first order, and the missing emitter is as bright as its background.
    assert found[4] ** 2 / 2 == pytest.approx(gained, rel=0.3)
    assert found[3] == pytest.approx(MISSING[0, 3], rel=0.3)


def test_the_gradient_of_the_prior_is_no_evidence(spline: PatternSpline) -> None:
    """At the optimum the gradients of likelihood and prior cancel."""
    everything = np.concatenate([CROWD, MISSING])
    data = noisy_frame(expected_frame(asymmetric_psf(), everything, shape=SMALL), 1) + np.float32(READ_NOISE_E**2)
    prior = Prior(CROWD[:, :3] + [0.6, -0.5, 1.5], np.tile([400.0, 400.0, 50.0], (len(CROWD), 1)))
    fit = fit_jointly(FitFrame(data, spline, READ_NOISE_E**2), CROWD, 5.0, BOUNDS, Convergence(60, 1e-4), prior)
    assert np.abs(prior.weight * (fit.emitters[:, :3] - prior.place)).max() > 0.5
    apart = _fit(data, spline, CROWD)
    assert fit.cost < apart.cost + prior.cost(apart.emitters) - 1
    matrix, pull = normal_equations(data, fit.expected, Rendered.of(spline, fit.emitters, SMALL), prior)
    assert np.abs(pull / np.sqrt(np.diagonal(matrix))).max() < 0.05
    start = np.concatenate([fit.emitters, MISSING])
    wider = Prior(np.vstack([prior.place, MISSING[:, :3]]), np.vstack([prior.weight, np.zeros((1, 3))]))
    complete = fit_jointly(
        FitFrame(data, spline, READ_NOISE_E**2), start, fit.background, BOUNDS, Convergence(60, 1e-4), wider
    )
    found = score_candidates(_candidate(MISSING[0]), data, fit, prior, spline, fit.expected)[0]
    assert found[4] ** 2 / 2 == pytest.approx(fit.cost - complete.cost, rel=0.3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_a_crowd_the_matched_filter_underestimates_the_significance(seed: int) -> None:
    psf = binned_psf(binned_psf(reference_psf()))
    crowd = np.random.default_rng(seed).uniform([8, 8, 50, 5e4], [24, 24, 90, 1e5], (16, 4))
    everything = np.concatenate([crowd, [[16.0, 15.0, 70.0, 2e4]]])
    data, pixel_um = np.full((32, 32), 20.0, np.float32), psf.pixel_size_um
    for x_px, y_px, z_um, photons in everything:
        data += (photons * psf.image(x_px * pixel_um, y_px * pixel_um, z_um, (32, 32))).astype(np.float32)
    without, complete = (
        fit_jointly(
            FitFrame(data, PatternSpline(psf), 0.01), start, 20.0, ((0, 31), (0, 31), (0.5, 100)), Convergence(60, 1e-3)
        )
        for start in (crowd, everything)
    )
    found = _tested(_candidate(everything[-1]), data, without, PatternSpline(psf))[0]
    assert found[3] == pytest.approx(2e4, rel=0.1)
    assert found[4] == pytest.approx(np.sqrt(2 * (without.cost - complete.cost)), rel=0.05)
    light = psf.image(*everything[-1, :2] * pixel_um, 70.0, (32, 32))
    filtered = (light * (data - without.expected) / without.expected).sum()
    assert filtered / np.sqrt((light**2 / without.expected).sum()) < 0.5 * found[4]


def test_without_fitted_emitters_it_equals_the_matched_filter(spline: PatternSpline) -> None:
    emitter = np.array([[40.0, 50.0, 9.0, 3e3]])
    data = noisy_frame(expected_frame(asymmetric_psf(), emitter, shape=SMALL), 2) + np.float32(READ_NOISE_E**2)
    nothing = _fit(data, spline, np.zeros((0, 4)))
    elsewhere = np.array([80.0, 12.0, 9.0])
    found = _tested(_candidate(elsewhere, emitter[0]), data, nothing, spline)
    assert found[0, :3] == pytest.approx(emitter[0, :3])
    assert found[0, 3] == pytest.approx(3e3, rel=0.1)
    assert found[0, 4] > 20
    assert abs(found[1, 4]) < 4
    assert found[:, 5] == pytest.approx(9.0)


def test_duplicates_and_emitters_outside_the_frame_have_no_significance(spline: PatternSpline) -> None:
    data = noisy_frame(expected_frame(asymmetric_psf(), CROWD, shape=SMALL), 3) + np.float32(READ_NOISE_E**2)
    fit = _fit(data, spline, CROWD)
    again, outside = CROWD[0] + [0.05, 0, 0, 0], np.array([-60.0, 40.0, 10.0])
    found = _tested(_candidate(again, outside), data, fit, spline)
    assert (np.abs(found[:, 4]) < 4).all()
    # Another emitter explains all of its light; the small rest must not be divided by almost zero.
    assert (np.abs(found[:, 3]) < 100).all()
    assert len(_tested(_candidate(again)[:0], data, fit, spline)) == 0
