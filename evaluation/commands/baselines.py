"""`bathyscope bench isolated` and `bench baseline-beads`: the published fits on single emitters and on real beads.

``isolated`` fits single emitters of the reference optics with the exact PSF:
errors over the Cramér-Rao bound, and fits per second. ``baseline-beads``
calibrates with the black squares of a real sweep, once with all their beads
and once with a single one, localizes every plane by a baseline, and scores
the beads of the white squares as `bench beads` does for a network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.checks import plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.calibration.calibration import Calibration
    from models.calibration.sweep import Sweep

__all__ = ["run_beads", "run_isolated"]

_SHAPE = (256, 256)

_JSON = typer.Option("--json", metavar="FILE", help="Write the rows.")


def _rising(depths_um: tuple[float, float] | None) -> tuple[float, float] | None:
    """Two plausible depths, the low one first."""
    plausible("DEPTH_UM")(depths_um)
    if depths_um is not None and not depths_um[0] < depths_um[1]:
        raise typer.BadParameter(f"{depths_um[0]:g} {depths_um[1]:g} is no range; the first must be below the second.")
    return depths_um


class _Estimator(StrEnum):
    mle = "mle"
    ls = "ls"


class _Package(StrEnum):
    smappy = "smappy-smlm"
    picasso = "picassosr"


class _Baseline(StrEnum):
    mle = "mle"
    ls = "ls"
    mle_multi = "mle-multi"
    lookup = "lookup"


def run_isolated(
    snr_db: Annotated[
        list[float],
        typer.Option(
            "--snr-db",
            min=-30,
            max=80,
            default_factory=lambda: [20.0, 30.0],
            show_default="20 and 30",
            help="Repeatable.",
        ),
    ],
    frames: Annotated[int, typer.Option("--frames", min=1, max=10_000, help="Frames per depth slice and SNR.")] = 40,
    depths_um: Annotated[
        tuple[float, float] | None,
        typer.Option("--depths-um", metavar="LO HI", callback=_rising, help="One slice instead of all."),
    ] = None,
    estimator: Annotated[_Estimator, typer.Option("--estimator", help="What the fit minimizes.")] = _Estimator.mle,
    package: Annotated[
        _Package | None, typer.Option("--package", help="The published code; absent: that of the estimator.")
    ] = None,
    json_file: Annotated[Path | None, _JSON] = None,
) -> None:
    """Errors of the published fits on isolated emitters, over the Cramér-Rao bound; fits per second. Simulated."""
    import numpy as np

    from evaluation.experiments.isolated import SLICES_UM, isolated_frames
    from evaluation.methods import SpotFitter
    from evaluation.methods.fit_rate import fits_per_second
    from evaluation.optics.benchmark_optics import exact_optics
    from evaluation.optics.frames import PUBLISHED_CAMERA, Snr
    from evaluation.scores.over_bound import isolated_errors
    from service.commands.console import result
    from service.files.outputs import check_json

    check_json(json_file)
    optics = exact_optics()
    fitter = SpotFitter(
        optics.calibration, PUBLISHED_CAMERA, estimator.value, package=None if package is None else package.value
    )
    result("Simulated; exact PSF; errors over the Cramér-Rao bound, from the median (and root mean square).")
    rows: list[dict[str, Any]] = []
    for each_db in snr_db:
        for low, high in SLICES_UM if depths_um is None else (depths_um,):
            rng = np.random.default_rng([round(10 * low), round(10 * each_db) + 1000])
            simulated = isolated_frames(optics, (low, high), Snr(each_db), frames, rng, _SHAPE)
            found = fitter(simulated.counts, np.arange(len(simulated)))
            row = isolated_errors(found, simulated, optics.bounds(simulated)).columns()
            rate = fits_per_second(fitter, optics, (low + high) / 2, _SHAPE)
            condition = {"snr_db": each_db, "z_um": (low, high), "frames": len(simulated)}
            rows.append(condition | row | {"photons": simulated.median_photons, "fits_per_second": rate})
            result(f"{each_db:3.0f} dB, {low:3.0f} to {high:3.0f} µm: {_isolated_line(rows[-1])}")
    _write(json_file, rows)


def _isolated_line(row: dict[str, Any]) -> str:
    """One line of text with the figures of a slice of depth."""
    errors = [
        f"{kind} {row[f'{kind}_over_bound']:.2f} ({row[f'{kind}_over_bound_rms']:.2f}) "
        f"of {1e3 * row[f'bound_{kind}_um']:.1f} nm"
        for kind in ("lateral", "axial")
        if row["found"]
    ]
    words = [f"found {row['found']:.2f}", f"surplus {row['surplus']:.2f}", *errors]
    return ", ".join([*words, f"{row['photons']:.2g} photo-electrons", f"{row['fits_per_second']:.0f} fits/s"])


def run_beads(
    sweep: Annotated[Path, typer.Argument(help="The sweep: OME-TIFF, TIFF or OME-Zarr.")],
    method: Annotated[_Baseline, typer.Option("--method", help="The baseline.")] = _Baseline.mle,
    z_range_um: Annotated[
        tuple[float, float],
        typer.Option("--z-range-um", metavar="LO HI", callback=_rising, help="Depths, relative to focus."),
    ] = (3.0, 55.0),
    pixel_size_um: Annotated[
        float | None, typer.Option("--pixel-size-um", callback=plausible("PIXEL_SIZE_UM"), help="At the sample.")
    ] = None,
    z_step_um: Annotated[
        float | None, typer.Option("--z-step-um", callback=plausible("Z_STEP_UM"), help="From plane to plane.")
    ] = None,
    square_px: Annotated[
        int, typer.Option("--square-px", min=4, max=4096, help="Side of a square of the checkerboard.")
    ] = 64,
    every: Annotated[int, typer.Option("--every", min=1, max=1000, help="Use every so many planes only.")] = 1,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, max=1000, help="Exposures of each plane that are used; absent: all."),
    ] = None,
    json_file: Annotated[Path | None, _JSON] = None,
) -> None:
    """Depth errors of a baseline on real beads that its calibration did not use."""
    from evaluation.beads.bead_groups import bead_groups, score_line
    from evaluation.beads.bead_scores import localize_bead_sweep
    from evaluation.methods.registry import make_method
    from hardware.agreement import agreed_pixel_size
    from hardware.sweeps import open_sweep
    from models.calibration.calibrating import calibrate
    from models.calibration.sweep import Sweep
    from models.errors import DataError
    from service.commands.calibrate import checkerboard
    from service.commands.console import result
    from service.files.outputs import check_json

    check_json(json_file)
    opened = open_sweep(sweep)
    pixel_um, _ = agreed_pixel_size(opened.pixel_size_um, pixel_size_um, None)
    step_um = z_step_um or opened.z_step_um
    if step_um is None:
        raise DataError(f"{sweep} does not state the step between its planes.", "State it with --z-step-um.")
    whole = Sweep.from_steps(opened.planes, pixel_size_um=pixel_um, z_step_um=step_um, bit_depth=opened.bit_depth)
    squares = checkerboard(whole.shape, square_px, "black")
    all_beads = calibrate(whole, z_range_um=z_range_um, mask=squares)
    one_bead = calibrate(whole, z_range_um=z_range_um, mask=_one_bead(all_beads, whole), focus_um=all_beads.focus_um)
    tested = Sweep(
        planes=whole.planes[::every],
        z_um=all_beads.sweep_z_um[::every],
        pixel_size_um=whole.pixel_size_um,
        bit_depth=whole.bit_depth,
    )
    rows: list[dict[str, Any]] = []
    # Both calibrations are scored on the same beads.
    positions, groups = bead_groups(all_beads, whole.shape)
    for known, calibration in (("all black beads", all_beads), ("one black bead", one_bead)):
        localize = make_method(method.value, calibration, calibration.camera)
        begun = time.process_time()
        found = localize_bead_sweep(
            localize,
            tested,
            positions,
            focus_um=calibration.focus_um,
            z_range_um=calibration.z_range_um,
            sign=calibration.sign,
            axial_scale=calibration.axial_scale,
            repeats=repeats,
        )
        pace = (time.process_time() - begun) / len(found.depth_um)
        for name in ("unseen", "unseen, isolated"):
            chosen = groups[name]
            # A few beads do not determine the tilt of the slide: it is fitted to all unseen ones.
            score = found.score(chosen, groups["unseen"])
            rows.append(
                {"calibrated with": known, "beads": int(chosen.sum()), "group": name, "seconds_per_frame": pace}
                | asdict(score)
            )
            line = score_line(name, int(chosen.sum()), score)
            result(f"{method.value}, {known}: {line}, {pace:.1f} s a frame")
    _write(json_file, rows)


def _one_bead(calibration: Calibration, sweep: Sweep) -> NDArray[np.bool_]:
    """Mask of shape (H, W) around the bead of the calibration that is farthest from others and from the edge."""
    import numpy as np

    beads = calibration.report["beads"]
    positions = np.array([[bead["x_um"], bead["y_um"]] for bead in beads])
    used = np.array([bead["used"] for bead in beads])
    apart = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1)) + np.diag(
        np.full(len(positions), np.inf)
    )
    height, width = (size * sweep.pixel_size_um for size in sweep.shape)
    edge = np.minimum(positions, np.array([width, height]) - positions).min(axis=1)
    room = np.where(used, np.minimum(apart.min(axis=1), edge), -np.inf)
    column, row = np.round(positions[int(room.argmax())] / sweep.pixel_size_um).astype(int)
    mask = np.zeros(sweep.shape, bool)
    mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return mask


def _write(json_file: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    from evaluation.runs.provenance import write_result
    from service.commands.console import note

    if json_file is not None:
        write_result(json_file, {"rows": list(rows)})
        note(f"Scores in {json_file}.")
