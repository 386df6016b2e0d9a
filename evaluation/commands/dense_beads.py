"""`bathyscope bench dense-beads`: dense frames composed from a real sweep of beads.

Each frame is the light of three planes of the sweep added (see
`evaluation.beads.bead_crowds`, also for the noise). Beads that the
calibration left out, the other squares of a checkerboard, are scored; those
that it used are in the frames and ignored. A network uses the threshold of
its model; the other methods, and a network with ``--tune``, use the one that
is best for the beads of the calibration.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]

_TOLERANCES_UM = (10.0, 5.0)


def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep: OME-TIFF, TIFF or OME-Zarr.")],
    calibration: Annotated[
        Path, typer.Option("--calibration", metavar="DIR", help="Calibration with some of the beads.")
    ],
    method: Annotated[
        str | None, typer.Option("--method", help="A method of `bathyscope reproduce`; absent: that of --model.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Model of the network.")] = None,
    refine: Annotated[bool, typer.Option("--refine", help="Refine by the joint maximum-likelihood fit.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Choose the threshold of a network anew.")] = False,
    frames: Annotated[int, typer.Option("--frames", min=1, max=10_000, help="Frames to compose.")] = 40,
    shift_px: Annotated[
        int, typer.Option("--shift-px", min=0, max=4096, help="Largest shift between the planes of a frame.")
    ] = 48,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of planes and shifts.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the scores.")] = None,
) -> None:
    """Jaccard index and errors on dense frames that are composed from a real sweep."""
    if method is None and model is None:
        raise typer.BadParameter("Give a --method or a --model.")

    import numpy as np

    from evaluation.beads.bead_crowds import best_threshold, compose_crowds, score_crowd_depths, score_crowds
    from evaluation.beads.bead_groups import bead_groups
    from evaluation.methods.registry import METHODS, make_method, needs_model
    from evaluation.runs.provenance import write_result
    from hardware.sweeps import open_sweep
    from models.calibration.calibration import Calibration
    from models.calibration.sweep import Sweep
    from models.model_card import ModelCard
    from models.tables import Localizations
    from service.commands.console import note, result
    from service.files.outputs import check_json

    check_json(json_file)
    described = None if model is None else ModelCard.load(model)
    name = method or described.architecture  # type: ignore[union-attr]  # one of the two is given
    if refine:
        name += " --refine"
    if name not in METHODS:
        raise typer.BadParameter(f"There is no method {name!r}; there are {', '.join(METHODS)}.")
    known = Calibration.load(calibration)
    opened = open_sweep(sweep)
    planes = Sweep(opened.planes, known.sweep_z_um, known.psf.pixel_size_um, opened.bit_depth)
    positions_um, groups = bead_groups(known, planes.shape)
    crowds = compose_crowds(planes, known, positions_um, frames, shift_px, np.random.default_rng(seed))
    localize = make_method(name, known, crowds.camera, model)
    begun = time.process_time()
    parts = [localize(crowds.counts[number : number + 1], np.array([number])) for number in range(len(crowds))]
    seconds = (time.process_time() - begun) / len(crowds)
    candidates = Localizations.concatenate(parts)
    if needs_model(name) and described is not None and not tune:
        threshold = described.threshold
    else:
        threshold = best_threshold(candidates, crowds, groups["seen"])
    found = candidates.select(candidates.probability >= threshold)
    unseen = groups["unseen"]
    scores = {f"{tolerance:g}": score_crowds(found, crowds, unseen, tolerance) for tolerance in _TOLERANCES_UM}
    flat = score_crowd_depths(found, crowds, unseen)
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
    if json_file is not None:
        matched = {tolerance: score.as_dict() for tolerance, score in scores.items()}
        flattened = {key: asdict(flat)[key] for key in ("sigma_um", "lateral_um", "bias_um", "slope", "tilt_um")}
        record = {"method": name, "frames": len(crowds), "threshold": threshold, "seconds_per_frame": seconds}
        write_result(json_file, record | {"within_um": matched, "flattened": flattened}, {"frames": seed})
        note(f"Scores in {json_file}.")
