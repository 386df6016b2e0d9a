"""Experiment `adoption`: other optics, from a sweep to a model within minutes, compared with the reference optics.

For each of `other_optics`: a sweep is simulated, calibrated, and a network
trained with what is left of `--minutes` of wall time, starting from the
shipped weights, which were not trained for such optics. The methods are then
scored on frames as in `snr`, in the published form. The reference is the same
methods with the model that was trained for the reference hidden optics in the
same time. `other_optics` lists what is kept equal. The target is a Jaccard
index within 0.05 of the reference's.

The exposures take no simulated time; the budget has one minute for a real
sweep of as many planes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evaluation.experiments.benchmark import Benchmark, MethodRun, tune, validation_frames
from evaluation.experiments.conditions import Condition, run_conditions
from evaluation.experiments.density import seeding_density
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import Snr
from evaluation.optics.other_optics import (
    OTHER_OPTICS,
    OtherOptics,
    calibrate_sweep,
    other_benchmark_optics,
    simulate_sweep,
)
from evaluation.report.figures import LIMIT, new_figure, panel, save, series
from evaluation.scores.scoring import Row
from models.calibration.calibration import Calibration
from models.errors import DataError
from models.model_card import ModelCard
from models.training import TrainingSettings, train

__all__ = ["draw", "run"]

_ARCHITECTURE = "cascade"
_POINTS = 20
_DB = (0.0, 10.0, 20.0, 30.0)
_QUICK_DB = (30.0,)
_TOLERANCE_SHARES = (0.1, 0.05, 0.03)
"""Of the depth range: the published 10, 5 and 3 µm in 100 µm."""

_REFERENCE = "reference optics"
_SWEEP_MINUTES = 1.0
"""Of the budget, for exposing some 60 planes twice."""

_LEAST_MINUTES = 0.05
_WITHIN = 0.05
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True, slots=True)
class _Adopted:
    """Calibration and model from a sweep, and the time that they took."""

    calibration: Calibration
    model: Path
    calibration_minutes: float
    training_minutes: float


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `adoption` (scores) and `adoption-cost` (one row for each microscope).

    Raises
    ------
    DataError
        When no `cascade` takes part.
    """
    references = [each for each in benchmark.method_runs if each.name.split()[0] == _ARCHITECTURE]
    if not references:
        raise DataError(
            f"None of the methods is {_ARCHITECTURE}, the only one that is trained for other optics.",
            f"Name {_ARCHITECTURE} with --methods, and the model of the reference hidden optics with --model.",
        )
    others = OTHER_OPTICS[:1] if benchmark.quick else OTHER_OPTICS
    rows = _scores(benchmark, references, _REFERENCE)
    costs = [_cost(benchmark, references[0], _REFERENCE)]
    with _model_folder(benchmark) as home:
        for done, other in enumerate(others):
            scores, cost = _score_optics(_Part(benchmark, done, len(others)), references, other, home)
            rows += scores
            costs.append(cost)
    return {"adoption": _with_reference(rows), "adoption-cost": costs}


@contextmanager
def _model_folder(benchmark: Benchmark) -> Iterator[Path]:
    """Folder for calibrations and models: that of the run, or a temporary one."""
    if benchmark.workshop is not None:
        yield benchmark.workshop
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


@dataclass(frozen=True, slots=True)
class _Part:
    """Progress of one microscope: half for learning, half for scoring."""

    benchmark: Benchmark
    done: int
    of: int

    def learning(self, share: float, what: str) -> None:
        self.benchmark.advance((self.done + 0.5 * min(share, 1.0)) / self.of, what)

    def scoring(self, share: float, what: str) -> None:
        self.benchmark.advance((self.done + 0.5 + 0.5 * share) / self.of, what)


def _score_optics(
    part: _Part, references: Sequence[MethodRun], other: OtherOptics, home: Path
) -> tuple[list[Row], Row]:
    """Scores with one microscope, and its row of `adoption-cost`."""
    benchmark = part.benchmark
    adopted = _adopt(other, part, home)
    optics = other_benchmark_optics(other, adopted.calibration, benchmark.optics.cache, quick=benchmark.quick)
    method_runs = [
        MethodRun(name, name, adopted.calibration, "measured", adopted.model, kept=benchmark.kept)
        for name in dict.fromkeys(each.name for each in references)
    ]
    own = replace(benchmark, optics=optics, method_runs=method_runs, advance=part.scoring)
    validation = validation_frames(optics, quick=benchmark.quick)
    for method_run in method_runs:
        tune(method_run, validation, _tolerances_um(optics)[0], benchmark.seconds)
    cost = _cost(own, method_runs[0], other.name) | {
        "sweep_minutes": _SWEEP_MINUTES,
        "calibration_minutes": round(adopted.calibration_minutes, 2),
        "training_minutes": round(adopted.training_minutes, 2),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "beads_used": adopted.calibration.report["beads_used"],
    }
    return _scores(own, method_runs, other.name), cost


def _tolerances_um(optics: BenchmarkOptics) -> tuple[float, ...]:
    low, high = optics.depths_um
    return tuple(round(share * (high - low), 3) for share in _TOLERANCE_SHARES)


