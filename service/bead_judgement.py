"""Judge a trained model on a real sweep of beads: ``python -m service.bead_judgement SWEEP --model M --calibration C``.

The beads are those that the calibration found; those it used and those it
left out (the other squares of a checkerboard) are judged apart, at every
plane of the depth range and every repeat. Isolated beads, whose patterns
touch neither another's nor the edge of the frame at any depth, are judged once
more by themselves, with the tilt of the slide that all unseen beads tell.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.evaluation.beads import BeadScore, Localize, answer_bead_sweep
from models.localization import Localizer
from service.commands.console import note, result
from service.files.outputs import write_json

_LEFT_OUT = "outside the places chosen for calibration"


def main() -> None:
    """Print the scores of seen, unseen and isolated unseen beads."""
    parser = argparse.ArgumentParser(prog="python -m service.bead_judgement", description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--refine", action="store_true", help="Polish by the joint maximum-likelihood fit.")
    parser.add_argument("--every", type=int, default=1, help="Judge every so many planes only, to be quick.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    from hardware.movies import open_sweep

    calibration = Calibration.load(arguments.calibration)
    localizer = Localizer.load(arguments.model)
    opened = open_sweep(arguments.sweep)
    sweep = Sweep(
        planes=opened.planes[:: arguments.every],
        z_um=calibration.sweep_z_um[:: arguments.every],
        pixel_size_um=calibration.psf.pixel_size_um,
        bit_depth=opened.bit_depth,
    )
    places, groups = bead_groups(calibration, sweep.shape)
    localize: Localize = localizer.localize
    if arguments.refine:
        localize = partial(localizer.localize_finely, refiner=localizer.refiner(arguments.model))
    answers = answer_bead_sweep(
        localize,
        sweep,
        places,
        focus_um=calibration.focus_um,
        z_range_um=calibration.z_range_um,
        sign=calibration.sign,
        axial_scale=calibration.axial_scale,
    )
    scores = {}
    for name, chosen in groups.items():
        score = answers.score(chosen, groups["seen"] if name == "seen" else groups["unseen"])
        scores[name] = {"beads": int(chosen.sum()), **asdict(score)}
        result(score_line(name, int(chosen.sum()), score))
    if arguments.json is not None:
        write_json(arguments.json, scores)
        note(f"Scores in {arguments.json}.")


def bead_groups(
    calibration: Calibration, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
    """Places of the beads in the frame (H, W) that a calibration found, (N, 2) µm, and which belong to which group."""
    edge = np.array([shape[1] - 0.5, shape[0] - 0.5]) * calibration.psf.pixel_size_um
    beads = [
        bead
        for bead in calibration.report["beads"]
        if -0.5 * calibration.psf.pixel_size_um <= min(bead["x_um"], bead["y_um"])
        and bead["x_um"] < edge[0]
        and bead["y_um"] < edge[1]
    ]
    places = np.array([[bead["x_um"], bead["y_um"]] for bead in beads])
    unseen = np.array([bead["reason"] == _LEFT_OUT for bead in beads])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.diag(np.full(len(places), np.inf))
    height, width = (size * calibration.psf.pixel_size_um for size in shape)
    inside = np.minimum(places, np.array([width, height]) - places).min(axis=1)
    radius_um = calibration.report["pattern_radius_px"]["at_range_end"] * calibration.psf.pixel_size_um
    isolated = (apart.min(axis=1) > 2 * radius_um) & (inside > radius_um)
    return places, {"unseen": unseen, "unseen, isolated": unseen & isolated, "seen": ~unseen}


def score_line(name: str, beads: int, score: BeadScore) -> str:
    """The figures of a group of beads in words."""
    return (
        f"{name:>17}: {beads} beads, found within 5 µm {score.found:.3f}, "
        f"sigma_z {score.sigma_um or 0:.2f} µm ({score.sigma_untilted_um or 0:.2f} with the tilt), "
        f"bias {score.bias_um or 0:+.2f} µm, slope {score.slope or 0:.3f}, gross errors {score.gross:.3f}, "
        f"lateral {score.lateral_um or 0:.2f} µm"
    )


if __name__ == "__main__":
    main()
