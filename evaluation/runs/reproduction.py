"""One run of `bathyscope reproduce`: experiments one after the other into a folder that is complete after each.

A run can be interrupted at any time and resumed. Experiments that are in the
folder are not repeated, thresholds come from its record, and localizations of
the interrupted experiment are kept (`evaluation.runs.unfinished`).
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.experiments.benchmark import VALIDATION_SEED, Benchmark, MethodRun
from evaluation.experiments.registry import ALWAYS_HIDDEN, experiment_named
from evaluation.methods.registry import needs_model
from evaluation.methods.selection import Tuned, make_method_runs, make_ready, model_folders
from evaluation.optics.benchmark_optics import BenchmarkOptics, exact_optics, hidden_benchmark_optics
from evaluation.optics.hidden_optics import HIDDEN_SEED
from evaluation.optics.hidden_sweep import SWEEP_SEED
from evaluation.report.tables import write_table
from evaluation.runs.identity import run_identity
from evaluation.runs.kept_results import KeptResults
from evaluation.runs.provenance import current_provenance
from evaluation.runs.results import RECORD, draw_results, is_results, read_record, write_results
from evaluation.runs.unfinished import Unfinished, check_same_run
from evaluation.scores.scoring import Row
from models.errors import DataError
from models.model_card import ModelCard
from models.weights import reference_model
from service.commands.console import note, progress
from service.files.outputs import check_destination, complete_output, write_json

__all__ = ["Reproduction", "RunRequest", "make_benchmark_optics"]

Tables = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Arguments of the command.

    Attributes
    ----------
    experiments : tuple of str
    out : Path
        Folder of the results.
    methods : tuple of str
    models : tuple of Path
        Folders of networks.
    optics : str
        ``"exact"`` or ``"hidden"``; some experiments are always on hidden optics.
    calibration : Path or None
        Of the hidden optics; made when not given.
    quick : bool
    seconds : float
        Processor time of a method for a condition.
    seed : int
        Of the test frames.
    minutes : float
        From a sweep to a model, wall time, where an experiment trains.
    resume : bool
        Resume the run in `out`.
    command : str
        For the record.
    """

    experiments: tuple[str, ...]
    out: Path
    methods: tuple[str, ...]
    models: tuple[Path, ...]
    optics: str
    calibration: Path | None
    quick: bool
    seconds: float
    seed: int
    minutes: float
    resume: bool
    command: str


