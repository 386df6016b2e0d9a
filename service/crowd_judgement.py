"""Judge dense frames composed from a real sweep: ``python -m service.crowd_judgement SWEEP --calibration C --model M``.

Each frame is the light of three planes of the sweep added (see
`models.evaluation.bead_crowds`, also for the noise). Beads that the
calibration left out, the other squares of a checkerboard, are judged; those
that it used are in the frames and ignored. A network answers at the threshold
of its model; the other methods, and a network with ``--tune``, at the one
that is best for the beads of the calibration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.evaluation.bead_crowds import best_threshold, compose_crowds, judge_crowds, score_crowds
from models.evaluation.methods import METHODS, make_method, needs_model
from models.model import Model
from models.tables import Localizations
from service.bead_judgement import bead_groups
from service.commands.console import note, result
from service.files.outputs import write_json

_TOLERANCES_UM = (10.0, 5.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the scores; `argv` are the command's words when not those of the process."""
    parser = argparse.ArgumentParser(prog="python -m service.crowd_judgement", description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--method", choices=list(METHODS), help="that of --model when not given")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--refine", action="store_true", help="polish by the joint maximum-likelihood fit")
    parser.add_argument("--tune", action="store_true", help="choose a network's threshold anew")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--shift-px", type=int, default=48, help="by how much windows differ in place, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.method is None and arguments.model is None:
        parser.error("name a --method or a --model")
    name = arguments.method or Model.load(arguments.model).architecture
    if arguments.refine:
        name += " --refine"
    if name not in METHODS:
        parser.error(f"{name} is none of the methods")

    from hardware.movies import open_sweep

    calibration = Calibration.load(arguments.calibration)
    opened = open_sweep(arguments.sweep)
    sweep = Sweep(opened.planes, calibration.sweep_z_um, calibration.psf.pixel_size_um, opened.bit_depth)
    beads_um, groups = bead_groups(calibration, sweep.shape)
    rng = np.random.default_rng(arguments.seed)
    crowds = compose_crowds(sweep, calibration, beads_um, arguments.frames, arguments.shift_px, rng)
    method = make_method(name, calibration, crowds.camera, arguments.model)
    begun = time.process_time()
    parts = [method(crowds.counts[number : number + 1], np.array([number])) for number in range(len(crowds))]
    seconds = (time.process_time() - begun) / len(crowds)
    candidates = Localizations.concatenate(parts)
    if needs_model(name) and arguments.model is not None and not arguments.tune:
        threshold = Model.load(arguments.model).threshold
    else:
        threshold = best_threshold(candidates, crowds, groups["seen"])
    found = candidates.select(candidates.probability >= threshold)
    unseen = groups["unseen"]
    scores = {f"{tolerance:g}": score_crowds(found, crowds, unseen, tolerance) for tolerance in _TOLERANCES_UM}
    flat = judge_crowds(found, crowds, unseen)
    result(
        f"{name}: {int(unseen.sum())} unseen beads, {crowds.inside.sum() / len(crowds):.0f} emitters a frame, "
        f"{len(crowds)} frames, threshold {threshold:.3f}, {seconds:.2f} s a frame"
    )
    for tolerance, score in scores.items():
        result(
            f"within {tolerance} µm: Jaccard {score.jaccard or 0:.3f}, precision {score.precision or 0:.3f}, "
            f"recall {score.recall or 0:.3f}, RMSE axial {score.rmse_axial_um or 0:.2f} µm, "
            f"lateral {score.rmse_lateral_um or 0:.2f} µm"
        )
    result(
        f"bias and tilt removed: sigma_z {flat.sigma_um or 0:.2f} µm, lateral {flat.lateral_um or 0:.2f} µm, "
        f"bias {flat.bias_um or 0:+.2f} µm, slope {flat.slope or 0:.3f}"
    )
    if arguments.json is not None:
        matched = {tolerance: score.as_dict() for tolerance, score in scores.items()}
        flattened = {key: asdict(flat)[key] for key in ("sigma_um", "lateral_um", "bias_um", "slope", "tilt_um")}
        record = {"method": name, "frames": len(crowds), "threshold": threshold, "seconds_per_frame": seconds}
        write_json(arguments.json, record | {"within_um": matched, "flattened": flattened})
        note(f"Scores in {arguments.json}.")


if __name__ == "__main__":
    main()
