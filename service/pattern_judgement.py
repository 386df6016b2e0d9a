"""Judge a calibration of the hidden optics: ``python -m service.pattern_judgement CALIBRATION``.

Its pattern is compared with the true one, which only the judge knows: what is
left of the difference when light, place and depth are fitted, and how depth
itself is off.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import platformdirs

from models.calibration.calibration import Calibration
from models.evaluation.judging import hidden_judging
from models.evaluation.pattern_error import pattern_errors
from service.commands.console import note, result
from service.files.outputs import write_json

_DEPTHS_UM = (0.0, 3.0, 5.0, 7.3, 10.0, 15.0, 20.6, 30.0, 40.9, 50.0, 60.3, 70.0, 80.0, 90.0, 100.0)
"""Some on planes of the sweep, some between them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each depth; `argv` are the command's words when not those of the process."""
    parser = argparse.ArgumentParser(prog="python -m service.pattern_judgement", description=__doc__)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--depths-um", type=float, nargs="+", default=_DEPTHS_UM)
    parser.add_argument("--quick", action="store_true", help="The calibration is that of the quick sweep.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    known = Calibration.load(arguments.calibration)
    cache = Path(platformdirs.user_cache_dir("bathyscope"))
    judge = hidden_judging(cache, arguments.calibration, quick=arguments.quick)
    low, high = known.z_range_um
    depths = [z for z in arguments.depths_um if low <= z <= high]
    errors = pattern_errors(known.psf, judge.psf, depths, known.focus_um)
    for each in errors:
        result(
            f"{each.z_um:5.1f} µm: pattern off by {each.relative:.2%}, depth by {each.depth_um:+.3f} µm, "
            f"deepest negative light {each.negative:.2%} of the highest"
        )
    inner = [each for each in errors if 5 <= each.z_um <= 90]
    if inner:
        off = np.array([each.relative for each in inner])
        result(f"5 to 90 µm: pattern off by {off.mean():.2%}, at most {off.max():.2%}")
    if arguments.json is not None:
        write_json(arguments.json, {"depths": [asdict(each) for each in errors]})
        note(f"Errors in {arguments.json}.")


if __name__ == "__main__":
    main()
