"""Experiment `snr`: 20 points in 100 x 100 x 100 µm³ with decreasing light.

Published form: intensity U(0.1, 1), the SNR of the frame swept. Physical
form: photo-electrons per emitter swept at two backgrounds, sCMOS camera.
Ideal detector and Cramér-Rao bound of the same frames are drawn in, and the
chance level.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.conditions import Condition, run_conditions
from evaluation.optics.frames import Photons, Snr
from evaluation.report.figures import (
    error_curves,
    jaccard_curves,
    log_axis,
    new_figure,
    panel,
    save,
    series,
    styles,
)
from evaluation.scores.scoring import TOLERANCES_UM, Row

__all__ = ["draw", "run"]

_POINTS = 20
_DB = (-3.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
_QUICK_DB = (0.0, 10.0, 30.0)
_PHOTONS = (1e3, 3e3, 1e4, 3e4, 1e5)
_QUICK_PHOTONS = (3e3, 3e4)
_BACKGROUNDS_E = (2.0, 50.0)
_QUICK_BACKGROUNDS_E = (2.0,)


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `snr` (both forms) and `snr-precision-recall`."""
    conditions = [
        Condition({"form": "published", "points": _POINTS, "snr_db": db}, _POINTS, Snr(db), curve=db in (0.0, 10.0))
        for db in (_QUICK_DB if benchmark.quick else _DB)
    ] + [
        Condition({"form": "physical", "points": _POINTS, "photons": photons}, _POINTS, Photons(photons, background))
        for background in (_QUICK_BACKGROUNDS_E if benchmark.quick else _BACKGROUNDS_E)
        for photons in (_QUICK_PHOTONS if benchmark.quick else _PHOTONS)
    ]
    rows, curves = run_conditions(benchmark, conditions)
    return {"snr": rows, "snr-precision-recall": curves}


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figures `snr.png` (Jaccard index and errors) and `snr-precision-recall.png`."""
    rows = [row for row in tables["snr"] if row["form"] == "published"]
    physical = [row for row in tables["snr"] if row["form"] == "physical"]
    looks = styles(row["method"] for row in tables["snr"])
    figure, axes = new_figure(3, 2, sharey="row")
    x = "SNR of the frame, published form (dB)"
    for axis, tolerance in zip(axes[0], TOLERANCES_UM, strict=True):
        jaccard_curves(axis, rows, looks, "snr_db", tolerance)
        panel(axis, title=f"{_POINTS} points, within {tolerance:g} µm in 3D", x=x, ylim=(0, 1.02))
    axes[0, 0].set_ylabel("Jaccard index")
    for axis, background in zip(axes[1], sorted({row["background_e"] for row in physical}), strict=False):
        chosen = [row for row in physical if row["background_e"] == background]
        jaccard_curves(axis, chosen, looks, "photons", 10.0)
        log_axis(axis, [row["photons"] for row in chosen])
        panel(
            axis,
            title=f"sCMOS, background {background:g} e⁻/px, within 10 µm",
            x="photo-electrons per emitter (mean)",
            ylim=(0, 1.02),
        )
    axes[1, 0].set_ylabel("Jaccard index")
    save(figure, axes, folder / "snr.png", title="Found over signal-to-noise ratio", caption=caption)
    _draw_errors(rows, folder, caption)
    _draw_curves(tables["snr-precision-recall"], folder, caption)


def _draw_errors(rows: list[Row], folder: Path, caption: str) -> None:
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(2, sharey="row")
    for axis, kind in zip(axes[0], ("lateral", "axial"), strict=True):
        error_curves(axis, rows, looks, "snr_db", kind)
        panel(axis, title=f"{kind} error of found emitters", x="SNR of the frame, published form (dB)")
    axes[0, 0].set_ylabel("root mean square error (µm)")
    save(figure, axes, folder / "snr-errors.png", title="Errors over signal-to-noise ratio", caption=caption)


def _draw_curves(rows: list[Row], folder: Path, caption: str) -> None:
    levels = sorted({row["snr_db"] for row in rows})
    if not levels:
        return
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(len(levels), sharey="row")
    for axis, level in zip(axes[0], levels, strict=True):
        for method, look in looks.items():
            recall, precision = series(rows, "recall", "precision", method=method, snr_db=level)
            axis.plot(recall, precision, **(look if len(recall) == 1 else look | {"marker": ""}))
            tuned = series(rows, "recall", "precision", method=method, snr_db=level, tuned=True)
            axis.plot(*tuned, **(look | {"linestyle": "", "label": None, "markersize": 7}))
        panel(axis, title=f"{_POINTS} points at {level:g} dB", x="recall", xlim=(0, 1.02), ylim=(0, 1.02))
    axes[0, 0].set_ylabel("precision")
    save(
        figure,
        axes,
        folder / "snr-precision-recall.png",
        title="Precision and recall (marker: tuned threshold)",
        caption=caption,
    )
