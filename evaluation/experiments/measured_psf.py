"""Experiment `psf`: methods with the measured PSF against the same methods with the computed PSF.

Frames come from the hidden, aberrated optics. `measured`: made or trained
from the calibration of their noisy sweep. `computed`: made or trained from
the objective's data sheet, as the shipped model is. A network takes part with
each of its models that was named; a fit is made twice.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.experiments.benchmark import Benchmark, MethodRun, tune, validation_frames
from evaluation.methods.registry import needs_model
from evaluation.optics.benchmark_optics import computed_calibration
from evaluation.optics.frames import FRAME_SHAPE, Photons, expose, uniform_emitters
from evaluation.report.figures import BOUND, LIMIT, bar_places, new_figure, panel, save, styles
from evaluation.scores.over_bound import isolated_errors
from evaluation.scores.scoring import Row, limit_columns, score_rows

__all__ = ["draw", "run", "with_both_patterns"]

_LIGHT = Photons(3e4, 5.0)
_FRAMES, _QUICK_FRAMES = 60, 4
_POINTS, _QUICK_POINTS = (1, 20), (1, 10)
_RATIOS = ("lateral_over_bound", "axial_over_bound")


def with_both_patterns(benchmark: Benchmark) -> list[MethodRun]:
    """All methods of the benchmark; those that are not networks appear once with each pattern."""
    both: list[MethodRun] = []
    for method_run in benchmark.method_runs:
        if needs_model(method_run.name):
            both.append(method_run)
            continue
        label = f"{method_run.name} (computed)"
        both += [method_run, MethodRun(label, method_run.name, computed_calibration(), "computed", kept=benchmark.kept)]
    return both


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `psf`: one row for each method, pattern and number of points, on hidden optics."""
    method_runs = with_both_patterns(benchmark)
    validation = validation_frames(benchmark.optics, quick=benchmark.quick)
    for method_run in method_runs:
        if method_run not in benchmark.method_runs:
            tune(method_run, validation, seconds=benchmark.seconds)
    detector = benchmark.optics.ideal_detector(benchmark.box(FRAME_SHAPE))
    rows: list[Row] = []
    counts = _QUICK_POINTS if benchmark.quick else _POINTS
    total = len(counts) * len(method_runs)
    for index, points in enumerate(counts):
        rng = benchmark.rng(4, points)
        # Isolated emitters need more frames for as many localizations.
        count = (_QUICK_FRAMES if benchmark.quick else _FRAMES) * (3 if points == 1 else 1)
        box = benchmark.box(FRAME_SHAPE)
        emitters = [uniform_emitters(rng, points, box) for _ in range(count)]
        frames = expose(benchmark.optics, emitters, _LIGHT, FRAME_SHAPE, rng)
        bounds = benchmark.optics.bounds(frames, None if points == 1 else 20)
        limits = limit_columns(bounds, detector)
        for done, method_run in enumerate(method_runs):
            used_frames, found = benchmark.localizations(method_run, frames)
            columns = {
                "method": method_run.label,
                "pattern": method_run.optics_source,
                "points": points,
                "photons": _LIGHT.mean,
                "background_e": _LIGHT.background_e,
            }
            ratios = dict.fromkeys(_RATIOS)
            if points == 1:
                alone = isolated_errors(found, used_frames, bounds).columns()
                ratios = {key: alone[key] for key in _RATIOS}
            rows += [row | limits | ratios for row in score_rows(found, used_frames, columns)]
            benchmark.advance((index * len(method_runs) + done + 1) / total, f"{points} points, {method_run.label}")
    return {"psf": rows}


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `psf.png`: for each method a bar with the measured and one with the computed pattern."""
    rows = [row for row in tables["psf"] if row["tolerance_um"] == 10.0]
    looks = styles(row["method"] for row in rows)
    crowded = max(row["points"] for row in rows)
    figure, axes = new_figure(3, height=0.9 + 0.32 * len(looks))
    panels = (
        (crowded, "jaccard", "limit_jaccard", f"Jaccard index, {crowded} points, 10 µm"),
        (crowded, "rmse_axial_um", "limit_rms_axial_um", f"axial RMSE (µm), {crowded} points"),
        (1, "axial_over_bound", None, "axial error over its bound, isolated"),
    )
    for axis, (points, key, limit, title) in zip(axes[0], panels, strict=True):
        for place, (method, look) in enumerate(looks.items()):
            (row,) = (row for row in rows if row["method"] == method and row["points"] == points)
            value = row[key] or 0.0
            measured = row["pattern"] == "measured"
            axis.barh(place, value, color=look["color"], alpha=1.0 if measured else 0.45, height=0.65)
            axis.annotate(
                f"{value:.2f}", (value, place), xytext=(3, 0), textcoords="offset points", va="center", size=7
            )
            if limit and row[limit] is not None:
                axis.axvline(row[limit], **(LIMIT if key == "jaccard" else BOUND))
        if limit is None:
            axis.axvline(1.0, **BOUND)
        bar_places(axis, list(looks), named=axis is axes[0, 0])
        panel(axis, title=title)
        axis.margins(x=0.15)
    title = "Measured (full) against computed pattern (pale), hidden optics; line: limit"
    save(figure, axes, folder / "psf.png", title=title, caption=caption)
