"""Refinement: errors at the bound from a near start, and correction of poor starts.

Frames are made by `Psf.image`, whose interpolation is scipy's and whose patterns are not cropped, so the compiled
spline is compared with independent code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from models.camera import CameraModel
from models.errors import DataError
from models.fit.joint_fit import Convergence, FitFrame, distribute_light, fit_jointly
from models.fit.prior import Prior
from models.fit.refiner import RefinementSettings, Refiner, refine
from models.fit.residual_search import search_depths
from models.fit.score_test import score_candidates
from models.metrics import Scorer, score_frame
from models.optics import reference_psf
from models.pattern_spline import PatternSpline, render_pattern
from models.psf import Psf
from models.tables import Localizations
from tests.models.joint_fit_scenes import (
    BACKGROUND_E,
    READ_NOISE_E,
    SHAPE,
    above_half,
    expected_frame,
    network_detections,
    noisy_frame,
)

PIXEL_UM = 0.65

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def psf() -> Psf:
    return reference_psf()


@pytest.fixture(scope="module")
def refiner(psf: Psf) -> Refiner:
    return Refiner(psf, CameraModel(read_noise_e=READ_NOISE_E), RefinementSettings(z_range_um=(0, 100)))


def _scene(seed: int, count: int, psf: Psf, snr_db: float) -> Array:
    """Emitters in the middle 100 x 100 x 100 µm³, brightness 0.1 to 1, at an SNR of the published form."""
    random = np.random.default_rng(seed)
    middle = SHAPE[0] * PIXEL_UM / 2
    emitters = np.column_stack(
        [
            random.uniform(middle - 50, middle + 50, (count, 2)),
            random.uniform(3, 97, count),
            random.uniform(0.1, 1, count),
        ]
    )
    signal = expected_frame(psf, emitters, background=0.0)
    emitters[:, 3] *= 10 ** (snr_db / 10) * signal.sum() / (signal**2).sum()
    return emitters


@pytest.mark.parametrize("z_um", [0.3, 7.9, 41.2, 99.8])
def test_pattern_and_derivatives(psf: Psf, z_um: float) -> None:
    spline = PatternSpline(psf)

    def render(x_px: float, y_px: float, depth_um: float, box: NDArray[np.int64]) -> Any:
        pattern = np.empty((4, box[1] - box[0], box[3] - box[2]), np.float32)
        z_index = float(spline.z_index(np.array([depth_um]))[0])
        render_pattern(spline.coefficients, x_px, y_px, z_index, psf.z_step_um, psf.oversampling, box, pattern)
        return pattern

    at = (101.27, 90.81, z_um)
    box = spline.boxes(*(np.array([value]) for value in at), SHAPE)[0]
    pattern = render(*at, box)
    expected = psf.image(at[0] * PIXEL_UM, at[1] * PIXEL_UM, z_um, SHAPE)[box[0] : box[1], box[2] : box[3]]
    np.testing.assert_allclose(pattern[0], expected, rtol=0, atol=1e-5 * expected.max())
    assert 0.985 < pattern[0].sum() < 1.001
    step = 0.01
    for axis in range(3):
        shift = np.eye(3)[axis] * step
        difference = (render(*(at + shift), box)[0] - render(*(at - shift), box)[0]) / (2 * step)
        # The second difference of a cubic leaves a part of the order step², single precision the rest.
        np.testing.assert_allclose(pattern[1 + axis], difference, rtol=0, atol=2e-3 * np.abs(difference).max())


@pytest.mark.parametrize("z_um", [6.0, 45.0])
def test_errors_of_a_single_emitter_are_the_bound(psf: Psf, z_um: float) -> None:
    spline = PatternSpline(psf)
    truth = np.array([[95.3, 96.8, z_um, 3e4]])
    image = expected_frame(psf, truth * [PIXEL_UM, PIXEL_UM, 1, 1])
    variance = READ_NOISE_E**2
    bounds = ((0.0, 191.0), (0.0, 191.0), (0.05, 112.0))
    normalized = []
    for seed in range(40):
        start = truth + np.array([0.7, -0.6, 0.8, 5e3])
        data = noisy_frame(image, seed) + np.float32(variance)
        fit = fit_jointly(FitFrame(data, spline, variance), start, 3.0, bounds, Convergence(15))
        normalized.append((fit.emitters - truth)[0] / fit.sigma[0])
        assert fit.background == pytest.approx(BACKGROUND_E, abs=0.2)
    # 160 normalized errors: their mean square is 1 within four standard errors of 0.11. The crop to 99 % of the
    # light biases photons by up to a percent, so x, y and z are compared.
    assert np.mean(np.square(normalized)[:, :3]) == pytest.approx(1.0, abs=0.45)


def test_at_few_photons_the_prior_dominates(psf: Psf) -> None:
    spline, variance = PatternSpline(psf), READ_NOISE_E**2
    bounds = ((0.0, 191.0), (0.0, 191.0), (0.05, 112.0))
    truth = np.array([95.3, 96.8, 45.0])
    prior = Prior(truth[None] + 1.0, np.full((1, 3), 1.0))
    distance = {}
    for photons in (500.0, 1e5):
        emitter = np.append(truth, photons)[None]
        data = noisy_frame(expected_frame(psf, emitter * [PIXEL_UM, PIXEL_UM, 1, 1]), 1) + np.float32(variance)
        start = np.column_stack([prior.place, [photons]])
        with_prior = fit_jointly(FitFrame(data, spline, variance), start, BACKGROUND_E, bounds, Convergence(15), prior)
        without = fit_jointly(FitFrame(data, spline, variance), start, BACKGROUND_E, bounds, Convergence(15))
        assert (with_prior.sigma[:, :3] < without.sigma[:, :3]).all()
        assert (with_prior.sigma[:, :3] < 1.0).all()
        np.testing.assert_allclose(np.diagonal(with_prior.photon_covariance), with_prior.sigma[:, 3] ** 2)
        distance[photons] = np.linalg.norm(with_prior.emitters[0, :3] - prior.place[0])
    assert distance[500.0] < 1.0
    assert distance[1e5] == pytest.approx(np.sqrt(3), abs=0.1)


def test_light_is_distributed_among_positions(psf: Psf) -> None:
    truth = np.array([[60.0, 60, 15, 2e4], [70.0, 62, 30, 6e4]])
    absent = [[30.0, 90.0, 40.0]]
    variance = READ_NOISE_E**2
    data = noisy_frame(expected_frame(psf, truth), 6) + np.float32(variance)
    places = np.concatenate([truth[:, :3], absent]) / [PIXEL_UM, PIXEL_UM, 1]
    photons, background = distribute_light(FitFrame(data, PatternSpline(psf), variance), places, 1.0, 60)
    np.testing.assert_allclose(photons[:2], truth[:, 3], rtol=0.1)
    assert photons[2] < 0.05 * truth[0, 3]
    assert background == pytest.approx(BACKGROUND_E, abs=1.0)


def test_a_measured_psf_with_negative_values_is_fitted(psf: Psf) -> None:
    """Negative grains of a calibration once kept fits of bright emitters from converging."""
    brightest = psf.planes.max(axis=(1, 2), keepdims=True)
    wave = np.cos(np.arange(psf.planes.shape[1], dtype=np.float32) / 5)
    grains = 0.01 * brightest * wave[:, None] * wave[None, :]
    noisy = replace(psf, planes=np.where(psf.planes < 0.05 * brightest, psf.planes + grains, psf.planes))
    spline, variance = PatternSpline(noisy), READ_NOISE_E**2
    truth = np.array([[95.3, 96.8, 55.0, 5e6]])
    image = noisy_frame(expected_frame(psf, truth * [PIXEL_UM, PIXEL_UM, 1, 1]), 4) + np.float32(variance)
    photons, background = distribute_light(FitFrame(image, spline, variance), truth[:, :3], 2.0, 30)
    assert photons[0] == pytest.approx(5e6, rel=0.1)
    start = truth * 1.01
    bounds = ((0.0, 191.0), (0.0, 191.0), (0.05, 112.0))
    fit = fit_jointly(
        FitFrame(image, spline, variance), np.append(start[0, :3], photons)[None], background, bounds, Convergence(25)
    )
    # The waves are a PSF model error, which shifts the optimum by so much.
    np.testing.assert_array_less(np.abs(fit.emitters[0, :3] - truth[0, :3]), [0.1, 0.1, 0.4])
    assert fit.emitters[0, 3] == pytest.approx(5e6, rel=0.04)
    assert 0 < fit.pattern_error[0] <= 0.05
    assert (fit.psf_error_shift > 0).all()
    assert fit.expected.min() >= 0


def test_ten_emitters_at_30_db(psf: Psf, refiner: Refiner) -> None:
    """One emitter is missing in the start and the others are off by 3 µm; the result is near the bound."""
    before, after = Scorer(), Scorer()
    normalized, chi2 = [], []
    for seed in range(4):
        truth = _scene(seed, 10, psf, snr_db=30)
        frame = noisy_frame(expected_frame(psf, truth), seed)
        random = np.random.default_rng(seed)
        off = random.normal(size=(10, 3))
        off *= 3 / np.linalg.norm(off, axis=1, keepdims=True)
        start = np.column_stack([truth[:, :3] + off, truth[:, 3] * random.uniform(0.7, 1.3, 10)])[1:]
        found = above_half(refiner.refine(frame, network_detections(start)))
        before.add(start[:, :3], truth[:, :3])
        after.add(found.xyz_um, truth[:, :3])
        assert (found.frame == 3).all()
        distance = np.linalg.norm(found.xyz_um[:, None] - truth[None, :, :3], axis=2)
        nearest = distance.argmin(axis=1)
        normalized.append((found.xyz_um - truth[nearest, :3]) / found.sigma_um)
        chi2.append(found.chi2)
    assert before.score.jaccard == pytest.approx(0.9)
    assert after.score.jaccard is not None
    assert after.score.jaccard >= 0.97
    assert after.score.rmse_um is not None
    assert after.score.rmse_um < 0.5
    # The median of squares of normal deviates is 0.455; the mean would depend on a single emitter near another.
    assert np.median(np.concatenate(normalized) ** 2) < 2 * 0.455
    assert np.median(np.concatenate(chi2)) == pytest.approx(1.0, abs=0.05)


def test_a_missing_emitter_is_found_in_the_residual(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[40.0, 50, 30, 3e4], [70.0, 60, 55, 5e4], [80.0, 30, 8, 5e3]])
    frame = noisy_frame(expected_frame(psf, truth), 1)
    for missing in range(3):
        found = refiner.refine(frame, network_detections(np.delete(truth, missing, axis=0)))
        assert (found.probability > 0.5).all()
        assert found.xyz_um[-1] == pytest.approx(truth[missing, :3], abs=1.0)
    assert (
        score_frame(
            above_half(refiner.refine(frame, network_detections(np.zeros((0, 4))))).xyz_um, truth[:, :3], 1.0
        ).jaccard
        == 1.0
    )


def test_without_rounds_no_emitter_is_added(psf: Psf) -> None:
    truth = np.array([[40.0, 50, 30, 3e4], [90.0, 90, 55, 5e4]])
    frame = noisy_frame(expected_frame(psf, truth), 1)
    settings = RefinementSettings(z_range_um=(0, 100), rounds=0)
    found = refine(frame, network_detections(truth[:1]), psf, CameraModel(read_noise_e=READ_NOISE_E), settings)
    assert len(found) == 1


@pytest.mark.parametrize(("seed", "count"), [(4, 16), (0, 24), (4, 24)])
def test_missed_faint_deep_emitters_of_a_crowd_are_found(psf: Psf, refiner: Refiner, seed: int, count: int) -> None:
    """A matched filter of the residual alone misses one or two of them here, or adds false ones."""
    truth = _scene(seed, count, psf, snr_db=30)
    faint = [row for row in np.argsort(truth[:, 3]) if truth[row, 2] > 50][:4]
    start = np.delete(truth, faint, axis=0) + np.array([0.4, -0.3, 1.0, 0])
    found = above_half(refiner.refine(noisy_frame(expected_frame(psf, truth), seed), network_detections(start)))
    score = score_frame(found.xyz_um, truth[:, :3], 2.0)
    assert (score.tp, score.fp, score.fn) == (count, 0, 0)


def test_false_detections_are_removed(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[60.0, 60, 25, 2e4]])
    frame = noisy_frame(expected_frame(psf, truth), 2)
    ghosts = np.array([[61.0, 60, 26, 1e4], [30.0, 90, 70, 1e4], [100.0, 20, 5, 500.0]])
    start = replace(network_detections(np.concatenate([ghosts, truth])), probability=np.array([0.2, 0.2, 0.2, 0.5]))
    found = above_half(refiner.refine(frame, start))
    assert found.xyz_um == pytest.approx(truth[:, :3], abs=0.3)
    assert found.photons == pytest.approx(truth[:, 3], rel=0.05)


def test_at_low_significance_the_network_probability_dominates(psf: Psf, refiner: Refiner) -> None:
    """An amplitude of about four standard deviations: kept at high network probability, rejected at low."""
    truth = np.array([[60.0, 60, 45, 600.0]])
    frame = noisy_frame(expected_frame(psf, truth), 8)
    fitted = {}
    for probability in (0.06, 0.97):
        found = refiner.refine(frame, replace(network_detections(truth), probability=np.full(1, probability)))
        fitted[probability] = found.probability.max(initial=0.0)
    assert fitted[0.06] < 0.45 < fitted[0.97]


def test_false_starts_lose_their_light(psf: Psf, refiner: Refiner) -> None:
    """The start has four false detections, one of them near an emitter."""
    truth = np.array([[45.0, 50, 30, 2e4], [80.0, 70, 60, 3e4]])
    frame = noisy_frame(expected_frame(psf, truth), 9)
    false = np.array([[46.5, 51, 33, 5e3], [60.0, 90, 70, 1e4], [30.0, 30, 10, 2e3], [95.0, 40, 25, 4e3]])
    start = network_detections(np.concatenate([truth + np.array([0.5, -0.4, 0.8, 0]), false]))
    found = refiner.refine(frame, replace(start, probability=np.array([0.9, 0.6, 0.2, 0.1, 0.1, 0.15])))
    probable = above_half(found)
    assert probable.xyz_um == pytest.approx(truth[:, :3], abs=0.4)


def test_two_starts_at_one_position_are_merged(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[60.0, 60, 25, 2e4]])
    frame = noisy_frame(expected_frame(psf, truth), 2)
    twice = np.concatenate([truth, truth + np.array([1.0, 0, 1, 0])])
    found = refiner.refine(frame, network_detections(twice))
    assert found.xyz_um == pytest.approx(truth[:, :3], abs=0.2)
    assert found.photons == pytest.approx(truth[:, 3], rel=0.05)


def test_work_is_bounded(psf: Psf) -> None:
    truth = _scene(3, 12, psf, snr_db=20)
    frame = noisy_frame(expected_frame(psf, truth), 1)
    camera = CameraModel(read_noise_e=READ_NOISE_E)
    found = [
        len(refine(frame, Localizations.empty(), psf, camera, RefinementSettings(z_range_um=(0, 100), work=work)))
        for work in (0, 10_000)
    ]
    assert found[0] == 0
    assert found[1] >= 8


def test_sigmas_grow_with_a_psf_model_error(psf: Psf, refiner: Refiner) -> None:
    """A pattern with a dark half does not fit the model: chi2 grows, and the sigmas by its root."""
    truth = np.array([[60.0, 60, 30, 1e5]])
    image = expected_frame(psf, truth, background=0.0)
    image[:, : round(60 / PIXEL_UM)] *= 0.5
    bad = refiner.refine(noisy_frame(image + BACKGROUND_E, 1), network_detections(truth))
    good = refiner.refine(noisy_frame(expected_frame(psf, truth), 1), network_detections(truth))
    best, worst = good.select(np.argsort(-good.photons)[:1]), bad.select(np.argsort(-bad.photons)[:1])
    assert best.chi2 == pytest.approx([1.0], abs=0.15)
    assert worst.chi2[0] > 1.5
    # A quarter of the light is lost, which alone makes them a little wider.
    assert (worst.sigma_um > 1.3 * best.sigma_um).all()


def test_an_empty_frame_stays_empty(refiner: Refiner) -> None:
    for seed in range(5):
        frame = noisy_frame(np.full(SHAPE, BACKGROUND_E), seed)
        assert len(refiner.refine(frame, Localizations.empty())) == 0
        found = refiner.refine(frame, network_detections(np.array([[60.0, 60, 25, 2e4]])))
        assert (found.probability < 0.45).all()


def test_a_dark_frame_without_noise(refiner: Refiner) -> None:
    assert len(refiner.refine(np.zeros(SHAPE, np.float32), Localizations.empty())) == 0


def test_a_start_at_focus_can_leave_it(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[60.0, 60, 2.4, 2e4]])
    frame = noisy_frame(expected_frame(psf, truth), 3)
    found = refiner.refine(frame, network_detections(truth - np.array([0.2, 0, 2.4, 0])))
    assert found.z_um == pytest.approx([2.4], abs=0.2)


def test_emitters_outside_are_fitted_but_not_reported(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[60.0, 60, 40, 5e4], [-5.0, 70, 35, 8e4], [40.0, 90, 107, 2e5]])
    frame = noisy_frame(expected_frame(psf, truth), 4)
    found = refiner.refine(frame, network_detections(truth[:1]))
    assert len(found) == 1
    assert found.xyz_um == pytest.approx(truth[:1, :3], abs=0.3)


def test_a_local_optimum_in_depth_is_left(psf: Psf, refiner: Refiner) -> None:
    truth = np.array([[60.0, 60, 22, 4e4]])
    frame = noisy_frame(expected_frame(psf, truth), 5)
    found = refiner.refine(frame, network_detections(truth + np.array([0.5, 0, -5.0, 0])))
    assert found.xyz_um == pytest.approx(truth[:, :3], abs=0.1)


def test_overlapping_emitters_keep_their_photons(psf: Psf, refiner: Refiner) -> None:
    """Two overlapping emitters: in single fits each would take the other's light for its own."""
    truth = np.array([[60.0, 60, 15, 2e4], [63.0, 61, 60, 6e4]])
    frame = noisy_frame(expected_frame(psf, truth), 6)
    found = refiner.refine(frame, network_detections(truth + np.array([[1, 0, 1, 0], [0, -1, -2, 0]])))
    assert found.xyz_um == pytest.approx(truth[:, :3], abs=1.0)
    assert found.photons == pytest.approx(truth[:, 3], rel=0.1)