class Reproduction:
    """A run.

    Parameters
    ----------
    request : RunRequest

    Raises
    ------
    DataError
        When the folder has other contents, a model folder is invalid, or the run to resume differs.
    """

    def __init__(self, request: RunRequest) -> None:
        check_destination(request.out, is_results)
        self._request = request
        # Models are read before minutes go into optics.
        self._identity = run_identity(
            optics=request.optics,
            calibration=request.calibration,
            methods=request.methods,
            models=model_folders(request.methods, request.models),
            quick=request.quick,
            seed=request.seed,
            seconds=request.seconds,
            minutes=request.minutes,
        )
        self._record: dict[str, Any] = self._record_to_resume() or self._new_record()
        self._unfinished = Unfinished(request.out)
        self._unfinished.begin(self._identity, request.command, resume=request.resume)
        self._benchmarks: dict[str, Benchmark] = {}

    def missing(self) -> list[str]:
        """Experiments whose tables are not there yet."""
        return [name for name in self._request.experiments if name not in self._record["experiments"]]

    def measure(self, name: str) -> Tables:
        """Run one experiment, add it to the folder, and give its tables."""
        kind = "hidden" if name in ALWAYS_HIDDEN else self._request.optics
        if kind not in self._benchmarks:
            self._benchmarks[kind] = self._benchmark(kind)
        benchmark = self._benchmarks[kind]
        before = self._unfinished.spent(name)
        begun, begun_s = time.process_time(), time.monotonic()

        def spent() -> dict[str, float]:
            now = {"processor_seconds": time.process_time() - begun, "seconds": time.monotonic() - begun_s}
            return {key: round(before[key] + value, 1) for key, value in now.items()}

        with progress(name, 1.0) as advance:

            def report(done: float, what: str) -> None:
                self._unfinished.record_spent(name, spent())
                advance(done, what)

            benchmark.advance = report
            tables = experiment_named(name).run(benchmark)
        for method_run in benchmark.method_runs:
            # Prepared methods hold hundreds of megabytes, and come back within seconds.
            method_run.release()
        self._add(name, kind, tables, spent())
        self._publish(name, tables)
        return tables

    def end(self) -> None:
        """Delete what was kept for an interruption: all experiments are in the folder."""
        self._unfinished.end()

    def _record_to_resume(self) -> dict[str, Any] | None:
        """Record of the run to resume, None where there is none."""
        request = self._request
        if not (request.resume and is_results(request.out)):
            return None
        record = read_record(request.out)
        runs = record["runs"]
        if len(runs) != 1 or "identity" not in runs[0]:
            raise DataError(
                f"{request.out} holds results of {len(runs)} runs, or of an earlier version; only one run of this "
                "version can be resumed.",
                "Choose another --out, and merge the folders afterwards.",
            )
        check_same_run(request.out, runs[0]["identity"], self._identity, runs[0]["command"])
        if request.command != runs[0]["command"]:
            runs[0]["went_on_with"] = [*runs[0].get("went_on_with", []), request.command]
        return record

    def _new_record(self) -> dict[str, Any]:
        """Everything that is needed to repeat the run: the part common to all runs of a folder, and this run."""
        request = self._request
        seeds = {
            "judging": request.seed,
            "validation": VALIDATION_SEED,
            "hidden optics": HIDDEN_SEED,
            "sweep": SWEEP_SEED,
        }
        return {
            "simulated": True,
            "quick": request.quick,
            "optics": request.optics,
            "seeds": seeds,
            "matching": "gate at the tolerance in 3D, then most pairs, then least total distance",
            "microscopes": {},
            "left_out": {},
            "experiments": {},
            "runs": [
                {
                    "command": request.command,
                    "provenance": current_provenance(seeds, request.command).as_dict(),
                    "identity": self._identity,
                    "seconds_per_condition": request.seconds,
                    "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                    "methods": {},
                    "experiments": {},
                    "unfinished": [],
                }
            ],
        }

    def _benchmark(self, kind: str) -> Benchmark:
        request = self._request
        optics = make_benchmark_optics(kind, request.calibration, quick=request.quick)
        workshop = self._unfinished.workshop
        tuned: Tuned = {each["method"]: each for each in self._record["runs"][0]["methods"].get(kind, [])}
        with progress("thresholds", 1.0) as advance:
            ready, missing = make_ready(
                optics,
                make_method_runs(optics, request.methods, request.models),
                quick=request.quick,
                seconds=request.seconds,
                tuned=tuned,
                kept=KeptResults(workshop / "answers"),
                advance=advance,
            )
        for method, reason in missing.items():
            note(f"{method} is left out: {reason}")
        self._record["left_out"] |= missing
        self._record["microscopes"][kind] = {
            "label": optics.label,
            "depths_um": list(optics.depths_um),
            "calibration": optics.calibration.id,
        }
        return Benchmark(
            optics,
            ready,
            request.quick,
            request.seed,
            request.seconds,
            minutes=request.minutes,
            workshop=workshop,
            cache=_cache(),
        )

    def _add(self, name: str, kind: str, tables: Tables, spent: dict[str, float]) -> None:
        """Put an experiment into the record."""
        benchmark = self._benchmarks[kind]
        run = self._record["runs"][0]
        self._record["experiments"][name] = {
            "optics": benchmark.optics.name,
            "tables": {table: len(rows) for table, rows in tables.items()},
        }
        run["experiments"][name] = spent
        run["methods"][kind] = [_method_record(method_run) for method_run in benchmark.method_runs]
        run["unfinished"] = self.missing()

    def _publish(self, name: str, tables: Tables) -> None:
        """Add one experiment to the folder, which is complete after each of them: work of hours is kept.

        The first one replaces the results of an earlier run.
        """
        out = self._request.out
        with complete_output(out, is_results) as aside:
            if len(self._record["experiments"]) == 1:
                aside.mkdir()
            else:
                shutil.copytree(out, aside)
            for table, rows in tables.items():
                if rows:
                    write_table(aside / f"{table}.csv", rows, self._record["left_out"])
            write_json(aside / RECORD, self._record)
            write_results(aside)
            draw_results(aside, name)
        self._unfinished.experiment_done()


def make_benchmark_optics(kind: str, calibration: Path | None, *, quick: bool) -> BenchmarkOptics:
    """Benchmark optics, ``"exact"`` or ``"hidden"``, with progress at the terminal."""
    if kind == "exact":
        return exact_optics()
    with progress("hidden optics", 1.0) as advance:
        return hidden_benchmark_optics(_cache(), calibration, advance, quick=quick)


def _cache() -> Path:
    """Folder of what later runs can use too."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("bathyscope"))


def _method_record(method_run: MethodRun) -> dict[str, Any]:
    record: dict[str, Any] = {
        "method": method_run.label,
        "pattern": method_run.optics_source,
        "threshold": method_run.threshold,
        "frames": method_run.frames,
        "processor_seconds": round(method_run.seconds, 3),
        "processor_seconds_per_frame": round(method_run.seconds / max(method_run.frames, 1), 4),
    }
    if needs_model(method_run.name):
        described = ModelCard.load(method_run.model_folder or reference_model("full"))
        record |= {
            "model": described.id,
            "calibration": described.calibration_id,
            "training_minutes": described.training.get("minutes"),
            "training_frames": described.training.get("frames"),
        }
    return record
