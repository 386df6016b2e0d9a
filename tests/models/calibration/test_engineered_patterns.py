"""Calibration of patterns that tell both sides of focus, and of bodies that are no points."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from evaluation.beads.bead_scores import correlate_depths
from models.calibration.calibrating import calibrate
from models.fit.refiner import RefinementSettings, Refiner
from models.psf import Psf
from models.tables import Localizations
from tests.models.bead_sweeps import CAMERA, astigmatic_pattern, pattern, simulate

PLACE = np.array([[31.3, 30.6]])
SIZE = 64


def _frame(looks: NDArray[np.float64], photons: float, seed: int) -> NDArray[np.uint16]:
    expected = (20 + photons * looks).astype(np.float32)
    return CAMERA.expose(expected, seed)


def test_astigmatic_beads_tell_both_sides_of_focus() -> None:
    sweep, truth = simulate(
        z_um=np.arange(-14.0, 15.0), focus_um=0.7, beads=9, shape=(132, 132), looks=astigmatic_pattern
    )
    calibration = calibrate(sweep, z_range_um=(-10, 10), camera=CAMERA)
    # One bead is one bead, although it is a cross in the brightest of all planes; focus is between its two lines.
    assert (calibration.report["beads_found"], calibration.report["beads_used"]) == (9, 9)
    assert calibration.focus_um == pytest.approx(truth.focus_um, abs=0.2)
    assert calibration.psf.z_um[0] <= -10
    rows, columns = np.indices((SIZE, SIZE))
    dx, dy = columns - PLACE[0, 0], rows - PLACE[0, 1]
    depths = np.array([-9.0, -6.5, -4.0, -2.0, 2.0, 4.0, 6.5, 9.0])
    frames = np.stack([_frame(astigmatic_pattern(dx, dy, z), 20_000, seed) for seed, z in enumerate(depths)])
    correlated = correlate_depths(calibration, frames, PLACE, z_range_um=(-11.0, 11.0))[:, 0]
    assert correlated == pytest.approx(depths, abs=0.5)
    refiner = Refiner(calibration.psf, CAMERA, RefinementSettings(z_range_um=(-10.0, 10.0), rounds=0))
    one = np.ones(1)
    for depth, frame in zip(depths, frames, strict=True):
        # Started in focus, so that nothing tells the side but the light.
        start = Localizations(
            np.zeros(1, np.int64), PLACE[:, 0], PLACE[:, 1], 0 * one, 2e4 * one, 20 * one, one, one, one, one, one
        )
        fitted = refiner.refine(CAMERA.to_electrons(frame), start)
        assert len(fitted) == 1
        assert fitted.z_um[0] == pytest.approx(depth, abs=0.3)


def _masked(kind: str) -> Psf:
    """Pattern of a 0.45 pupil at 0.6 µm behind a phase mask, on half pixels."""
    side, step = 240, 0.25
    u = np.fft.fftfreq(side, step) * 0.6 / 0.45
    rho, angle = np.hypot(u[None], u[:, None]), np.arctan2(u[:, None], u[None])
    if kind == "tetrapod":
        # Secondary astigmatism: two lines on either side, far apart.
        phase = 2 * np.pi * 0.45 * np.sqrt(10) * (4 * rho**4 - 3 * rho**2) * np.cos(2 * angle)
    else:
        # Laguerre-Gauss modes on a line of their plane rotate together: two lobes that turn with depth (Piestun et al.,
        # J. Opt. Soc. Am. A 17, 294, 2000). Only their phase is kept.
        scaled = np.sqrt(2) * rho / 0.55
        modes = [
            np.sqrt(factorial(p) / factorial(p + turn))
            * scaled**turn
            * np.exp(-(scaled**2) / 2 + 1j * turn * angle)
            * special.eval_genlaguerre(p, turn, scaled**2)
            for p, turn in ((0, 1), (1, 3), (2, 5), (3, 7))
        ]
        phase = np.angle(np.sum(modes, axis=0))
    cosine = np.sqrt(np.maximum(1 - (0.45 * rho) ** 2, 0.1))
    f = np.fft.fftfreq(side, step)
    blur = np.sinc(f)[:, None] * np.sinc(f)[None] * np.exp(-1.2 * (f[:, None] ** 2 + f[None] ** 2))
    depths = np.arange(-30.0, 30.5, 0.5)
    planes = []
    for z_um in depths:
        field = np.fft.ifft2((rho <= 1) * np.exp(1j * (phase + 2 * np.pi / 0.6 * cosine * z_um)))
        light = np.fft.fftshift(np.fft.ifft2(np.fft.fft2(np.abs(field) ** 2) * blur).real)[2::2, 2::2]
        planes.append(np.maximum(light, 0) * 4 / light.sum())
    return Psf(np.array(planes, np.float32), depths, 1.0, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "focus_um"), [("double helix", None), ("tetrapod", 0.4)])
def test_phase_masks_tell_both_sides_of_focus(kind: str, focus_um: float | None) -> None:
    true = _masked(kind)
    sweep, truth = simulate(
        z_um=np.arange(-22.0, 23.0),
        focus_um=0.4,
        beads=9,
        shape=(180, 180),
        looks=lambda dx, dy, z: np.maximum(true.evaluate(dx, dy, np.array(z)), 0),
    )
    # The sharpest plane of a tetrapod is one of its lines, so its focus must be stated.
    calibration = calibrate(sweep, z_range_um=(-11, 11), camera=CAMERA, focus_um=focus_um)
    assert calibration.report["beads_used"] == 9
    assert calibration.focus_um == pytest.approx(truth.focus_um, abs=0.3)
    rows, columns = np.indices((SIZE, SIZE))
    depths = np.array([-9.0, -6.5, -4.0, -2.0, 0.0, 2.0, 4.0, 6.5, 9.0])
    looks = [np.maximum(true.evaluate(columns - PLACE[0, 0], rows - PLACE[0, 1], np.array(z)), 0) for z in depths]
    frames = np.stack([_frame(light, 20_000, seed) for seed, light in enumerate(looks)])
    correlated = correlate_depths(calibration, frames, PLACE, z_range_um=(-12.0, 12.0))[:, 0]
    assert correlated + calibration.focus_um - truth.focus_um == pytest.approx(depths, abs=0.4)


def _ball(dx: NDArray[np.float64], dy: NDArray[np.float64], z_um: float) -> NDArray[np.float64]:
    """A cell: the pattern of slices of a ball of 7 pixels, which lie at different depths and blur it."""
    layers = np.linspace(-3, 3, 7)
    light = sum((12.25 - h**2) * pattern(dx, dy, z_um + h, np.hypot(1.3, np.sqrt(12.25 - h**2) / 2)) for h in layers)
    total: NDArray[np.float64] = light / light.sum()
    return total


def test_cells_calibrate_as_beads_do_and_tell_their_own_depth() -> None:
    sweep, truth = simulate(beads=9, shape=(150, 150), looks=_ball)
    cells = calibrate(sweep, z_range_um=(2, 16), camera=CAMERA)
    assert cells.report["beads_used"] == 9
    assert cells.focus_um == pytest.approx(truth.focus_um, abs=0.7)
    beads = calibrate(simulate(beads=9, shape=(150, 150))[0], z_range_um=(2, 16), camera=CAMERA)
    rows, columns = np.indices((SIZE, SIZE))
    depths = np.array([3.0, 5.0, 8.0, 12.0])
    looks = [_ball(columns - PLACE[0, 0], rows - PLACE[0, 1], z) for z in depths]
    frames = np.stack([_frame(light, 20_000, seed) for seed, light in enumerate(looks)])
    offset = truth.focus_um - cells.focus_um
    by_cells = correlate_depths(cells, frames, PLACE)[:, 0] - offset
    by_beads = correlate_depths(beads, frames, PLACE)[:, 0]
    assert by_cells == pytest.approx(depths, abs=0.5)
    # A cell is wider than a bead at the same depth, so that beads take it for deeper.
    assert (by_beads - depths > 1.0)[:2].all()