def test_refinement_is_deterministic(psf: Psf, refiner: Refiner) -> None:
    truth = _scene(9, 6, psf, snr_db=20)
    frame = noisy_frame(expected_frame(psf, truth), 7)
    first, second = (refiner.refine(frame, network_detections(truth[1:])) for _ in range(2))
    for name, column in first.columns().items():
        np.testing.assert_array_equal(column, second.columns()[name])


def test_linear_algebra_has_one_thread_during_a_fit(psf: Psf, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = ThreadpoolController().select(user_api="blas")
    during: list[int] = []

    def counting(*arguments: Any, **options: Any) -> Any:
        during.extend(library["num_threads"] for library in libraries.info())
        return score_candidates(*arguments, **options)

    monkeypatch.setattr("models.fit.refiner.score_candidates", counting)
    emitters = _scene(3, 4, psf, 30.0)
    refiner = Refiner(psf, CameraModel(read_noise_e=READ_NOISE_E), RefinementSettings(z_range_um=(0, 100)))
    with libraries.limit(limits=2):
        refiner.refine(noisy_frame(expected_frame(psf, emitters), 4), network_detections(emitters[1:]))
        assert {library["num_threads"] for library in libraries.info()} == {2}
    assert set(during) == {1}


def test_search_depths_spread_with_depth() -> None:
    depths = search_depths(0.0, 100.0, 1.5)
    assert (depths[0], depths[-1]) == (0.0, 100.0)
    steps = np.diff(depths)[:-1]
    assert steps[0] == 1.5
    assert (np.diff(steps) >= -1e-9).all()
    assert len(depths) < 60


@pytest.mark.parametrize("frame", [np.zeros((3, 4, 4), np.float32), np.full((8, 8), np.nan, np.float32)])
def test_invalid_frames_are_rejected(refiner: Refiner, frame: NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match=r"must be \(H, W\) and finite"):
        refiner.refine(frame, Localizations.empty())


def test_starts_of_several_frames_are_rejected(refiner: Refiner) -> None:
    both = Localizations.concatenate([network_detections(np.ones((1, 4)), frame) for frame in (1, 2)])
    with pytest.raises(DataError, match=r"frames \[1, 2\] were given to refine as one frame"):
        refiner.refine(np.zeros(SHAPE, np.float32), both)


def test_depths_beyond_the_psf_are_rejected(psf: Psf) -> None:
    with pytest.raises(DataError, match="Depths from -20 to 50 µm were asked for; the PSF covers -6 to 112 µm"):
        Refiner(psf, CameraModel(), RefinementSettings(z_range_um=(-20, 50)))


def test_a_small_measured_psf_and_an_odd_frame() -> None:
    """Planes as from a sweep: one grid point per pixel, cropped tightly, different on both sides of focus."""
    steps = np.arange(-10, 11)
    z_um = np.arange(-4.0, 9.0)
    squared = steps[:, None] ** 2 + steps[None, :] ** 2
    spread = 1.2 + 0.3 * (z_um + 4)
    planes = np.exp(-squared / (2 * spread[:, None, None] ** 2))
    planes /= planes.sum(axis=(1, 2), keepdims=True)
    psf = Psf(planes.astype(np.float32), z_um, pixel_size_um=1.0)
    shape = (61, 75)
    truth = np.array([[20.3, 30.2, 3.0, 8e3], [50.1, 12.4, -2.0, 4e3], [72.0, 58.0, 6.0, 2e4]])
    image = np.full(shape, 10.0)
    for x_um, y_um, depth_um, photons in truth:
        image += photons * psf.image(x_um, y_um, depth_um, shape)
    frame = np.random.default_rng(1).poisson(image).astype(np.float32)
    for start in (truth[:0], truth[1:], truth + np.array([0.5, -0.5, 1.0, 0])):
        found = above_half(refine(frame, network_detections(start), psf, CameraModel()))
        score = score_frame(found.xyz_um, truth[:, :3], tolerance_um=1.0)
        assert (score.tp, score.fp) == (3, 0)
