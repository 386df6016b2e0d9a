"""Experiment `density`: 1 to 100 points in 100 x 100 x 100 µm³ at 30 dB, and with 30,000 photo-electrons each.

The tables also have the seeding density S, the summed area of the
particles' images (the circle that holds 99 % of the light) over the area of
the frame: overlap depends on it alone (Sax and Kriegseis, 2025).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.conditions import Condition, run_conditions
from evaluation.optics.frames import FRAME_SHAPE, Photons, Snr
from evaluation.report.figures import (
    error_curves,
    jaccard_curves,
    log_axis,
    new_figure,
    panel,
    save,
    styles,
)
from evaluation.scores.scoring import TOLERANCES_UM, Row

__all__ = ["draw", "run", "seeding_density"]

_POINTS = (1, 4, 10, 20, 32, 64, 100)
_QUICK_POINTS = (4, 32)
_DB = 30.0
_PHOTONS = Photons(3e4, 10.0)


def seeding_density(benchmark: Benchmark, points: int) -> float:
    """Summed image area of `points` emitters, uniform over the depths, over the frame's area."""
    radius = benchmark.optics.limits.radius_px(np.linspace(*benchmark.optics.depths_um, 201))
    return float(points * np.mean(np.pi * radius**2) / (FRAME_SHAPE[0] * FRAME_SHAPE[1]))


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `density` (both forms) and `density-precision-recall`."""
    conditions = [
        Condition(
            {"form": form, "points": points, "seeding_density": round(seeding_density(benchmark, points), 3)},
            points,
            light,
            curve=points == 64 and form == "published",
        )
        for form, light in (("published", Snr(_DB)), ("physical", _PHOTONS))
        for points in (_QUICK_POINTS if benchmark.quick else _POINTS)
    ]
    rows, curves = run_conditions(benchmark, conditions)
    return {"density": rows, "density-precision-recall": curves}


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `density.png`: Jaccard index at three tolerances, axial error, over the number of points."""
    rows = [row for row in tables["density"] if row["form"] == "published"]
    physical = [row for row in tables["density"] if row["form"] == "physical"]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(3, 2)
    panels = [(rows, tolerance, f"{_DB:g} dB, within {tolerance:g} µm in 3D") for tolerance in TOLERANCES_UM]
    panels.append((physical, 10.0, f"sCMOS, {_PHOTONS.mean:,.0f} e⁻ each, {_PHOTONS.background_e:g} e⁻/px, 10 µm"))
    for axis, (chosen, tolerance, title) in zip(axes.flat, panels, strict=False):
        jaccard_curves(axis, chosen, looks, "points", tolerance)
        panel(axis, title=title, ylim=(0, 1.02))
        axis.set_ylabel("Jaccard index")
    for axis, kind in zip(axes[1, 1:], ("lateral", "axial"), strict=True):
        error_curves(axis, rows, looks, "points", kind)
        panel(axis, title=f"{kind} error of found emitters, {_DB:g} dB", y="RMSE (µm)")
    for axis in axes.flat:
        log_axis(axis, [row["points"] for row in rows])
        axis.set_xlabel("points in the volume")
    per_point = rows[0]["seeding_density"] / rows[0]["points"]
    for axis in axes[0]:
        above = axis.secondary_xaxis("top", functions=(lambda n: n * per_point, lambda s: s / per_point))
        log_axis(above, [float(f"{row['seeding_density']:.2g}") for row in rows])
        above.set_xlabel("seeding density S", fontsize=8)
        above.tick_params(labelsize=7, color="0.6")
    save(figure, axes, folder / "density.png", title="Found over the density of points", caption=caption)
