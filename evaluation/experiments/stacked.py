"""Experiment `stacked`: two emitters at one lateral position, one behind the other.

The published axial network returns several depths at one lateral position.
Two equal emitters are 10 to 40 µm apart in depth, their middle anywhere in the
volume. The tables give the share of frames in which both are found (one
localization each, within 5 or 10 µm in 3D), and the localizations beyond the
two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.benchmark import Benchmark
from evaluation.optics.frames import FRAME_SHAPE, Snr, expose
from evaluation.report.figures import new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row, localizations_by_frame
from models.metrics import match

__all__ = ["draw", "run"]

F64 = NDArray[np.float64]

_APART_UM = (10.0, 20.0, 30.0, 40.0)
_QUICK_APART_UM = (5.0, 10.0)
_DB = (10.0, 30.0)
_QUICK_DB = (30.0,)
_FRAMES, _QUICK_FRAMES = 100, 6
_TOLERANCES_UM = (5.0, 10.0)
_NEAREST_UM = 3.0
"""Nearer to focus the depth cannot be measured from a pattern without aberrations."""

_ASKED = 0.8
"""Share of frames that the published pair is expected to reach at 30 µm."""


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `stacked`: one row for each light, distance, method and tolerance."""
    rows: list[Row] = []
    conditions = [
        (db, apart)
        for db in (_QUICK_DB if benchmark.quick else _DB)
        for apart in (_QUICK_APART_UM if benchmark.quick else _APART_UM)
    ]
    for done, (db, apart) in enumerate(conditions):
        rng = benchmark.rng(12, round(db), round(apart))
        count = _QUICK_FRAMES if benchmark.quick else _FRAMES
        pairs = [_pair(benchmark, rng, apart) for _ in range(count)]
        frames = expose(benchmark.optics, pairs, Snr(db), FRAME_SHAPE, rng)
        for method_run in benchmark.method_runs:
            used_frames, found = benchmark.localizations(method_run, frames)
            localizations = localizations_by_frame(found, len(used_frames))
            surplus = float(np.mean([max(len(each) - 2, 0) for each in localizations]))
            for tolerance in _TOLERANCES_UM:
                both = [
                    len(match(each, pair[:, :3], tolerance)[0]) == 2
                    for each, pair in zip(localizations, used_frames.emitters, strict=True)
                ]
                share = float(np.mean(both))
                rows.append(
                    {
                        "method": method_run.label,
                        "snr_db": db,
                        "apart_um": apart,
                        "tolerance_um": tolerance,
                        "frames": len(used_frames),
                        "median_photons": round(used_frames.median_photons, 1),
                        "both_found": share,
                        "both_found_error": float(np.sqrt(share * (1 - share) / len(used_frames))),
                        "extra_answers": surplus,
                    }
                )
            benchmark.advance((done + 1) / len(conditions), f"{apart:g} µm apart, {db:g} dB, {method_run.label}")
    return {"stacked": rows}


def _pair(benchmark: Benchmark, rng: np.random.Generator, apart_um: float) -> F64:
    """Two equal emitters at one place of the volume, `apart_um` in depth, shape (2, 4)."""
    (left, right), (top, bottom), (low, high) = benchmark.box(FRAME_SHAPE)
    x, y = rng.uniform(left, right), rng.uniform(top, bottom)
    z = rng.uniform(low + _NEAREST_UM, high - apart_um)
    return np.array([[x, y, z, 1.0], [x, y, z + apart_um, 1.0]])


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `stacked.png`: share of frames with both found, and localizations beyond the two, over the distance."""
    rows = tables["stacked"]
    looks = styles(row["method"] for row in rows)
    levels = sorted({row["snr_db"] for row in rows})
    distances = sorted({row["apart_um"] for row in rows})
    figure, axes = new_figure(3, len(levels))
    for line, db in zip(axes, levels, strict=True):
        for axis, tolerance in zip(line, _TOLERANCES_UM, strict=False):
            for method, look in looks.items():
                where = {"method": method, "snr_db": db, "tolerance_um": tolerance}
                axis.plot(*series(rows, "apart_um", "both_found", **where), **look)
                errors = series(rows, "apart_um", "both_found_error", **where)[1]
                shares = series(rows, "apart_um", "both_found", **where)
                axis.errorbar(*shares, errors, fmt="none", ecolor=look["color"], elinewidth=0.9, alpha=0.7)
            axis.axhline(_ASKED, color="0.8", linewidth=1)
            panel(axis, title=f"both found within {tolerance:g} µm, {db:g} dB", y="share of frames", ylim=(-0.02, 1.02))
        for method, look in looks.items():
            surplus = series(rows, "apart_um", "extra_answers", method=method, snr_db=db, tolerance_um=10.0)
            line[2].plot(*surplus, **look)
        panel(line[2], title=f"localizations beyond the two, {db:g} dB", y="per frame")
        line[2].set_ylim(bottom=-0.02)
    for axis in axes.flat:
        axis.set_xticks(distances)
        axis.set_xlabel("distance in depth (µm)")
    save(figure, axes, folder / "stacked.png", title="Two emitters at one lateral position", caption=caption)
