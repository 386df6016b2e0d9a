"""Physical limits of localization: against finite differences, against fits, and against the plan's figures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, signal

from evaluation.optics.frames import PUBLISHED_CAMERA, Frames, Snr, expose, middle_box, uniform_emitters
from evaluation.scores.bounds import IdealDetector, JointBounds, detectable_share, joint_bounds
from models.errors import DataError
from models.fit.joint_fit import Convergence, FitFrame, fit_jointly
from models.optics import REFERENCE_OPTICS, computed_psf, reference_psf
from models.pattern_spline import PatternSpline
from models.psf import Psf
from models.synthesis import PatternTable

PIXEL = REFERENCE_OPTICS.pixel_size_um
SHAPE = (48, 48)


@pytest.fixture(scope="module")
def shallow() -> Psf:
    return computed_psf(REFERENCE_OPTICS, np.arange(-2.0, 20.0))


@pytest.fixture(scope="module")
def images() -> PatternTable:
    return PatternTable(reference_psf())


@pytest.fixture(scope="module")
def limits() -> JointBounds:
    return JointBounds(reference_psf())


def published(images: PatternTable, points: int, db: float, frames: int) -> Frames:
    rng = np.random.default_rng([31, points, round(db) + 10])
    box = middle_box((256, 256), PIXEL, (0.0, 100.0))
    emitters = [uniform_emitters(rng, points, box) for _ in range(frames)]
    return expose(images, emitters, Snr(db), (256, 256), rng)


def test_sigmas_agree_with_finite_differences(shallow: Psf) -> None:
    emitters = np.array([[14.1, 15.2, 8.3, 5e3], [18.4, 17.0, 11.9, 9e3]])
    background, read = 4.0, 1.5

    def expected(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        image = np.full(SHAPE, parameters[-1])
        for x, y, z, photons in parameters[:-1].reshape(-1, 4):
            image += photons * shallow.image(x, y, z, SHAPE)
        return image.ravel()

    point = np.append(emitters.ravel(), background)
    step = np.append(np.tile([1e-3, 1e-3, 1e-3, 1.0], 2), 1e-3)
    slopes = np.stack(
        [
            (expected(point + h * unit) - expected(point - h * unit)) / (2 * h)
            for h, unit in zip(step, np.eye(9), strict=True)
        ]
    )
    fisher = (slopes / (expected(point) + read**2)) @ slopes.T
    sigma = np.sqrt(np.diagonal(np.linalg.inv(fisher)))
    frame = JointBounds(shallow).of_frame(emitters, background, read, SHAPE)
    # Patterns are cut where a percent of their light is left, at most.
    np.testing.assert_allclose(frame.sigma.ravel(), sigma[:-1], rtol=0.02)
    assert frame.background_sigma_e == pytest.approx(sigma[-1], rel=0.02)
    np.testing.assert_allclose(joint_bounds(shallow, emitters, background, read, SHAPE), frame.sigma)
    np.testing.assert_allclose(frame.sigma_3d_um**2, (frame.sigma[:, :3] ** 2).sum(axis=1))
    np.testing.assert_allclose(frame.significance, emitters[:, 3] / frame.sigma[:, 3])


def test_an_isolated_emitter_is_fitted_as_well_as_the_bound_allows(shallow: Psf) -> None:
    truth = np.array([[15.3, 16.1, 9.4, 8e3]])
    background, read, count = 3.0, 1.6, 150
    spline = PatternSpline(shallow)
    clean = np.full(SHAPE, background, np.float32)
    clean += (truth[0, 3] * shallow.image(*truth[0, :3], SHAPE)).astype(np.float32)
    rng = np.random.default_rng(5)
    fits = []
    for _ in range(count):
        data = (rng.poisson(clean) + rng.normal(0, read, SHAPE) + read**2).astype(np.float32)
        start = truth / np.array([PIXEL, PIXEL, 1.0, 1.0]) + np.array([[0.3, -0.2, 0.5, 400.0]])
        bounds = ((0.0, 47.0), (0.0, 47.0), (1.0, 19.0))
        fits.append(
            fit_jointly(FitFrame(data, spline, read**2), start, background, bounds, Convergence(30, 1e-4)).emitters[0]
        )
    spread = np.std(fits, axis=0) * np.array([PIXEL, PIXEL, 1.0, 1.0])
    sigma = joint_bounds(shallow, truth, background, read, SHAPE)[0]
    # The standard deviation of 150 fits is known to 6 %; 15 % is two and a half of that.
    np.testing.assert_allclose(spread, sigma, rtol=0.15)


def test_neighbours_and_focus_raise_the_bound(shallow: Psf) -> None:
    alone = joint_bounds(shallow, np.array([[15.0, 15.0, 10.0, 5e3]]), 2.0, 0.0, SHAPE)
    crowded = joint_bounds(shallow, np.array([[15.0, 15.0, 10.0, 5e3], [16.0, 15.0, 10.5, 5e3]]), 2.0, 0.0, SHAPE)
    assert (crowded[0] > alone[0]).all()
    focused = joint_bounds(shallow, np.array([[15.0, 15.0, 0.0, 5e3]]), 2.0, 0.0, SHAPE)
    # A pattern that is the same on both sides has no information on depth at focus.
    assert focused[0, 2] > 5 * alone[0, 2]
    outside = joint_bounds(shallow, np.array([[500.0, 500.0, 10.0, 5e3]]), 2.0, 0.0, SHAPE)
    assert np.isfinite(outside).all()
    assert outside[0, 2] > 1e3


# Shares known, detectable at 3 and at 5 sigmas, and the best Jaccard index (science.md, "Measured here"), which were
# measured on other frames. A dB belongs to a frame whose shallowest emitter sets it, so frames differ: the standard
# error of these shares is 0.02 with 50 frames at 0 dB (0.84 and 0.66 with 150), and no smaller for the plan's figures.
# The tolerance is three standard errors of the difference.
@pytest.mark.parametrize(
    ("db", "known", "three", "five", "jaccard"),
    [(0.0, 0.93, 0.87, 0.68, 0.70), (10.0, 1.00, 0.98, 0.97, 0.95), (20.0, 1.00, 1.00, 0.99, 0.99)],
)
def test_figures_of_the_published_frames(
    images: PatternTable, limits: JointBounds, db: float, known: float, three: float, five: float, jaccard: float
) -> None:
    frames = published(images, 20, db, 50)
    bounds = [
        limits.of_frame(each, float(background), 0.0, frames.shape)
        for each, background in zip(frames.emitters, frames.background_e, strict=True)
    ]
    significance = np.concatenate([each.significance for each in bounds])
    sigma_3d = np.concatenate([each.sigma_3d_um for each in bounds])
    assert (sigma_3d < 5).mean() == pytest.approx(known, abs=0.09)
    assert detectable_share(significance, 3.0) == pytest.approx(three, abs=0.09)
    assert detectable_share(significance, 5.0) == pytest.approx(five, abs=0.09)
    detector = limits.ideal_detector((0.0, 100.0), (154, 154))
    assert detector.jaccard(significance, 20.0) == pytest.approx(jaccard, abs=0.09)


# RMS sigma_z at 30 dB by the number of points; the mean over frames of a heavy-tailed figure: within a third.
@pytest.mark.parametrize(("points", "axial"), [(20, 0.07), (32, 0.10), (64, 0.17)])
def test_depth_at_30_db(images: PatternTable, limits: JointBounds, points: int, axial: float) -> None:
    frames = published(images, points, 30.0, 12)
    sigma = np.concatenate(
        [
            limits.of_frame(each, float(background), PUBLISHED_CAMERA.read_noise_e, frames.shape).sigma[:, 2]
            for each, background in zip(frames.emitters, frames.background_e, strict=True)
        ]
    )
    assert np.sqrt(np.mean(sigma[sigma < 5] ** 2)) == pytest.approx(axial, rel=1 / 3)


def test_false_alarms_are_those_of_a_filter_on_noise(shallow: Psf) -> None:
    """Islands above 3.5 in filtered white noise, counted inside the volume, against the expected number."""
    rng = np.random.default_rng(2)
    side, margin, depths = 128, 26, np.arange(5.5, 18.51, 0.5)
    patterns = [shallow.image(margin * PIXEL, margin * PIXEL, z, (2 * margin + 1, 2 * margin + 1)) for z in depths]
    expected = JointBounds(shallow).ideal_detector((6.0, 18.0), (side - 4, side - 4)).false_alarms(np.array([3.5]))[0]
    frames, peaks = 24, 0
    for _ in range(frames):
        noise = rng.standard_normal((side + 2 * margin, side + 2 * margin))
        response = np.stack(
            [signal.fftconvolve(noise, each[::-1, ::-1] / np.linalg.norm(each), mode="valid") for each in patterns]
        )
        # An island is one false alarm, however many summits it has.
        islands, count = ndimage.label(response > 3.5, np.ones((3, 3, 3)))
        summits = np.array(ndimage.maximum_position(response, islands, np.arange(1, count + 1))).reshape(-1, 3)
        first, last = np.array([1, 2, 2]), np.array(response.shape) - np.array([1, 2, 2])
        peaks += int(((summits >= first) & (summits < last)).all(axis=1).sum())
    # About eighty islands on whole pixels and half micrometres: 11 % by chance, as much by the grid.
    assert peaks / frames == pytest.approx(expected, rel=0.25)


def test_an_ideal_detector_trades_misses_for_false_alarms() -> None:
    small, large = IdealDetector(1e2), IdealDetector(1e6)
    significance = np.array([4.0, 5.0, 6.0])
    assert 0.8 < small.jaccard(significance, 3.0) < 1.0
    assert large.jaccard(significance, 3.0) < small.jaccard(significance, 3.0)
    assert large.jaccard(np.full(3, 100.0), 3.0) == pytest.approx(1.0, abs=1e-3)
    assert small.jaccard(np.zeros(0), 3.0) == 1.0


def test_wrong_input_is_refused(shallow: Psf) -> None:
    with pytest.raises(DataError, match=r"\(N, 4\)"):
        joint_bounds(shallow, np.zeros((2, 3)), 1.0)
    with pytest.raises(DataError, match="none is negative"):
        joint_bounds(shallow, np.zeros((1, 4)), -1.0)
