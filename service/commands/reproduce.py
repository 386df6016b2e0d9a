"""`bathyscope reproduce`: the published experiments, for all methods on the same frames."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models.evaluation.bench import Bench, Contender
    from models.evaluation.judging import JudgingOptics

__all__ = ["run"]


class _Name(StrEnum):
    resolution = "resolution"
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
        float, typer.Option(min=1.0, help="Processor time of a method per condition; slow ones see fewer frames.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the judging frames.")] = 20260,
) -> None:
    """Measure methods on the published experiments (simulated frames)."""
    if (experiment == _Name.merge) != bool(folders):
        raise typer.BadParameter("`merge` takes folders of results, and nothing else does.")
    if experiment == _Name.merge:
        _merge(folders or [], out)
    elif experiment == _Name.calibration:
        _write_calibration(out, quick)
    else:
        _reproduce(experiment, out, methods, model or [], optics, calibration, quick, seconds, seed)


def _merge(folders: list[Path], out: Path) -> None:
    from models.evaluation.results import is_results, merge_results
    from service.console import note
    from service.outputs import complete_output

    with complete_output(out, is_results) as aside:
        aside.mkdir()
        record = merge_results(folders, aside)
    note(f"{out}: {', '.join(record['experiments'])} of {len(record['runs'])} runs.")


def _reproduce(
    experiment: _Name,
    out: Path,
    methods: str,
    models: list[Path],
    optics: _Optics,
    calibration: Path | None,
    quick: bool,
    seconds: float,
    seed: int,
) -> None:
    from models.evaluation.experiments import ALWAYS_HIDDEN, EXPERIMENTS, NOT_OF_ALL
    from models.evaluation.results import is_results
    from models.model import Model
    from service.console import note
    from service.outputs import check_destination

    check_destination(out, is_results)
    for folder in models:
        # A wrong folder is refused before minutes have gone into optics.
        Model.load(folder)
    every = [name for name in EXPERIMENTS if name not in NOT_OF_ALL]
    names = every if experiment == _Name.all else [experiment.value]
    benches: dict[_Optics, Bench] = {}
    left_out: dict[str, str] = {}
    records: dict[str, Any] = {}
    for name in names:
        kind = _Optics.hidden if name in ALWAYS_HIDDEN else optics
        if kind not in benches:
            judge = _judge(kind, calibration, quick)
            benches[kind], missing = _bench(judge, methods, models, quick, seed, seconds)
            left_out |= missing
            for method, reason in missing.items():
                note(f"{method} is left out: {reason}")
        tables, records[name] = _measure(name, benches[kind])
        record = _record(optics, benches, left_out, records, names, quick, seed, seconds)
        _publish(out, tables, record, first=name == names[0])
        for table, rows in tables.items():
            _say(table, rows)


def _measure(name: str, bench: Bench) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Tables of one experiment, and what it cost."""
    import time

    from models.evaluation.experiments import experiment_named
    from service.console import progress

    begun, begun_s = time.process_time(), time.monotonic()
    with progress(name, 1.0) as advance:
        bench.advance = advance
        tables = experiment_named(name).run(bench)
    for contender in bench.contenders:
        # Prepared methods hold hundreds of megabytes, and come back within seconds.
        contender.release()
    return tables, {
        "optics": bench.optics.name,
        "tables": {table: len(rows) for table, rows in tables.items()},
        "processor_seconds": round(time.process_time() - begun, 1),
        "seconds": round(time.monotonic() - begun_s, 1),
    }


def _publish(out: Path, tables: dict[str, list[dict[str, Any]]], record: dict[str, Any], *, first: bool) -> None:
    """Add one experiment to the folder of this run, which is complete after each of them: work of hours is kept.

    The first one replaces the results of an earlier run.
    """
    import shutil

    from models.evaluation.results import RECORD, draw_results, is_results
    from models.evaluation.tables import write_table
    from service.outputs import complete_output, write_json

    with complete_output(out, is_results) as aside:
        if first:
            aside.mkdir()
        else:
            shutil.copytree(out, aside)
        for table, rows in tables.items():
            if rows:
                write_table(aside / f"{table}.csv", rows, record["left_out"])
        write_json(aside / RECORD, record)
        draw_results(aside, [*record["experiments"]][-1])


def _say(table: str, rows: list[dict[str, Any]]) -> None:
    """The main figures on standard output, one line a row."""
    from service.console import result

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


def _judge(kind: _Optics, calibration: Path | None, quick: bool) -> JudgingOptics:
    import platformdirs

    from models.evaluation.judging import exact_optics, hidden_judging
    from service.console import progress

    if kind == _Optics.exact:
        return exact_optics()
    with progress("hidden optics", 1.0) as advance:
        cache = Path(platformdirs.user_cache_dir("bathyscope"))
        return hidden_judging(cache, calibration, advance, quick=quick)


