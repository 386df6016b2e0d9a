"""`bathyscope reproduce`: the published experiments, for all methods on the same frames."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.checks import LONGEST_S

if TYPE_CHECKING:
    from evaluation.runs.reproduction import RunRequest

__all__ = ["run"]


class _Name(StrEnum):
    resolution = "resolution"
    moving = "moving"
    snr = "snr"
    density = "density"
    depth = "depth"
    psf = "psf"
    cells = "cells"
    tracking = "tracking"
    brownian = "brownian"
    isolated = "isolated"
    ghosts = "ghosts"
    stacked = "stacked"
    training_size = "training-size"
    adoption = "adoption"
    calibration = "calibration"
    merge = "merge"
    all = "all"


class _Optics(StrEnum):
    exact = "exact"
    hidden = "hidden"


def run(
    experiment: Annotated[
        _Name,
        typer.Argument(
            help="Which experiment; `calibration` writes that of the hidden optics' sweep, to train with; `merge` "
            "joins folders of results."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the tables and figures.")],
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders to be merged; one alone has its figures drawn again.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, with commas between them; `all` for all that can run here.")
    ] = "cascade",
    model: Annotated[
        list[Path] | None, typer.Option(help="Model folder of a network; may be given several times.")
    ] = None,
    optics: Annotated[
        _Optics, typer.Option(help="Optics of the frames: known exactly to the methods, or hidden from them.")
    ] = _Optics.exact,
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration of the hidden optics, as `reproduce calibration` wrote it.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few conditions and frames.")] = False,
    seconds: Annotated[
        float,
        typer.Option(
            min=1.0, max=LONGEST_S, help="Processor time of a method per condition; slow methods get fewer frames."
        ),
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the test frames.")] = 20260,
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, max=LONGEST_S / 60, help="`adoption`: wall time from a sweep to a model of other optics."
        ),
    ] = 10.0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out, finished or interrupted.")] = False,
) -> None:
    """Measure methods on the published experiments (simulated frames)."""
    if (experiment == _Name.merge) != bool(folders):
        raise typer.BadParameter("`merge` takes folders of results, and nothing else does.")
    if experiment == _Name.merge:
        _merge(folders or [], out)
    elif experiment == _Name.calibration:
        _write_calibration(out, quick)
    else:
        import shlex
        import sys

        from evaluation.experiments.registry import EXPERIMENTS, NOT_OF_ALL
        from evaluation.runs.reproduction import RunRequest
        from models.calibration.calibration import Calibration

        if calibration is not None:
            Calibration.load(calibration)  # an unreadable one is reported at once, whether it is needed or not
        every = tuple(name for name in EXPERIMENTS if name not in NOT_OF_ALL)
        _reproduce(
            RunRequest(
                experiments=every if experiment == _Name.all else (experiment.value,),
                out=out,
                methods=_method_names(methods),
                models=tuple(model or ()),
                optics=optics.value,
                calibration=calibration,
                quick=quick,
                seconds=seconds,
                seed=seed,
                minutes=minutes,
                resume=resume,
                command=shlex.join(["bathyscope", *sys.argv[1:]]),
            )
        )


def _merge(folders: list[Path], out: Path) -> None:
    from evaluation.runs.results import is_results, merge_results, result_summary
    from service.commands.console import note, result
    from service.files.outputs import complete_output

    with complete_output(out, is_results) as aside:
        aside.mkdir()
        record = merge_results(folders, aside)
    note(f"{out}: {', '.join(record['experiments'])} of {len(record['runs'])} runs.")
    for line in result_summary(out):
        result(line)


def _reproduce(request: RunRequest) -> None:
    from evaluation.runs.reproduction import Reproduction
    from service.commands.console import note

    run = Reproduction(request)
    missing = run.missing()
    done = [name for name in request.experiments if name not in missing]
    if done:
        note(f"{request.out} already contains: {', '.join(done)}.")
    try:
        for name in missing:
            for table, rows in run.measure(name).items():
                _print_rows(table, rows)
    except KeyboardInterrupt:
        note("Results so far are kept: resume with the same command and --resume.")
        raise
    run.end()


def _method_names(methods: str) -> tuple[str, ...]:
    from evaluation.methods.registry import METHODS

    chosen = tuple(METHODS) if methods == "all" else tuple(name.strip() for name in methods.split(","))
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose among {', '.join(METHODS)}, or all.")
    return chosen


def _print_rows(table: str, rows: list[dict[str, Any]]) -> None:
    """The main figures on standard output, one line a row."""
    from service.commands.console import result

    shown = (
        "jaccard",
        "precision",
        "recall",
        "rmse_lateral_um",
        "rmse_axial_um",
        "resolved_um",
        "ratio",
        "range_um",
        "both_found",
        "found",
        "surplus",
        "lateral_over_bound",
        "axial_over_bound",
        "axial_over_sigma_median",
        "ghosts",
    )
    hidden = {"threshold", "tolerance_um", "frames", "background_e", "median_photons", "from_um", "to_um"}
    for row in rows:
        if "tuned" in row or row.get("tolerance_um", 10.0) not in (3.0, 10.0) or row.get("tolerance_um") == 3.0:
            continue
        first = next((index for index, key in enumerate(row) if key in shown), len(row))
        names = [
            f"{value:g}" if isinstance(value, float) else str(value)
            for key, value in list(row.items())[:first]
            if key not in hidden and value is not None
        ]
        figures = [f"{key} {row[key]:.3g}" for key in shown if isinstance(row.get(key), float | int)]
        result(f"{table}: {', '.join(names)}: {', '.join(figures)}")


def _write_calibration(out: Path, quick: bool) -> None:
    """Sweep of the hidden optics and the calibration that is made from it, as `bathyscope calibrate` would write it."""
    from evaluation.runs.reproduction import make_benchmark_optics
    from models.calibration.calibration import Calibration
    from models.calibration.report import with_report
    from service.commands.console import note
    from service.files.outputs import complete_output

    optics = make_benchmark_optics("hidden", None, quick=quick)
    with complete_output(out, Calibration.is_folder) as aside:
        known = optics.calibration
        (with_report(known) if known.evidence is not None else known).save(aside)
    note(
        f"{out}: calibration {known.id} from the simulated sweep of the hidden optics, "
        f"{known.report['beads_used']} beads, depths {known.z_range_um[0]:g} to {known.z_range_um[1]:g} µm."
    )
