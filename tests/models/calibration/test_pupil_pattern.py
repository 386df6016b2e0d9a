"""A sweep through real optics gives a pattern with a fraction of the beads' noise; other patterns are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores.psf_error import pattern_errors
from models.calibration.beads import Cone
from models.calibration.calibrating import calibrate
from models.calibration.pattern import Pattern
from models.calibration.pupil import Pupil, render_pupil
from models.calibration.pupil_pattern import PupilPattern, centred, first_pupil_pattern
from models.psf import Psf, plane_centres
from tests.models.bead_sweeps import CAMERA, PIXEL_UM, simulate

WAVES = (0.02, -0.03, 0.01, -0.03, -0.05) + (0.0,) * 9
PUPIL = Pupil(0.4, 1.7, 0.0, 1.0, zernike_waves=WAVES)


def _optics(pupil: Pupil) -> Psf:
    depths = np.arange(-16.0, 40.0)
    return Psf(np.stack([render_pupil(pupil, z, 60, 0.5, PIXEL_UM) for z in depths]), depths, PIXEL_UM, 2)


@pytest.mark.slow
def test_the_pattern_between_planes_of_a_coarse_sweep_is_the_true_one() -> None:
    true = _optics(PUPIL)
    sweep, truth = simulate(
        z_um=np.arange(-11.7, 34.0, 2.0),
        focus_um=0.6,
        beads=9,
        shape=(198, 198),
        looks=lambda dx, dy, z: true.evaluate(dx, dy, np.array(z)),
    )
    learned = calibrate(sweep, z_range_um=(0, 28), camera=CAMERA)
    assert learned.psf.z_step_um < 2.0
    assert learned.psf.planes.min() == 0.0
    pupil = learned.report["pupil"]
    assert pupil["sine"] == pytest.approx(PUPIL.sine, rel=0.02)
    # The turns alone, without starting where they point to, are 0.3 % off here.
    assert 1 / pupil["wavelength_um"] == pytest.approx(PUPIL.waves_per_um, rel=0.002)
    assert pupil["unexplained"] < 0.02
    errors = pattern_errors(learned.psf, true, (4.0, 9.1, 14.6, 22.3), learned.focus_um - truth.focus_um)
    # The mean of nine beads of 60,000 photo-electrons errs by 5 % and more.
    assert max(each.relative for each in errors) < 0.015
    assert [each.depth_um for each in errors] == pytest.approx(np.zeros(4), abs=0.1)


def test_a_pattern_with_coma_is_centred_at_every_depth() -> None:
    depths = np.arange(0.0, 24.0, 3.0)
    prior = _optics(PUPIL).planes[16:40:3]
    rest = np.zeros_like(prior)
    rest[:, 58, 66] = 0.02 * prior.max(axis=(1, 2))
    known = PupilPattern(PUPIL, prior, rest, depths, 2)
    at = plane_centres(prior + rest)
    assert np.abs(at).max() > 0.2  # grid points
    pattern, centre = centred(known, PIXEL_UM)
    assert np.abs(plane_centres(pattern.samples()[1:-1])).max() < 0.01
    np.testing.assert_allclose(centre, at / 2)


def test_a_pattern_that_does_not_grow_has_no_pupil() -> None:
    depths = np.arange(8.0)
    rows, columns = np.indices((31, 31)) - 15
    spot = np.exp(-(rows**2 + columns**2) / 18).astype(np.float32)
    pattern = Pattern.of_samples(np.stack([spot] * 8), depths, 2)
    assert first_pupil_pattern(pattern, depths, Cone(4.0, 4.0, 0.0), PIXEL_UM) is None
    # Nor has one that no wave makes: a square.
    square = ((np.abs(rows) < 5) & (np.abs(columns) < 9)).astype(np.float32)
    assert (
        first_pupil_pattern(
            Pattern.of_samples(np.stack([square] * 8), depths, 2), depths, Cone(4.0, 3.0, 0.3), PIXEL_UM
        )
        is None
    )
