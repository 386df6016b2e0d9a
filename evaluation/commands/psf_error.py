"""`bathyscope bench psf`: the PSF of a calibration of the hidden optics against the true one.

Reports the residual difference after intensity, position and depth are fitted,
and the error of depth.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.commands.checks import plausible

__all__ = ["run"]

_DEPTHS_UM = (0.0, 3.0, 5.0, 7.3, 10.0, 15.0, 20.6, 30.0, 40.9, 50.0, 60.3, 70.0, 80.0, 90.0, 100.0)
"""Some on planes of the sweep, some between them."""


def run(
    calibration: Annotated[Path, typer.Argument(help="Calibration of the hidden optics.")],
    depth_um: Annotated[
        list[float],
        typer.Option(
            "--depth-um",
            default_factory=lambda: list(_DEPTHS_UM),
            show_default="15 depths",
            callback=plausible("DEPTH_UM"),
            help="Repeatable.",
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="The calibration is that of the quick sweep.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the errors.")] = None,
) -> None:
    """PSF model error of a calibration of the hidden optics, depth by depth."""
    import numpy as np
    import platformdirs

    from evaluation.optics.benchmark_optics import hidden_benchmark_optics
    from evaluation.optics.hidden_optics import HIDDEN_SEED
    from evaluation.runs.provenance import write_result
    from evaluation.scores.psf_error import pattern_errors
    from models.calibration.calibration import Calibration
    from service.commands.console import note, result
    from service.files.outputs import check_json

    check_json(json_file)
    known = Calibration.load(calibration)
    cache = Path(platformdirs.user_cache_dir("bathyscope"))
    truth = hidden_benchmark_optics(cache, calibration, quick=quick)
    low, high = known.z_range_um
    errors = pattern_errors(known.psf, truth.psf, [z for z in depth_um if low <= z <= high], known.focus_um)
    for each in errors:
        result(
            f"{each.z_um:5.1f} µm: PSF model error {each.relative:.2%}, depth error {each.depth_um:+.3f} µm, "
            f"deepest negative value {each.negative:.2%} of the highest"
        )
    inner = [each for each in errors if 5 <= each.z_um <= 90]
    if inner:
        relative = np.array([each.relative for each in inner])
        result(f"5 to 90 µm: PSF model error {relative.mean():.2%}, at most {relative.max():.2%}")
    if json_file is not None:
        write_result(json_file, {"depths": [asdict(each) for each in errors]}, {"hidden optics": HIDDEN_SEED})
        note(f"Errors in {json_file}.")
