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

from models.calibrating import calibrate
from models.calibration import Calibration
from models.camera import CameraModel
from models.errors import DataError
from models.evaluation.beads import judge_bead_sweep
from models.evaluation.methods import Method, make_method
from models.optics import REFERENCE_OPTICS, reference_psf
from models.sweep import Sweep
from models.tables import Localizations
from service.bead_judgement import bead_groups, score_line
from service.commands.calibrate import checkerboard
from service.console import note, result
from service.outputs import write_json

_SLICES_UM = ((3.0, 10.0), (10.0, 25.0), (25.0, 50.0), (50.0, 75.0), (75.0, 97.0))
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
    from models.evaluation.judging import computed_calibration
    from models.evaluation.rivals import fits_per_second, isolated_errors
    from models.fitting import SpotFitter

    fitter = SpotFitter(computed_calibration(), CameraModel(), arguments.estimator, package=arguments.package)
    psf = reference_psf()
    result("Simulated; exact PSF; errors over the Cramér-Rao bound, root mean square (and from the median).")
    slices = _SLICES_UM if arguments.depths_um is None else (tuple(arguments.depths_um),)
    rows = []
    for snr_db in arguments.snr_db:
        for row in isolated_errors(fitter, REFERENCE_OPTICS, psf, snr_db, slices, arguments.frames, _SHAPE):
            low, high = row.z_um
            rate = fits_per_second(fitter, REFERENCE_OPTICS, psf.pixel_size_um, (low + high) / 2, _SHAPE)
            rows.append({"snr_db": snr_db, "fits_per_second": rate, **asdict(row)})
            result(
                f"{snr_db:3.0f} dB, {low:3.0f} to {high:3.0f} µm: found {row.found:.2f}, surplus {row.surplus:.2f}, "
                f"lateral {row.lateral:.2f} ({row.lateral_median:.2f}) of {1e3 * row.sigma_lateral_um:.1f} nm, "
                f"axial {row.axial:.2f} ({row.axial_median:.2f}) of {1e3 * row.sigma_axial_um:.1f} nm, "
                f"{row.photons:.2g} photo-electrons, {rate:.0f} fits/s"
            )
    return rows


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
        method = _Once(make_method(arguments.method, calibration, calibration.camera))
        for name in ("unseen", "unseen, isolated"):
            chosen = groups[name]
            score = judge_bead_sweep(
                method,
                judged,
                places[chosen],
                focus_um=calibration.focus_um,
                z_range_um=calibration.z_range_um,
                sign=calibration.sign,
                axial_scale=calibration.axial_scale,
                repeats=arguments.repeats,
            )
            pace = method.seconds / max(method.frames, 1)
            rows.append(
                {"calibrated with": known, "beads": int(chosen.sum()), "group": name, "seconds_per_frame": pace}
                | asdict(score)
            )
            result(f"{arguments.method}, {known}: {score_line(name, int(chosen.sum()), score)}, {pace:.1f} s a frame")
    return rows


class _Once:
    """A method that localizes each frame once, however many groups of beads are judged in it."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._found: dict[int, Localizations] = {}
        self.seconds = 0.0

    @property
    def frames(self) -> int:
        """How many were localized."""
        return len(self._found)

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Localizations of frames that count always the same."""
        for frame, number in zip(counts, frame_numbers, strict=True):
            if int(number) not in self._found:
                begun = time.process_time()
                self._found[int(number)] = self._method(frame[None], np.array([number]))
                self.seconds += time.process_time() - begun
        return Localizations.concatenate(self._found[int(number)] for number in frame_numbers)


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
