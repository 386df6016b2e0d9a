"""Figures of a camera are estimated from a sweep of beads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from models.calibration.sweep import Sweep
from models.calibration.sweep_camera import estimate_camera
from models.camera import CameraModel
from models.errors import DataError
from tests.models.bead_sweeps import CAMERA, simulate


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("step_um", [0.5, 1.0, 2.0])
def test_camera_is_estimated_from_a_sweep(repeats: int, step_um: float) -> None:
    sweep, _ = simulate(beads=9, repeats=repeats, z_um=np.arange(-6.0, 20.0, step_um), seed=17)
    measured = estimate_camera(sweep)
    background_adu = 20 / CAMERA.electrons_per_adu  # counts as offset, as the note says
    assert measured.camera.offset_adu == pytest.approx(CAMERA.offset_adu + background_adu, abs=1.0)
    assert measured.camera.electrons_per_adu == pytest.approx(CAMERA.electrons_per_adu, rel=0.15)
    assert f"{measured.camera.electrons_per_adu:.2f} e-/ADU" in measured.notes[-1]


@pytest.mark.parametrize("gain", [0.3, 7.0, 40.0])
def test_any_gain_is_estimated(gain: float) -> None:
    # At 40 e-/ADU the dark noise is below the rounding, and only bright pixels show noise.
    sweep, _ = simulate(beads=9, photons=150_000.0 * min(gain, 4.0), camera=CameraModel(100.0, gain, 1.0), seed=19)
    assert estimate_camera(sweep).camera.electrons_per_adu == pytest.approx(gain, rel=0.15)


def _sweep_with(fault: str) -> Sweep:
    random = np.random.default_rng(23)
    sweep, _ = simulate(beads=9, repeats=2, seed=23)
    planes = sweep.planes.astype(float)
    if fault == "another channel":
        planes[:, 1] = random.normal(400, 5, planes[:, 1].shape)
    elif fault == "lamp between repeats":
        planes[:, 1] = 100 + (planes[:, 1] - 100) * random.uniform(0.4, 1, (len(planes), 1, 1))
    elif fault.startswith("smoothed"):
        planes = ndimage.gaussian_filter(planes, (0, 0, 0.7, 0.7))
    elif fault == "no levels":
        planes = random.normal(100, 3, planes.shape)
    elif fault == "structure for noise":
        # Patterns finer than a pixel that change at every plane: all filters let them through.
        grain = random.normal(0, 0.3, planes[:, :1].shape)
        planes += (planes - 100).clip(0) * grain * np.linspace(0.2, 1, len(planes))[:, None, None, None]
    if fault.endswith("without repeats") or fault == "structure for noise":
        planes = planes[:, :1]
    return Sweep(planes.clip(0, 65535).astype(np.uint16), sweep.z_um, sweep.pixel_size_um)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("another channel", "high-pass filtered"),
        ("lamp between repeats", "the light is not steady"),
        ("smoothed", "smoothed, resized or compressed"),
        ("smoothed without repeats", "smoothed, resized or compressed"),
        ("no levels", "levels of brightness"),
        ("structure for noise", "cannot be determined"),
    ],
)
def test_a_gain_that_cannot_be_told_is_to_be_stated(fault: str, says: str) -> None:
    with pytest.raises(DataError, match="gain cannot be determined from this sweep") as refused:
        estimate_camera(_sweep_with(fault))
    assert says in refused.value.problem
    assert "--electrons-per-adu" in refused.value.remedy


def test_copied_repeats_are_not_taken_for_a_camera_without_noise() -> None:
    sweep, _ = simulate(beads=9, seed=29)
    measured = estimate_camera(Sweep(np.repeat(sweep.planes, 2, axis=1), sweep.z_um, sweep.pixel_size_um))
    assert measured.camera.electrons_per_adu == pytest.approx(CAMERA.electrons_per_adu, rel=0.15)
    assert "copies of one exposure" in measured.notes[0]


@pytest.mark.parametrize("repeats", [1, 2])
def test_noise_free_sweep_has_no_read_noise(repeats: int) -> None:
    sweep, _ = simulate(beads=4, noise=False, repeats=repeats)
    measured = estimate_camera(sweep)
    assert (measured.camera.read_noise_e, measured.camera.electrons_per_adu) == (0.0, 1.0)
    assert "no noise" in measured.notes[0]
