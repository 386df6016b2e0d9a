"""Experiments that vary one condition: all methods on the same frames, limits, and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.optics.frames import FRAME_SHAPE, Frames, Light, Photons, Snr, expose, uniform_emitters
from evaluation.scores.scoring import TOLERANCES_UM, Row, limit_columns, precision_recall, score_rows

__all__ = ["Condition", "condition_frames", "light_columns", "light_text", "run_conditions"]

_FRAMES, _QUICK_FRAMES = 100, 6
_QUICK_LIMIT_FRAMES = 12
_LIMIT_POINTS = 3000
"""So many emitters are enough for the bounds of a condition; crowded frames are many times slower."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One setting.

    Attributes
    ----------
    columns : Row
        What names it in the table.
    points : int
    light : Light
    curve : bool
        Whether the precision-recall curve is kept.
    """

    columns: Row = field(hash=False)
    points: int
    light: Light
    curve: bool = False


def condition_frames(benchmark: Benchmark, condition: Condition, count: int) -> Frames:
    """Frames with points uniform in the published volume; the same for all methods."""
    light = condition.light
    words = (round(10 * light.db) + 1000,) if isinstance(light, Snr) else (round(light.mean), round(light.background_e))
    rng = benchmark.rng(condition.points, *words)
    box = benchmark.box(FRAME_SHAPE)
    return expose(
        benchmark.optics,
        [uniform_emitters(rng, condition.points, box) for _ in range(count)],
        light,
        FRAME_SHAPE,
        rng,
    )


def run_conditions(
    benchmark: Benchmark,
    conditions: Sequence[Condition],
    method_runs: Sequence[MethodRun] | None = None,
    tolerances_um: Sequence[float] = TOLERANCES_UM,
) -> tuple[list[Row], list[Row]]:
    """Score every method, or those given, at every condition and within every tolerance.

    Returns
    -------
    rows : list of Row
        One for each condition, method and tolerance.
    curves : list of Row
        Precision-recall curves of the conditions that ask for one.
    """
    rows: list[Row] = []
    curves: list[Row] = []
    detector = benchmark.optics.ideal_detector(benchmark.box(FRAME_SHAPE))
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    for done, condition in enumerate(conditions):
        frames = condition_frames(benchmark, condition, count)
        # In the quick size the limits need more frames than the methods get; the first ones are the same.
        limited = condition_frames(benchmark, condition, _QUICK_LIMIT_FRAMES) if benchmark.quick else frames
        most = max(_LIMIT_POINTS // condition.points, 8)
        limits = limit_columns(benchmark.optics.bounds(limited, most), detector)
        blank = {"snr_db": None, "photons": None}
        for method_run in benchmark.method_runs if method_runs is None else method_runs:
            before = method_run.seconds
            used_frames, candidates = benchmark.candidates(method_run, frames)
            columns = {"method": method_run.label} | blank | condition.columns
            localizations = method_run.above_threshold(candidates)
            cost = {"seconds_per_frame": round((method_run.seconds - before) / len(used_frames), 4)}
            scored = score_rows(localizations, used_frames, columns, tolerances_um=tolerances_um)
            rows += [row | limits | cost | {"threshold": method_run.threshold} for row in scored]
            if condition.curve:
                curve = precision_recall(candidates, used_frames, columns)
                nearest = int(np.argmin([abs(row["threshold"] - method_run.threshold) for row in curve] or [0]))
                curves += [row | {"tuned": index == nearest} for index, row in enumerate(curve)]
            what = f"{light_text(condition.light)}, {condition.points} points, {method_run.label}"
            benchmark.advance((done + 1) / len(conditions), what)
    return rows, curves


def light_text(light: Light) -> str:
    """In words."""
    if isinstance(light, Photons):
        return f"{light.mean:g} photo-electrons on {light.background_e:g} e-/px"
    return f"{light.db:g} dB"


def light_columns(light: Light) -> Row:
    """In a table, the same columns for both forms."""
    if isinstance(light, Photons):
        return {"form": "physical", "snr_db": None, "photons": light.mean, "background_e": light.background_e}
    return {"form": "published", "snr_db": light.db, "photons": None, "background_e": None}
