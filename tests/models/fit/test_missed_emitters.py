"""Selection of the residual peaks for the score test."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit import refiner as refinement
from models.fit.refiner import RefinementSettings, Refiner
from models.optics import Objective, computed_psf, reference_psf
from models.psf import Psf
from tests.models.joint_fit_scenes import READ_NOISE_E, expected_frame, network_detections, noisy_frame

Array = NDArray[np.float64]

ENOUGH = 6.0


def _tested(
    monkeypatch: pytest.MonkeyPatch, psf: Psf, depths_um: tuple[float, float], frame: NDArray[np.float32], start: Array
) -> list[tuple[Array, Array]]:
    """Peaks (K, 6) and emitters (N, 3) of each test: x, y (pixels of the fit) and radius of the emitters."""
    seen = []
    score_candidates = refinement.score_candidates

    def recorded(places: Array, data: Array, fit: refinement.JointFit, *others: object) -> Array:
        spline = others[1]
        seen.append((places, np.column_stack([fit.emitters[:, :2], spline.radius_at_px(fit.emitters[:, 2])])))
        return score_candidates(places, data, fit, *others)

    monkeypatch.setattr(refinement, "score_candidates", recorded)
    refiner = Refiner(psf, CameraModel(read_noise_e=READ_NOISE_E), RefinementSettings(z_range_um=depths_um))
    refiner.refine(frame, network_detections(start))
    return seen


def test_faint_peaks_far_from_fitted_emitters_are_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the test equals the filter, and in a wide frame they would use up the tests of a crowd."""
    truth = np.array([[50.0, 52.0, 30.0, 5e4], [58.0, 49.0, 45.0, 5e4]])
    frame = noisy_frame(expected_frame(reference_psf(), truth, shape=(512, 512)), 2)
    tests = _tested(monkeypatch, reference_psf(), (0, 100), frame, truth)
    assert tests
    for places, fitted in tests:
        apart = np.hypot(*(places[:, None, :2] - fitted[None, :, :2]).transpose(2, 0, 1))
        beside = (apart < places[:, 5:] + fitted[None, :, 2]).any(axis=1)
        assert (beside | (places[:, 4] >= ENOUGH)).all()


@pytest.mark.parametrize("smaller", [0.0, 0.35])
def test_with_a_psf_model_error_a_peak_must_be_significant_by_itself(
    monkeypatch: pytest.MonkeyPatch, smaller: float
) -> None:
    psf = computed_psf(Objective(0.45, 0.52, 1.6), np.arange(2.0, 24.0))
    beads = np.array([(51.2 + 76.8 * (i % 3), 51.2 + 76.8 * (i // 3), 14.0, 1e5) for i in range(9)])
    nearer = beads - [0, 0, 5, 0]
    light = (1 - smaller) * expected_frame(psf, beads, 10.0) + smaller * expected_frame(psf, nearer, 10.0)
    tests = _tested(monkeypatch, psf, (3, 23), noisy_frame(light, 3), beads)
    weakest = min(float(places[:, 4].min(initial=np.inf)) for places, _ in tests)
    assert weakest >= ENOUGH if smaller else weakest < ENOUGH
