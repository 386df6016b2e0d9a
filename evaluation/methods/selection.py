"""The methods of a run: one `MethodRun` for each fit, one for each network and each of its models, made ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evaluation.experiments.benchmark import MethodRun, tune, validation_frames
from evaluation.methods.registry import MethodMissing, needs_model
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import PUBLISHED_CAMERA, Frames
from evaluation.runs.kept_results import KeptResults
from models.errors import DataError
from models.model_card import REFERENCE_CALIBRATION, ModelCard
from models.weights import reference_model

__all__ = ["Tuned", "make_method_runs", "make_ready", "model_folders"]

Tuned = Mapping[str, Mapping[str, float]]
"""Results of an earlier part of the run by label: ``threshold``, ``processor_seconds``, ``frames``."""


def model_folders(methods: Sequence[str], models: Sequence[Path]) -> list[Path]:
    """Folders of all networks that take part: those named, and the shipped one where none is named."""
    architectures = {ModelCard.load(folder).architecture for folder in models}
    networks = {name.split()[0] for name in methods if needs_model(name)}
    shipped = [reference_model("full")] if "cascade" in networks - architectures else []
    return [*models, *shipped]


def make_method_runs(optics: BenchmarkOptics, methods: Sequence[str], models: Sequence[Path]) -> list[MethodRun]:
    """Methods, not yet tuned, in the order of `methods`."""
    opened = {folder: ModelCard.load(folder) for folder in models}
    usual_source = "exact" if optics.name == "exact" else "measured"
    method_runs: list[MethodRun] = []
    for name in methods:
        if not needs_model(name):
            method_runs.append(MethodRun(name, name, optics.calibration, usual_source))
            continue
        mine = {folder: each for folder, each in opened.items() if each.architecture == name.split()[0]}
        for folder, each in mine.items():
            computed = each.calibration_id == REFERENCE_CALIBRATION
            source = "exact" if computed and optics.name == "exact" else "computed" if computed else "measured"
            label = name if source == usual_source and len(mine) == 1 else f"{name} ({source}, {folder.name})"
            method_runs.append(MethodRun(label, name, optics.calibration, source, folder))
        if not mine:
            # The shipped model was trained with the computed pattern.
            label = name if optics.name == "exact" else f"{name} (computed)"
            method_runs.append(MethodRun(label, name, optics.calibration, "exact" if label == name else "computed"))
    return method_runs


def make_ready(
    optics: BenchmarkOptics,
    method_runs: Sequence[MethodRun],
    *,
    quick: bool,
    seconds: float,
    tuned: Tuned | None = None,
    kept: KeptResults | None = None,
    advance: Callable[[float, str], None] = lambda _done, _what: None,
) -> tuple[list[MethodRun], dict[str, str]]:
    """Tune all that can run here.

    Parameters
    ----------
    optics : BenchmarkOptics
    method_runs : sequence of MethodRun
    quick : bool
        Few validation frames.
    seconds : float
        Processor time of a method for a condition.
    tuned : mapping, optional
        Thresholds from an earlier part of this run, which are not tuned again.
    kept : KeptResults, optional
        Where localizations are kept.
    advance : callable
        Called with the share done and the label.

    Returns
    -------
    ready : list of MethodRun
    missing : dict
        Why the others cannot run, by label.

    Raises
    ------
    DataError
        When none can run.
    """
    missing: dict[str, str] = {}
    ready: list[MethodRun] = []
    validation: list[Frames] = []
    for done, method_run in enumerate(method_runs):
        known = (tuned or {}).get(method_run.label)
        method_run.kept = kept
        try:
            method_run.prepare(PUBLISHED_CAMERA)
        except MethodMissing as error:
            missing[method_run.label] = str(error)
            continue
        if known is None:
            validation = validation or validation_frames(optics, quick=quick)
            tune(method_run, validation, seconds=seconds)
        else:
            method_run.threshold = known["threshold"]
            method_run.seconds, method_run.frames = known["processor_seconds"], round(known["frames"])
        method_run.release()
        ready.append(method_run)
        advance((done + 1) / len(method_runs), method_run.label)
    if not ready:
        raise DataError(
            f"None of the methods can run here: {'; '.join(missing.values())}", "Choose others with --methods."
        )
    return ready, missing
