"""Groups of the beads of a calibration: used by it (seen), left out of it (unseen), and isolated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.beads.bead_scores import BeadScore
from models.calibration.calibration import Calibration

__all__ = ["bead_groups", "score_line"]

_LEFT_OUT = "outside the places chosen for calibration"


def bead_groups(
    calibration: Calibration, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
    """Positions of the beads that a calibration found in frames of one shape, and the groups that they belong to.

    Parameters
    ----------
    calibration : Calibration
    shape : (int, int)
        Rows and columns of a frame.

    Returns
    -------
    positions : ndarray of float64, shape (N, 2)
        x and y, µm.
    groups : dict of ndarray of bool, shape (N,)
        ``unseen``, ``unseen, isolated`` and ``seen``. The pattern of an isolated bead touches neither another one's
        nor the edge of the frame at any depth of the calibration.
    """
    pixel_um = calibration.psf.pixel_size_um
    edge = np.array([shape[1] - 0.5, shape[0] - 0.5]) * pixel_um
    beads = [
        bead
        for bead in calibration.report["beads"]
        if -0.5 * pixel_um <= min(bead["x_um"], bead["y_um"]) and bead["x_um"] < edge[0] and bead["y_um"] < edge[1]
    ]
    positions = np.array([[bead["x_um"], bead["y_um"]] for bead in beads])
    unseen = np.array([bead["reason"] == _LEFT_OUT for bead in beads])
    apart = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1)) + np.diag(
        np.full(len(positions), np.inf)
    )
    height, width = (size * pixel_um for size in shape)
    inside = np.minimum(positions, np.array([width, height]) - positions).min(axis=1)
    radius_um = calibration.report["pattern_radius_px"]["at_range_end"] * pixel_um
    isolated = (apart.min(axis=1) > 2 * radius_um) & (inside > radius_um)
    return positions, {"unseen": unseen, "unseen, isolated": unseen & isolated, "seen": ~unseen}


def score_line(name: str, beads: int, score: BeadScore) -> str:
    """One line of text with the figures of a group of beads."""
    return (
        f"{name:>17}: {beads} beads, found within 5 µm {score.found:.3f}, "
        f"sigma_z {score.sigma_um or 0:.2f} µm ({score.sigma_untilted_um or 0:.2f} with the tilt), "
        f"bias {score.bias_um or 0:+.2f} µm, slope {score.slope or 0:.3f}, gross errors {score.gross:.3f}, "
        f"lateral {score.lateral_um or 0:.2f} µm"
    )
