"""Emitters at negative defocus are recognized by their pattern, fitted there, and not reported."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.methods.residual_pursuit import PursuitSettings, ResidualPursuit
from models.camera import CameraModel
from models.fit.refiner import RefinementSettings, Refiner
from models.fit.scale import FitScale, negative_defocus_um
from models.fit.side_of_focus import move_across_focus
from models.metrics import score_frame
from models.psf import Psf
from models.tables import Localizations
from tests.models.joint_fit_scenes import (
    READ_NOISE_E,
    SMALL,
    above_half,
    asymmetric_psf,
    expected_frame,
    network_detections,
    noisy_frame,
)


@pytest.fixture(scope="module")
def psf() -> Psf:
    return asymmetric_psf()


@pytest.fixture(scope="module")
def refiner(psf: Psf) -> Refiner:
    return Refiner(psf, CameraModel(read_noise_e=READ_NOISE_E), RefinementSettings(z_range_um=(0, 25)))


def test_emitters_at_negative_defocus_are_not_reported(psf: Psf, refiner: Refiner) -> None:
    negative = np.array([[30.0, 40.0, -9.0, 2e4], [70.0, 30.0, -15.0, 3e4]])
    positive = np.array([[40.0, 70.0, 12.0, 2e4], [36.0, 46.0, 16.0, 3e4]])
    frame = noisy_frame(expected_frame(psf, np.concatenate([negative, positive]), shape=SMALL), 1)
    # A network trained without negative defocus places them at positive depths.
    detected = np.concatenate([negative * [1, 1, -1, 1], positive]) + np.array([0.3, -0.2, 0.6, 0])
    for start in (network_detections(detected), Localizations.empty()):
        found = above_half(refiner.refine(frame, start))
        score = score_frame(found.xyz_um, positive[:, :3], 1.0)
        assert (score.tp, score.fp) == (2, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_overlapping_emitters_at_negative_defocus_move_one_after_the_other(
    psf: Psf, refiner: Refiner, seed: int
) -> None:
    # While the bright one is at positive depth, its misfit masks that of the others.
    negative = np.array([[50, 50, -10, 2e5], [49, 60, -7, 5e3], [60, 48, -14, 8e4], [58, 58, -16, 4e4]], np.float64)
    positive = np.array([[40.0, 70.0, 12.0, 2e4], [36.0, 46.0, 16.0, 3e4]])
    frame = noisy_frame(expected_frame(psf, np.concatenate([negative, positive]), shape=SMALL), seed)
    detected = np.concatenate([negative * [1, 1, -1, 1], positive]) + np.array([0.3, -0.2, 0.6, 0])
    found = above_half(refiner.refine(frame, network_detections(detected)))
    score = score_frame(found.xyz_um, positive[:, :3], 1.0)
    assert (score.tp, score.fp) == (2, 0)


def test_of_two_overlapping_emitters_one_moves_at_a_time(psf: Psf, monkeypatch: pytest.MonkeyPatch) -> None:
    negative_um = negative_defocus_um(psf, (0.0, 25.0))
    scale = FitScale(psf, 1, (0.05, 30.0), CameraModel(read_noise_e=READ_NOISE_E), negative_um)
    truth = np.array([[50.0, 50.0, -10.0, 2e5], [54.0, 50.0, -12.0, 4e4]])
    data = noisy_frame(expected_frame(psf, truth, shape=SMALL), 2) + np.float32(scale.read_variance)
    fit = scale.fit(data, truth * [1, 1, -1, 1], 5.0, 15, precise=True)
    first = move_across_focus(data, fit, scale)
    assert (first[:, 2] < 0).tolist() == [True, False]
    fit_then = scale.fit(data, first, fit.background, 15, precise=True)
    assert (move_across_focus(data, fit_then, scale)[:, 2] < 0).all()
    # Without the selection both move at once.
    monkeypatch.setattr("models.fit.side_of_focus.select_moves", lambda emitters, gains, radius: gains > 0)
    assert (move_across_focus(data, fit, scale)[:, 2] < 0).all()


def test_the_pursuit_without_a_network_finds_the_side(psf: Psf) -> None:
    emitters = np.array([[30.0, 40.0, -9.0, 2e4], [66.0, 60.0, 12.0, 2e4]])
    pursuit = ResidualPursuit(psf, CameraModel(read_noise_e=READ_NOISE_E), PursuitSettings(z_range_um=(0, 25)))
    fit = pursuit.fit(noisy_frame(expected_frame(psf, emitters, shape=SMALL), 3))
    order = np.argsort(fit.emitters[:, 2])
    assert fit.emitters[order, :3] == pytest.approx(emitters[:, :3], abs=0.3)


def test_the_pursuit_moves_two_overlapping_emitters(psf: Psf) -> None:
    negative = np.array([[50.0, 50.0, -10.0, 2e5], [54.0, 50.0, -12.0, 4e4]])
    pursuit = ResidualPursuit(psf, CameraModel(read_noise_e=READ_NOISE_E), PursuitSettings(z_range_um=(0, 25)))
    fit = pursuit.fit(noisy_frame(expected_frame(psf, negative, shape=SMALL), 4))
    assert fit.emitters[np.argsort(-fit.emitters[:, 3]), :3] == pytest.approx(negative[:, :3], abs=0.3)


def test_emitters_at_positive_depths_stay(psf: Psf) -> None:
    negative_um = negative_defocus_um(psf, (0.0, 25.0))
    scale = FitScale(psf, 1, (0.05, 30.0), CameraModel(read_noise_e=READ_NOISE_E), negative_um)
    truth = np.array([[30.0, 40.0, 9.0, 3e3], [70.0, 30.0, 15.0, 2e4], [60.0, 70.0, 28.0, 2e4]])
    data = noisy_frame(expected_frame(psf, truth, shape=SMALL), 2) + np.float32(scale.read_variance)
    fit = scale.fit(data, truth, 5.0, 15, precise=True)
    assert move_across_focus(data, fit, scale) == pytest.approx(fit.emitters)
    over = scale.fit(data, truth * [1, 1, -1, 1] * [1, 1, 0.7, 1], 5.0, 15, precise=True)
    assert (over.emitters[:, 2] < 0).all()
    one_sided = FitScale(psf, 1, (0.05, 30.0), CameraModel(read_noise_e=READ_NOISE_E))
    assert move_across_focus(data, fit, one_sided) == pytest.approx(fit.emitters)