def _bench(
    judge: JudgingOptics, methods: str, models: list[Path], quick: bool, seed: int, seconds: float
) -> tuple[Bench, dict[str, str]]:
    """Methods that can run here, tuned, and why the others cannot."""
    from models.errors import DataError
    from models.evaluation.bench import Bench, tune, validation_frames
    from models.evaluation.frames import PUBLISHED_CAMERA
    from models.evaluation.methods import MethodMissing
    from service.console import progress

    missing: dict[str, str] = {}
    ready: list[Contender] = []
    for contender in _contenders(judge, methods, models):
        try:
            contender.prepare(PUBLISHED_CAMERA)
        except MethodMissing as error:
            missing[contender.label] = str(error)
            continue
        ready.append(contender)
    if not ready:
        raise DataError(
            f"None of the methods can run here: {'; '.join(missing.values())}", "Choose others with --methods."
        )
    validation = validation_frames(judge, quick=quick)
    with progress("thresholds", 1.0) as advance:
        for index, contender in enumerate(ready):
            tune(contender, validation, seconds=seconds)
            contender.release()
            advance((index + 1) / len(ready), contender.label)
    return Bench(judge, ready, quick, seed, seconds), missing


def _contenders(judge: JudgingOptics, methods: str, models: list[Path]) -> list[Contender]:
    """One contender for each fit, and one for each network and each of its models."""
    from models.evaluation.bench import Contender
    from models.evaluation.methods import METHODS, needs_model
    from models.model import REFERENCE_CALIBRATION, Model

    wanted = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",")]
    unknown = [name for name in wanted if name not in METHODS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose among {', '.join(METHODS)}, or all.")
    opened = {folder: Model.load(folder) for folder in models}
    told = "exact" if judge.name == "exact" else "measured"
    contenders: list[Contender] = []
    for name in wanted:
        if not needs_model(name):
            contenders.append(Contender(name, name, judge.calibration, told))
            continue
        mine = {folder: each for folder, each in opened.items() if each.architecture == name.split()[0]}
        for folder, each in mine.items():
            computed = each.calibration_id == REFERENCE_CALIBRATION
            knows = "exact" if computed and judge.name == "exact" else "computed" if computed else "measured"
            label = name if knows == told and len(mine) == 1 else f"{name} ({knows}, {folder.name})"
            contenders.append(Contender(label, name, judge.calibration, knows, folder))
        if not mine:
            # The shipped model knows the computed pattern, whatever the judge's optics are.
            label = name if judge.name == "exact" else f"{name} (computed)"
            contenders.append(Contender(label, name, judge.calibration, "exact" if label == name else "computed"))
    return contenders


def _record(
    optics: _Optics,
    benches: dict[_Optics, Bench],
    left_out: dict[str, str],
    records: dict[str, Any],
    names: list[str],
    quick: bool,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """Everything that is needed to do it again: what all runs of a folder share, and this run."""
    import shlex
    import sys

    from models.evaluation.bench import VALIDATION_SEED
    from models.evaluation.hidden_optics import HIDDEN_SEED
    from models.evaluation.hidden_sweep import SWEEP_SEED

    return {
        "simulated": True,
        "quick": quick,
        "optics": optics.value,
        "seeds": {
            "judging": seed,
            "validation": VALIDATION_SEED,
            "hidden optics": HIDDEN_SEED,
            "sweep": SWEEP_SEED,
        },
        "matching": "gate at the tolerance in 3D, then most pairs, then least total distance",
        "microscopes": {
            kind.value: {
                "label": bench.optics.label,
                "depths_um": list(bench.optics.depths_um),
                "calibration": bench.optics.calibration.id,
            }
            for kind, bench in benches.items()
        },
        "left_out": left_out,
        "experiments": {
            name: {"optics": each["optics"], "tables": dict(each["tables"])} for name, each in records.items()
        },
        "runs": [
            {
                "command": shlex.join(["bathyscope", *sys.argv[1:]]),
                "seconds_per_condition": seconds,
                "methods": {
                    kind.value: [_contender_record(contender) for contender in bench.contenders]
                    for kind, bench in benches.items()
                },
                "experiments": {
                    name: {key: each[key] for key in ("processor_seconds", "seconds")} for name, each in records.items()
                },
                "unfinished": [name for name in names if name not in records],
            }
        ],
    }


def _contender_record(contender: Contender) -> dict[str, Any]:
    from models.evaluation.methods import needs_model
    from models.model import Model
    from models.weights import reference_model

    record: dict[str, Any] = {
        "method": contender.label,
        "pattern": contender.told_by,
        "threshold": contender.threshold,
        "frames": contender.frames,
        "processor_seconds_per_frame": round(contender.seconds / max(contender.frames, 1), 4),
    }
    if needs_model(contender.name):
        described = Model.load(contender.model_folder or reference_model("full"))
        record |= {
            "model": described.id,
            "calibration": described.calibration_id,
            "training_minutes": described.training.get("minutes"),
            "training_frames": described.training.get("frames"),
        }
    return record


def _write_calibration(out: Path, quick: bool) -> None:
    """Sweep of the hidden optics and the calibration that is made from it, as `bathyscope calibrate` would write it."""
    from models.calibration import Calibration
    from models.calibration_report import with_report
    from service.console import note
    from service.outputs import complete_output

    judge = _judge(_Optics.hidden, None, quick)
    with complete_output(out, Calibration.is_folder) as aside:
        known = judge.calibration
        (with_report(known) if known.evidence is not None else known).save(aside)
    note(
        f"{out}: calibration {known.id} from the simulated sweep of the hidden optics, "
        f"{known.report['beads_used']} beads, depths {known.z_range_um[0]:g} to {known.z_range_um[1]:g} µm."
    )
