"""`bathyscope bench beads`: depth errors of a trained model on a real sweep of beads.

The beads are those that the calibration found. Beads that it used and beads
that it left out (the other squares of a checkerboard) are scored apart, at
every plane of the depth range and every repeat. Isolated beads are scored once
more by themselves, with the tilt of the slide that all unseen beads show.

With `--track` the planes of one repeat are a movie of slowly changing depth.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evaluation.beads.bead_scores import Localize

__all__ = ["run"]


def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep: OME-TIFF, TIFF or OME-Zarr.")],
    model: Annotated[Path, typer.Option("--model", metavar="DIR", help="Model to test.")],
    calibration: Annotated[
        Path, typer.Option("--calibration", metavar="DIR", help="Calibration with some of the beads.")
    ],
    refine: Annotated[bool, typer.Option("--refine", help="Refine by the joint maximum-likelihood fit.")] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Play the planes as a movie and track the beads in its images.")
    ] = False,
    every: Annotated[int, typer.Option("--every", min=1, max=1000, help="Use every so many planes only.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the scores.")] = None,
) -> None:
    """Depth errors of a model on a real sweep: beads that the calibration used, and beads that it left out."""
    from evaluation.beads.bead_groups import bead_groups, score_line
    from evaluation.beads.bead_scores import localize_bead_sweep
    from evaluation.beads.bead_tracks import SweepTracker
    from evaluation.runs.provenance import write_result
    from hardware.sweeps import open_sweep
    from models.calibration.calibration import Calibration
    from models.calibration.sweep import Sweep
    from models.localization import Localizer
    from service.commands.console import note, result
    from service.files.outputs import check_json

    check_json(json_file)
    if track and refine:
        raise typer.BadParameter("--track fits each image with its tracks as priors; leave --refine out")
    known = Calibration.load(calibration)
    localizer = Localizer.load(model)
    opened = open_sweep(sweep)
    planes = Sweep(
        planes=opened.planes[::every],
        z_um=known.sweep_z_um[::every],
        pixel_size_um=known.psf.pixel_size_um,
        bit_depth=opened.bit_depth,
    )
    positions, groups = bead_groups(known, planes.shape)
    localize: Localize = localizer.localize
    if track:
        localize = SweepTracker(localizer)
    else:
        localizer.check_finds(fits=refine)
    if refine:
        localize = partial(localizer.localize_finely, refiner=localizer.refiner())
    found = localize_bead_sweep(
        localize,
        planes,
        positions,
        focus_um=known.focus_um,
        z_range_um=known.z_range_um,
        sign=known.sign,
        axial_scale=known.axial_scale,
        repeats=1 if track else None,
    )
    scores = {}
    for name, chosen in groups.items():
        score = found.score(chosen, groups["seen"] if name == "seen" else groups["unseen"])
        scores[name] = {"beads": int(chosen.sum()), **asdict(score)}
        result(score_line(name, int(chosen.sum()), score))
    if json_file is not None:
        write_result(json_file, scores)
        note(f"Scores in {json_file}.")
