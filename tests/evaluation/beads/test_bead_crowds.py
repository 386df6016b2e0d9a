"""Frames composed of a sweep's planes: their light, noise and truth, and what counts in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.beads.bead_crowds import (
    LAYERS,
    Crowds,
    best_threshold,
    compose_crowds,
    score_crowd_depths,
    score_crowds,
)
from evaluation.methods.lookup import PatternLookup
from models.calibration.calibrating import calibrate
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.tables import Localizations
from tests.models.bead_sweeps import CAMERA, simulate

F64 = NDArray[np.float64]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return simulate(tilt_um=(0.8, -0.5), repeats=2)[0]


@pytest.fixture(scope="module")
def calibration(sweep: Sweep) -> Calibration:
    return calibrate(sweep, z_range_um=(3.0, 15.0), camera=CAMERA)


@pytest.fixture(scope="module")
def beads_um(calibration: Calibration) -> F64:
    return np.array([[bead["x_um"], bead["y_um"]] for bead in calibration.report["beads"]])


@pytest.fixture(scope="module")
def crowds(sweep: Sweep, calibration: Calibration, beads_um: F64) -> Crowds:
    return compose_crowds(sweep, calibration, beads_um, 6, 24, np.random.default_rng(1))


def localizations(frame: NDArray[np.int64], xyz_um: F64, probability: float = 0.9) -> Localizations:
    blank = np.zeros(len(frame))
    x, y, z = xyz_um.T
    return Localizations(frame, x, y, z, blank, blank, blank + probability, blank, blank, blank, blank)


def truth(crowds: Crowds, error_um: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Localizations:
    """Every bead in every frame, each in its place."""
    frame, layer, bead = np.nonzero(crowds.inside)
    return localizations(frame, crowds.places_um[frame, layer, bead] + np.array(error_um))


def test_light_and_variances_of_three_exposures_add(calibration: Calibration) -> None:
    rng = np.random.default_rng(3)
    # An even field: 50 photo-electrons, and a camera with a read noise of 3 e-.
    planes = np.stack([[CAMERA.expose(np.full((160, 160), 50.0, np.float32), int(seed))] for seed in range(9)])
    flat = Sweep(planes, np.arange(9.0), 1.0)
    from_focus = replace(calibration, focus_um=0.0, z_range_um=(0.0, 8.0))
    crowds = compose_crowds(flat, from_focus, np.zeros((0, 2)), 4, 32, rng)
    assert crowds.counts.shape == (4, 128, 128)
    electrons = crowds.camera.to_electrons(crowds.counts)
    assert electrons.mean() == pytest.approx(150, abs=1.5)
    assert crowds.camera.read_noise_e == pytest.approx(np.sqrt(3) * CAMERA.read_noise_e)
    # Whole counts of 2 e- are rounded in each of the three exposures.
    rounding = 3 * CAMERA.electrons_per_adu**2 / 12
    expected = 150 + crowds.camera.read_noise_e**2 + rounding
    assert np.var(electrons, axis=(1, 2)).mean() == pytest.approx(expected, rel=0.03)


def test_each_third_of_the_depths_is_in_every_frame(crowds: Crowds) -> None:
    assert crowds.depths_um.shape == (6, LAYERS)
    for layer, (low, high) in enumerate(((3, 7), (7, 11), (11, 15))):
        assert (crowds.depths_um[:, layer] >= low - 1e-9).all()
        assert (crowds.depths_um[:, layer] <= high + 1e-9).all()
    assert crowds.inside.any(axis=2).all()
    # Windows differ in place, so beads do not stand on each other.
    assert np.ptp(crowds.places_um[..., 0, 0]) > 5


def test_the_truth_scores_one_and_the_tilt_is_in_it(crowds: Crowds) -> None:
    everyone = np.ones(len(crowds.beads_um), bool)
    score = score_crowds(truth(crowds, (0.3, 0.0, 0.4)), crowds, everyone)
    assert score.jaccard == 1.0
    assert score.rmse_axial_um == pytest.approx(0.4)
    flat = score_crowd_depths(truth(crowds, (0.3, 0.0, 0.4)), crowds, everyone)
    assert flat.sigma_um == pytest.approx(0.0, abs=1e-6)
    assert flat.bias_um == pytest.approx(0.4)
    # The slide is tilted by 1.6 and 1 µm across the field.
    heights = crowds.places_um[0, 0, :, 2] - crowds.depths_um[0, 0]
    assert np.ptp(heights) > 1.0


def test_beads_of_the_calibration_are_ignored_with_their_localizations(crowds: Crowds) -> None:
    counted = np.arange(len(crowds.beads_um)) % 2 == 0
    found = truth(crowds)
    assert score_crowds(found, crowds, counted).jaccard == 1.0
    _, layer, bead = np.nonzero(crowds.inside)
    only = found.select(counted[bead])
    assert score_crowds(only, crowds, counted).jaccard == 1.0
    # A second localization 12 µm deeper than a bead belongs to that bead, and is false if the bead counts.
    for chosen, false in ((counted, int((counted[bead] & (layer == 2)).sum())), (~counted, 0)):
        doubled = found.select(chosen[bead] & (layer == 2))
        deeper = localizations(doubled.frame, doubled.xyz_um + np.array([0.0, 0.0, 12.0]))
        score = score_crowds(Localizations.concatenate([found, deeper]), crowds, counted)
        assert (score.fp, score.fn) == (false, 0)


def test_no_localizations_and_the_best_threshold(crowds: Crowds) -> None:
    everyone = np.ones(len(crowds.beads_um), bool)
    nothing = score_crowds(Localizations.empty(), crowds, everyone)
    assert (nothing.tp, nothing.fn) == (0, int(crowds.inside.sum()))
    assert best_threshold(Localizations.empty(), crowds, everyone) == 0.0
    places = np.random.default_rng(1).uniform(0, 150, (60, 3)) + np.array([0.0, 0.0, 40.0])
    false = localizations(np.repeat(np.arange(6), 10), places, 0.2)
    assert best_threshold(Localizations.concatenate([truth(crowds), false]), crowds, everyone) == 0.9


def test_a_method_finds_the_beads_at_their_true_positions(crowds: Crowds, calibration: Calibration) -> None:
    found = PatternLookup(calibration, crowds.camera, threshold=0.6)(crowds.counts[:3], np.arange(3))
    assert calibration.field is not None
    found = calibration.field.true(found)
    few = replace(
        crowds,
        counts=crowds.counts[:3],
        places_um=crowds.places_um[:3],
        inside=crowds.inside[:3],
        depths_um=crowds.depths_um[:3],
    )
    flat = score_crowd_depths(found, few, np.ones(len(crowds.beads_um), bool))
    assert flat.bias_um == pytest.approx(0.0, abs=0.5)
    assert flat.lateral_um is not None
    assert flat.lateral_um < 1.0
    # The simplest method, on patterns that overlap.
    assert (score_crowds(found, few, np.ones(len(crowds.beads_um), bool)).jaccard or 0) > 0.6
