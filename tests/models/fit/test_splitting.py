"""Two emitters detected as one are split; one emitter stays one, also with a PSF model error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.camera import CameraModel
from models.fit.local_fit import LocalView
from models.fit.refiner import RefinementSettings, Refiner
from models.fit.scale import FitScale
from models.fit.splitting import find_splits
from models.optics import reference_psf
from models.psf import Psf
from tests.models.joint_fit_scenes import READ_NOISE_E, above_half, expected_frame, network_detections, noisy_frame


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return _refiner(reference_psf())


def _refiner(psf: Psf) -> Refiner:
    return Refiner(psf, CameraModel(read_noise_e=READ_NOISE_E), RefinementSettings(z_range_um=(0, 100)))


def _pair(distance_um: list[float], z_um: float) -> NDArray[np.float64]:
    middle = np.array([60.2, 61.1, z_um])
    places = middle + np.outer([-0.5, 0.5], distance_um)
    return np.column_stack([places, [1e5, 1e5]])


@pytest.mark.parametrize("distance_um", [[1.1, 1.0, 0.0], [0.0, 0.0, 5.0]])
@pytest.mark.parametrize("z_um", [20.0, 50.0])
def test_two_detected_as_one_are_split(refiner: Refiner, distance_um: list[float], z_um: float) -> None:
    truth = _pair(distance_um, z_um)
    frame = noisy_frame(expected_frame(reference_psf(), truth), 3)
    detected = truth.mean(axis=0, keepdims=True) * [1, 1, 1, 2] + [0.2, -0.1, 0.5, 0]
    found = above_half(refiner.refine(frame, network_detections(detected)))
    order = np.lexsort((found.x_um, found.z_um.round()))
    # The errors of a pair are three times those of one alone, of some hundredths.
    assert found.xyz_um[order] == pytest.approx(truth[:, :3], abs=0.25)


def test_three_at_the_position_of_two_become_two(refiner: Refiner) -> None:
    truth = _pair([0.0, 0.0, 6.0], 50.0)
    frame = noisy_frame(expected_frame(reference_psf(), truth), 4)
    around = np.array([[58.7, 61.1, 49.5, 7e4], [61.7, 60.0, 50.0, 7e4], [60.2, 62.4, 50.2, 7e4]])
    found = above_half(refiner.refine(frame, network_detections(around)))
    assert found.xyz_um[np.argsort(found.z_um)] == pytest.approx(truth[:, :3], abs=0.25)


@pytest.mark.parametrize("photons", [1e4, 1e6])
def test_a_single_emitter_is_not_split(refiner: Refiner, photons: float) -> None:
    for seed, z_um in enumerate((6.0, 30.0, 70.0)):
        truth = np.array([[60.2, 61.1, z_um, photons]])
        found = above_half(
            refiner.refine(noisy_frame(expected_frame(reference_psf(), truth), seed), network_detections(truth))
        )
        assert len(found) == 1


def test_a_psf_model_error_does_not_split_an_emitter() -> None:
    """The calibrated PSF is blurred by half a pixel; at a million photons the misfit is no second emitter."""
    psf = reference_psf()
    blurred = ndimage.gaussian_filter(psf.planes, (0, 0.4 * psf.oversampling, 0.4 * psf.oversampling))
    truth = np.array([[60.2, 61.1, 30.0, 1e6]])
    frame = noisy_frame(expected_frame(psf, truth), 1)
    found = above_half(_refiner(replace(psf, planes=blurred)).refine(frame, network_detections(truth)))
    assert len(found) == 1
    assert found.chi2[0] > 1.1
    assert found.xyz_um == pytest.approx(truth[:, :3], abs=0.1)


def test_four_at_the_position_of_two_become_two(refiner: Refiner) -> None:
    """A search may add several emitters beside one with a large misfit."""
    truth = _pair([0.0, 0.0, 5.0], 50.0)
    frame = noisy_frame(expected_frame(reference_psf(), truth), 3)
    around = truth.mean(axis=0) + np.array(
        [[-0.9, 1.2, -0.2, 0], [0.1, -1.5, -0.2, 0], [-1.6, -0.5, -0.3, 0], [1.1, 0.3, 0, 0]]
    )
    found = above_half(refiner.refine(frame, network_detections(around * [1, 1, 1, 0.5])))
    assert found.xyz_um[np.argsort(found.z_um)] == pytest.approx(truth[:, :3], abs=0.25)


def test_groups_are_tested_besides_any_number_of_single_misfits(monkeypatch: pytest.MonkeyPatch) -> None:
    psf = reference_psf()
    scale = FitScale(psf, 1, (0.05, 100.0), CameraModel(read_noise_e=READ_NOISE_E))
    places = np.column_stack([np.linspace(20, 170, 12), np.full(12, 90.0), np.linspace(10, 90, 12), np.full(12, 1e5)])
    many = np.array([[60.0, 150.0, 50.0, 1e5]]) + np.array([[0, 0, 0, 0], [1, 1, 1, 0], [2, 0, 1, 0]])
    emitters = np.concatenate([places, many])
    data = noisy_frame(expected_frame(psf, emitters * [0.65, 0.65, 1, 1]), 1) + np.float32(READ_NOISE_E**2)
    fit = scale.fit(data, emitters, 5.0, 1, precise=False)
    unexplained = np.append(np.full(12, 1.0), np.zeros(3))
    tested: list[list[int]] = []
    monkeypatch.setattr(LocalView, "of", lambda _data, _fit, rows, _scale: tested.append(sorted(rows)))
    assert find_splits(data, replace(fit, emitters=emitters, unexplained=unexplained), scale) == []
    assert [12, 13, 14] in tested
    assert len(tested) == 9


@pytest.mark.parametrize("seed", [1, 3])
def test_a_third_emitter_that_explains_noise_is_removed(seed: int) -> None:
    psf = reference_psf()
    scale = FitScale(psf, 1, (0.05, 100.0), CameraModel(read_noise_e=READ_NOISE_E))
    truth = _pair([0.0, 0.0, 5.0], 50.0)
    data = noisy_frame(expected_frame(psf, truth), seed) + np.float32(READ_NOISE_E**2)
    three = np.vstack([truth, [[60.9, 61.6, 50.5, 3e3]]]) / [0.65, 0.65, 1, 1]
    fit = scale.fit(data, three, 5.0, 40, precise=True)
    ((rows, pair),) = find_splits(data, fit, scale)
    assert sorted(rows) == [0, 1, 2]
    assert pair[np.argsort(pair[:, 2]), :3] * [0.65, 0.65, 1] == pytest.approx(truth[:, :3], abs=0.25)