def _scores(benchmark: Benchmark, method_runs: Sequence[MethodRun], name: str) -> list[Row]:
    conditions = [
        Condition({"optics": name, "form": "published", "points": _POINTS, "snr_db": db}, _POINTS, Snr(db))
        for db in (_QUICK_DB if benchmark.quick else _DB)
    ]
    tolerances = _tolerances_um(benchmark.optics)
    rows, _ = run_conditions(benchmark, conditions, method_runs, tolerances)
    shares = dict(zip(tolerances, _TOLERANCE_SHARES, strict=True))
    return [row | {"tolerance_share": shares[row["tolerance_um"]]} for row in rows]


def _with_reference(rows: list[Row]) -> list[Row]:
    """Rows with the reference's Jaccard index and the difference from it."""
    keys = ("snr_db", "tolerance_share")

    def place(row: Row) -> tuple[Any, ...]:
        return (row["method"].split(" (")[0], *(row[key] for key in keys))

    reference = {place(row): row["jaccard"] for row in rows if row["optics"] == _REFERENCE}
    compared = []
    for row in rows:
        beside = reference[place(row)]
        known = beside is not None and row["jaccard"] is not None
        compared.append(
            row | {"reference_jaccard": beside, "over_reference": row["jaccard"] - beside if known else None}
        )
    return compared


def _cost(benchmark: Benchmark, method_run: MethodRun, name: str) -> Row:
    """Conditions of a microscope's figures."""
    row: Row = {
        "method": method_run.label,
        "optics": name,
        "depths_um": benchmark.optics.depths_um[1],
        "side_um": round(benchmark.optics.side_um, 2),
        "pixel_size_um": benchmark.optics.pixel_size_um,
        "seeding_density": round(seeding_density(benchmark, _POINTS), 3),
        "told": method_run.optics_source,
    }
    if method_run.model_folder is not None:
        training = ModelCard.load(method_run.model_folder).training
        row |= {"training_minutes": training["minutes"], "training_frames": training["frames"]}
    return row


def _adopt(other: OtherOptics, part: _Part, home: Path) -> _Adopted:
    """Calibrate and train, or load the results of an interrupted run."""
    benchmark = part.benchmark
    folder = home / f"adoption-{OTHER_OPTICS.index(other)}"
    learned, model, times = folder / "calibration", folder / "model", folder / "minutes.json"
    if times.is_file():
        return _Adopted(Calibration.load(learned), model, **json.loads(times.read_text(encoding="utf-8")))
    # Files of an interrupted training are useless: the time from sweep to model is one figure.
    shutil.rmtree(folder, ignore_errors=True)
    part.learning(0.0, f"{other.name}: sweep")
    sweep = simulate_sweep(other, benchmark.optics.cache, quick=benchmark.quick)
    begun = time.monotonic()
    calibration = calibrate_sweep(
        other, sweep, lambda share, what: part.learning(0.1 * share, f"{other.name}: {what}"), quick=benchmark.quick
    )
    calibration_minutes = (time.monotonic() - begun) / 60
    left = max(benchmark.minutes - _SWEEP_MINUTES - calibration_minutes, _LEAST_MINUTES)
    train(
        calibration,
        model,
        TrainingSettings(architecture=_ARCHITECTURE, minutes=left),
        model_id=f"adopted-{calibration.id}",
        report=lambda minutes, text: part.learning(0.1 + 0.9 * minutes / left, f"{other.name}: {text}"),
    )
    spent = {
        "calibration_minutes": calibration_minutes,
        "training_minutes": (time.monotonic() - begun) / 60 - calibration_minutes,
    }
    calibration.save(learned)
    times.write_text(json.dumps(spent) + "\n", encoding="utf-8")
    return _Adopted(calibration, model, **spent)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `adoption.png`: Jaccard index of each microscope over the SNR, and how far it is from the reference's."""
    rows = [row for row in tables["adoption"] if row["tolerance_share"] == _TOLERANCE_SHARES[0]]
    names = list(dict.fromkeys(row["optics"] for row in rows))
    colours = dict(zip(names, _COLOURS, strict=False))
    methods = list(dict.fromkeys(row["method"].split(" (")[0] for row in rows))
    figure, axes = new_figure(len(methods), 2, width=4.2, sharey="row", sharex=True)
    for column, method in zip(axes.T, methods, strict=True):
        mine = [row for row in rows if row["method"].split(" (")[0] == method]
        for name in names:
            look = {"color": colours[name], "marker": "o", "markersize": 4, "label": name}
            column[0].plot(*series(mine, "snr_db", "jaccard", optics=name), **look)
            column[0].plot(*series(mine, "snr_db", "limit_jaccard", optics=name), **(LIMIT | {"color": colours[name]}))
            if name != _REFERENCE:
                column[1].plot(*series(mine, "snr_db", "over_reference", optics=name), **look)
        panel(column[0], title=method, ylim=(0, 1.02))
        column[1].axhline(-_WITHIN, color="0.4", linestyle=":", linewidth=1.3, label="target")
        panel(column[1], title="less that of the reference optics", x="SNR (dB), published form")
    axes[0, 0].set_ylabel("Jaccard index (dashed: ideal detector)")
    axes[1, 0].set_ylabel("difference")
    title = "New optics, from sweep to model in minutes"
    text = f"{caption} Other optics as labelled; {_POINTS} points, within a tenth of the depth range."
    save(figure, axes, folder / "adoption.png", title=title, caption=text)
