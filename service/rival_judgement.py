"""Judge the rival methods: ``python -m service.rival_judgement isolated`` or ``… beads SWEEP``.

``isolated`` fits single emitters of the reference optics with the exact PSF
and prints their errors in units of the Cramér-Rao bound, and the fits a
second. ``beads`` calibrates with the black squares of a real sweep, with all
their beads and with a single one, lets a rival localize every plane, and
judges the beads of the white squares as `service.bead_judgement` does for a
network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibrating import calibrate
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.errors import DataError
from models.evaluation.beads import answer_bead_sweep
from models.evaluation.methods import make_method
from service.bead_judgement import bead_groups, score_line
from service.commands.calibrate import checkerboard
from service.commands.console import note, result
from service.files.outputs import write_json

_SHAPE = (256, 256)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of one of the two; `argv` are the command's words when not those of the process."""
    parser = argparse.ArgumentParser(prog="python -m service.rival_judgement", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    isolated = what.add_parser("isolated")
    isolated.add_argument("--frames", type=int, default=40, help="per depth slice and SNR")
    isolated.add_argument("--snr-db", type=float, nargs="+", default=(20.0, 30.0))
    isolated.add_argument("--depths-um", type=float, nargs=2, help="one slice instead of all")
    isolated.add_argument("--estimator", choices=["mle", "ls"], default="mle")
    isolated.add_argument("--package", choices=["smappy-smlm", "picassosr"])
    beads = what.add_parser("beads")
    beads.add_argument("sweep", type=Path)
    beads.add_argument("--method", choices=["mle", "ls", "mle-multi", "lookup"], default="mle")
    beads.add_argument("--z-range-um", type=float, nargs=2, default=(3.0, 55.0))
    beads.add_argument("--pixel-size-um", type=float)
    beads.add_argument("--z-step-um", type=float)
    beads.add_argument("--square-px", type=int, default=64)
    beads.add_argument("--every", type=int, default=1, help="judge every so many planes, one only")
    beads.add_argument("--repeats", type=int, help="exposures of each plane that are judged; all when not given")
    for each in (isolated, beads):
        each.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    rows = _isolated(arguments) if arguments.what == "isolated" else _beads(arguments)
    if arguments.json is not None:
        write_json(arguments.json, {"rows": rows})
        note(f"Scores in {arguments.json}.")


def _isolated(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from models.evaluation.fit_rate import fits_per_second
    from models.evaluation.frames import PUBLISHED_CAMERA, Snr
    from models.evaluation.isolated import SLICES_UM, isolated_frames
    from models.evaluation.judging import exact_optics
    from models.evaluation.over_bound import isolated_errors
    from models.fitting import SpotFitter

    optics = exact_optics()
    fitter = SpotFitter(optics.calibration, PUBLISHED_CAMERA, arguments.estimator, package=arguments.package)
    result("Simulated; exact PSF; errors over the Cramér-Rao bound, from the median (and root mean square).")
    slices = SLICES_UM if arguments.depths_um is None else (tuple(arguments.depths_um),)
    rows = []
    for snr_db in arguments.snr_db:
        for low, high in slices:
            rng = np.random.default_rng([round(10 * low), round(10 * snr_db) + 1000])
            frames = isolated_frames(optics, (low, high), Snr(snr_db), arguments.frames, rng, _SHAPE)
            found = fitter(frames.counts, np.arange(len(frames)))
            row = isolated_errors(found, frames, optics.bounds(frames)).columns()
            rate = fits_per_second(fitter, optics, (low + high) / 2, _SHAPE)
            condition = {"snr_db": snr_db, "z_um": (low, high), "frames": len(frames)}
            rows.append(condition | row | {"photons": frames.median_photons, "fits_per_second": rate})
            result(f"{snr_db:3.0f} dB, {low:3.0f} to {high:3.0f} µm: {_isolated_line(rows[-1])}")
    return rows


def _isolated_line(row: dict[str, Any]) -> str:
    """The figures of a slice of depth in words."""
    errors = [
        f"{kind} {row[f'{kind}_over_bound']:.2f} ({row[f'{kind}_over_bound_rms']:.2f}) "
        f"of {1e3 * row[f'bound_{kind}_um']:.1f} nm"
        for kind in ("lateral", "axial")
        if row["found"]
    ]
    words = [f"found {row['found']:.2f}", f"surplus {row['surplus']:.2f}", *errors]
    return ", ".join([*words, f"{row['photons']:.2g} photo-electrons", f"{row['fits_per_second']:.0f} fits/s"])


def _beads(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from hardware.movies import agreed_pixel_size, open_sweep

    opened = open_sweep(arguments.sweep)
    pixel_um, _ = agreed_pixel_size(opened.pixel_size_um, arguments.pixel_size_um, None)
    step_um = arguments.z_step_um or opened.z_step_um
    if step_um is None:
        raise DataError(f"{arguments.sweep} does not state the step between its planes.", "State it with --z-step-um.")
    sweep = Sweep.from_steps(opened.planes, pixel_size_um=pixel_um, z_step_um=step_um, bit_depth=opened.bit_depth)
    squares = checkerboard(sweep.shape, arguments.square_px, "black")
    low, high = arguments.z_range_um
    everyone = calibrate(sweep, z_range_um=(low, high), mask=squares)
    one = calibrate(sweep, z_range_um=(low, high), mask=_one_bead(everyone, sweep), focus_um=everyone.focus_um)
    judged = Sweep(
        planes=sweep.planes[:: arguments.every],
        z_um=everyone.sweep_z_um[:: arguments.every],
        pixel_size_um=sweep.pixel_size_um,
        bit_depth=sweep.bit_depth,
    )
    rows = []
    # Beads are the same for both, so that both are judged on the same ones.
    places, groups = bead_groups(everyone, sweep.shape)
    for known, calibration in (("all black beads", everyone), ("one black bead", one)):
        method = make_method(arguments.method, calibration, calibration.camera)
        begun = time.process_time()
        answers = answer_bead_sweep(
            method,
            judged,
            places,
            focus_um=calibration.focus_um,
            z_range_um=calibration.z_range_um,
            sign=calibration.sign,
            axial_scale=calibration.axial_scale,
            repeats=arguments.repeats,
        )
        pace = (time.process_time() - begun) / len(answers.depth_um)
        for name in ("unseen", "unseen, isolated"):
            chosen = groups[name]
            # Few beads cannot tell the tilt of the slide: all unseen ones do.
            score = answers.score(chosen, groups["unseen"])
            rows.append(
                {"calibrated with": known, "beads": int(chosen.sum()), "group": name, "seconds_per_frame": pace}
                | asdict(score)
            )
            result(f"{arguments.method}, {known}: {score_line(name, int(chosen.sum()), score)}, {pace:.1f} s a frame")
    return rows


def _one_bead(calibration: Calibration, sweep: Sweep) -> NDArray[np.bool_]:
    """Mask around the used bead that has most room around it."""
    beads = calibration.report["beads"]
    places = np.array([[bead["x_um"], bead["y_um"]] for bead in beads])
    used = np.array([bead["used"] for bead in beads])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.diag(np.full(len(places), np.inf))
    height, width = (size * sweep.pixel_size_um for size in sweep.shape)
    edge = np.minimum(places, np.array([width, height]) - places).min(axis=1)
    room = np.where(used, np.minimum(apart.min(axis=1), edge), -np.inf)
    column, row = np.round(places[int(room.argmax())] / sweep.pixel_size_um).astype(int)
    mask = np.zeros(sweep.shape, bool)
    mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return mask


if __name__ == "__main__":
    main()
