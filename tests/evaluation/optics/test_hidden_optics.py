"""The second PSF code agrees with the first for equal optics, and positions are those of the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.optics import hidden_optics
from evaluation.optics.benchmark_optics import BenchmarkOptics, hidden_benchmark_optics
from evaluation.optics.frames import FRAME_SHAPE, SCMOS_CAMERA, Photons, expose
from evaluation.optics.hidden_optics import FIELD_SHAPE, HIDDEN_SEED, HiddenImages, draw_hidden_optics, hidden_psf
from evaluation.optics.hidden_sweep import draw_sweep, sweep_calibration
from models.fit.joint_fit import Convergence, FitFrame, fit_jointly
from models.optics import Objective, computed_psf
from models.pattern_spline import PatternSpline

PERFECT = replace(
    draw_hidden_optics(),
    objective=Objective(0.45, 0.52, 0.65),
    spherical_waves=0.0,
    coma_waves=(0.0, 0.0),
    astigmatism_waves=(0.0, 0.0),
)


@pytest.fixture(scope="module")
def optics() -> BenchmarkOptics:
    return hidden_benchmark_optics(quick=True)


@pytest.mark.parametrize("bead_um", [0.0, 1.0])
def test_without_aberrations_two_codes_show_the_same(bead_um: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_optics, "MARGIN_UM", 0.0)
    objective = Objective(0.45, 0.52, 0.65, bead_diameter_um=bead_um)
    theirs = hidden_psf(replace(PERFECT, objective=objective), (8.0, 12.0))
    ours = computed_psf(objective, theirs.z_um, theirs.oversampling)
    half = min(theirs.planes.shape[1], ours.planes.shape[1]) // 2
    a, b = (
        psf.planes[:, psf.planes.shape[1] // 2 - half :, psf.planes.shape[1] // 2 - half :][:, : 2 * half, : 2 * half]
        for psf in (theirs, ours)
    )
    # Different integrals on different grids: 2 % of the peak at the sharpest ring.
    assert np.abs(a - b).max() < 0.02 * b.max()
    # Light is a share of each pixel lattice.
    np.testing.assert_allclose(theirs.planes.sum(axis=(1, 2)), theirs.oversampling**2, rtol=1e-4)


def test_aberrations_are_drawn_and_break_the_symmetries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_optics, "MARGIN_UM", 0.0)
    optics = draw_hidden_optics()
    assert optics == draw_hidden_optics(HIDDEN_SEED)
    assert optics != draw_hidden_optics(HIDDEN_SEED + 1)
    for waves in (optics.spherical_waves, np.hypot(*optics.coma_waves), np.hypot(*optics.astigmatism_waves)):
        assert 0.03 <= abs(waves) <= 0.08
    planes = hidden_psf(optics, (-6.0, 6.0)).planes
    assert np.abs(planes[0] - planes[-1]).max() > 0.1 * planes[0].max()
    assert np.abs(planes[-1] - planes[-1].T).max() > 0.02 * planes[-1].max()


def test_the_pattern_is_kept_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_optics, "MARGIN_UM", 0.0)
    made = hidden_psf(PERFECT, (0.0, 4.0), cache=tmp_path)
    monkeypatch.setattr(hidden_optics, "_compute", None)
    np.testing.assert_array_equal(hidden_psf(PERFECT, (0.0, 4.0), cache=tmp_path).planes, made.planes)


def test_places_are_continuous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_optics, "MARGIN_UM", 0.0)
    images = HiddenImages(replace(PERFECT, curvature_um=0.0), hidden_psf(PERFECT, (4.0, 8.0)))
    rows, columns = np.indices((64, 64)) * 0.65
    for x, y in ((20.0, 21.3), (20.17, 20.9)):
        image = np.zeros((64, 64), np.float32)
        images.render(np.array([[x, y, 6.0, 1e4]]), image)
        assert image.sum() == pytest.approx(1e4, rel=0.02)
        assert (image * columns).sum() / image.sum() == pytest.approx(x, abs=0.02)
        assert (image * rows).sum() / image.sum() == pytest.approx(y, abs=0.02)


def test_the_focal_plane_is_curved_about_the_middle_of_the_field() -> None:
    optics = draw_hidden_optics()
    grid = (np.arange(64) + 0.5) / 64 * FIELD_SHAPE[0] * 0.65
    x, y = np.meshgrid(grid, grid)
    height = optics.curvature_at(x, y)
    assert height.mean() == pytest.approx(0.0, abs=0.01)
    assert height[32, -1] - height[32, 32] == pytest.approx(optics.curvature_um, rel=0.05)


def test_a_calibration_from_the_sweep_gives_the_true_depth(optics: BenchmarkOptics) -> None:
    """A fit with what `calibrate` learned finds hidden beads at their true positions."""
    assert optics.calibration.report["beads_used"] >= 8
    spline = PatternSpline(optics.calibration.psf)
    rng = np.random.default_rng(8)
    middle = np.array(FRAME_SHAPE) / 2 * optics.pixel_size_um
    errors = []
    for z in (6.0, 10.0, 14.0, 18.0):
        place = np.append(middle + rng.uniform(-5, 5, 2), z)
        frames = expose(optics, [np.append(place, 1.0)[None]], Photons(5e4, 5.0), FRAME_SHAPE, rng)
        data = frames.camera.to_electrons(frames.counts[0]) + np.float32(frames.camera.read_noise_e**2)
        start = np.array([[place[0] / 0.65, place[1] / 0.65, z + 0.7, 4e4]])
        bounds = ((0.0, 255.0), (0.0, 255.0), (1.0, 24.0))
        fit = fit_jointly(
            FitFrame(data, spline, frames.camera.read_noise_e**2), start, 5.0, bounds, Convergence(40, 1e-3)
        )
        errors.append(fit.emitters[0, :3] * np.array([0.65, 0.65, 1.0]) - place)
    # The errors of a calibration from nine beads with a tilted slide and a curved field: a few tenths of a micrometre.
    assert np.abs(np.array(errors)[:, 2]).max() < 0.3
    assert np.abs(np.array(errors)[:, :2]).max() < 0.2


def test_negative_defocus_is_drawn_by_optics_extended_to_it(optics: BenchmarkOptics) -> None:
    wide = optics.reaching(20.0)
    assert wide.psf.z_um[0] <= -24.0
    images = []
    for each, z_um in ((optics, 12.0), (wide, 12.0), (wide, -12.0), (wide, -19.0)):
        image = np.zeros((96, 96), np.float32)
        each.render(np.array([[30.2, 31.3, z_um, 1e4]]), image)
        images.append(image)
        assert image.sum() == pytest.approx(1e4, rel=0.02)
    near, same, mirrored, farther = images
    np.testing.assert_allclose(same, near, atol=1e-3 * near.max())
    assert np.abs(mirrored - near).max() > 0.1 * near.max()
    # A microscope at the end of its planes would draw the last one again.
    assert farther.max() < 0.7 * mirrored.max()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_crowded_beads_are_calibrated_and_do_not_seem_to_move(optics: BenchmarkOptics) -> None:
    # Patterns at 30 µm have a radius of 30 pixels, beads are 60 apart: where rims were cut off, what was left of
    # the neighbours moved the planes' centres by more than a pixel from plane to plane.
    positions = np.arange(-6.0, 30.1, 2.0)
    sweep = draw_sweep(optics.images, SCMOS_CAMERA, 0.65, z_um=positions, beads=(6, 6), shape=(360, 360), seed=5)
    learned = sweep_calibration(sweep, SCMOS_CAMERA, z_range_um=(0.0, 24.0))
    assert learned.report["beads_used"] >= 34
    # Coma moves the pattern by 0.35 µm.
    assert max(learned.report["walk_um"].values()) < 0.6
