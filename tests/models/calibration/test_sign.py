"""A particle that moves away from the objective has growing z_um, whatever the drive moves and however it sweeps.

An ideal objective images both sides of focus alike, so nothing could be seen
with it; this one has spherical aberration. Sweeps are made from where things
are along the optical axis, not from the formula that is tested.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.beads.bead_scores import correlate_depths
from models.calibration.calibrating import calibrate
from models.calibration.calibration import Calibration
from models.calibration.depth_axis import DepthAxis, depth_axis
from models.calibration.sweep import Sweep
from models.camera import CameraModel
from models.optics import ExactImages, Objective

Moves = Literal["objective", "sample"]

PIXEL_UM = 0.65
ABERRATED = Objective(0.45, 0.52, PIXEL_UM, spherical_waves=0.15)
CAMERA = CameraModel(100.0, 0.5, 1.5)
SIDE = 150
PHOTONS = 40_000.0
WORKING_DISTANCE_UM = 4000.0
"""From the objective to its focal plane."""
BEAD_UM = 4003.0
"""Where the beads lie on the axis that points from the objective into the sample, with the drive at 0."""


@pytest.fixture(scope="module")
def images() -> ExactImages:
    return ExactImages(ABERRATED, (-24.0, 24.0))


def _beyond_focus_um(moves: Moves, drive_um: float) -> float:
    """How much farther from the objective than its focal plane the beads are."""
    objective_um, bead_um = (drive_um, BEAD_UM) if moves == "objective" else (0.0, BEAD_UM + drive_um)
    return bead_um - (objective_um + WORKING_DISTANCE_UM)


def _places_um() -> NDArray[np.float64]:
    """Nine beads far enough from each other, off the pixel grid in all ways."""
    jitter = np.random.default_rng(1).uniform(-1.5, 1.5, (9, 2))
    grid = np.stack(np.meshgrid([25.0, 75.0, 125.0], [25.0, 75.0, 125.0]), axis=-1).reshape(-1, 2)
    return (grid + jitter) * PIXEL_UM


def _frame(images: ExactImages, places_um: NDArray[np.float64], z_um: float, seed: int) -> NDArray[np.uint16]:
    electrons = np.full((SIDE, SIDE), 5.0, np.float32)
    count = len(places_um)
    images.render(np.column_stack([places_um, np.full(count, z_um), np.full(count, PHOTONS)]), electrons)
    return CAMERA.expose(electrons, seed)


def _calibrated(
    images: ExactImages, moves: Moves, axis: DepthAxis, *, descending: bool, z_range_um: tuple[float, float]
) -> Calibration:
    drive = np.arange(-22.0, 23.0)
    # Every sweep covers 16 µm and more on both sides of focus, so that neither is told by being the longer one.
    if descending:
        drive = drive[::-1]
    planes = np.stack([_frame(images, _places_um(), _beyond_focus_um(moves, d), i) for i, d in enumerate(drive)])
    return calibrate(
        Sweep(planes[:, None], drive, PIXEL_UM),
        z_range_um=z_range_um,
        camera=CAMERA,
        sign=axis.sign,
        axial_scale=axis.axial_scale,
    )


def _depths(images: ExactImages, calibration: Calibration, true_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Answers for a bead at growing distance from the objective, with both sides of focus to choose from."""
    place = np.array([[60.3, 70.8]]) * PIXEL_UM
    frames = np.stack([_frame(images, place, z, 1000 + i) for i, z in enumerate(true_um)])
    answers: NDArray[np.float64] = correlate_depths(calibration, frames, place, z_range_um=(-17.0, 17.0))[:, 0]
    return answers


@pytest.mark.parametrize("descending", [False, True], ids=["upward sweep", "downward sweep"])
@pytest.mark.parametrize("moves", ["objective", "sample"])
def test_depth_grows_away_from_the_objective(images: ExactImages, moves: Moves, descending: bool) -> None:
    calibration = _calibrated(images, moves, depth_axis(moves, 1.0, 1.0), descending=descending, z_range_um=(3.0, 15.0))
    # An aberrated objective has no one focal plane: depth counts from the one that calibration found sharpest.
    sharpest = _beyond_focus_um(moves, calibration.focus_um)
    assert abs(sharpest) < 2.0
    # Farther on the near side only a bright centre stands out, which correlation takes for a pattern close to focus.
    true = np.array([-9.0, -4.0, 4.0, 6.5, 9.0, 11.5, 14.0])
    answers = _depths(images, calibration, true)
    assert (np.diff(answers) > 0).all()
    # Half of a step of the sweep: the wrong side of focus would be off by 8 and more.
    assert answers == pytest.approx(true - sharpest, abs=0.5)


def test_the_wrong_direction_would_be_seen(images: ExactImages) -> None:
    """The control: with the drive's direction stated wrongly, the same pictures give depths that fall."""
    wrong = depth_axis("sample", 1.0, 1.0)
    calibration = _calibrated(images, "objective", wrong, descending=False, z_range_um=(-15.0, -3.0))
    answers = _depths(images, calibration, np.array([4.0, 9.0, 14.0]))
    assert (np.diff(answers) < 0).all()
    assert (answers < 0).all()
