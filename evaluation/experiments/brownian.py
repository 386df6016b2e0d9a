"""Experiment `brownian`: the diffusion coefficient of beads, recovered in x, y and z from tracks.

Localizations are joined by tracks, as a user has them, so that what the tracker
cuts off or joins wrongly counts too. The coefficients and their 95 % intervals
are those of `models.measures`: localization error is removed, and the blur
within the exposure, which is drawn into the frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.moving_points import BLUR_S, FPS, render_movie, tracked_localizations
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import FRAME_SHAPE, Frames, Photons
from evaluation.report.figures import BOUND, log_axis, new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row
from models.measures import Interval, measure
from models.motion import Brownian
from models.tables import Localizations
from models.tracking import smoothed_tracks

__all__ = ["draw", "run"]

_BEADS, _QUICK_BEADS = 8, 4
_FRAMES, _QUICK_FRAMES = 300, 16
_FEWEST_FRAMES = 20
"""Steps need frames in a row."""

_LIGHT = Photons(3e4, 5.0)
_DIFFUSION_UM2_S = (0.43, 2.0, 10.0)
"""From a 1-µm bead in water at 20 °C to small ones."""

_QUICK_DIFFUSION_UM2_S = (10.0,)


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `brownian`: for each true coefficient, method and axis the recovered one, its interval and coverage."""
    rows: list[Row] = []
    coefficients = _QUICK_DIFFUSION_UM2_S if benchmark.quick else _DIFFUSION_UM2_S
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    total = len(coefficients) * len(benchmark.method_runs)
    for index, coefficient in enumerate(coefficients):
        rng = benchmark.rng(9, index)
        points = _QUICK_BEADS if benchmark.quick else _BEADS
        low, high = np.array(benchmark.box(FRAME_SHAPE)).T
        start = rng.uniform(low + 5, high - 5, (points, 3))
        motion = Brownian(start, coefficient, benchmark.seed + index)
        frames = render_movie(benchmark.optics, motion, np.ones(points), count).expose(_LIGHT, benchmark.rng(6, index))
        for done, method_run in enumerate(benchmark.method_runs):
            used_frames, candidates = benchmark.candidates(method_run, frames, _FEWEST_FRAMES)
            found = method_run.above_threshold(candidates)
            given = tracked_localizations(candidates, found, probabilities=needs_model(method_run.name))
            rows += _rows(method_run.label, given, used_frames, coefficient)
            done_now = index * len(benchmark.method_runs) + done + 1
            benchmark.advance(done_now / total, f"{coefficient:g} µm²/s, {method_run.label}")
    return {"brownian": rows}


def _rows(label: str, given: Localizations, frames: Frames, coefficient: float) -> list[Row]:
    """One row for each axis, and one for all axes together."""
    tracks = smoothed_tracks(given, FPS)
    measured = measure(tracks, given, BLUR_S)
    real = np.stack([each[:, :3] for each in frames.emitters], axis=1)
    beads = real.shape[0]
    # What the true paths would give: they are as short as the movie.
    squares = np.append((steps := np.diff(real, axis=1) ** 2).mean(axis=(0, 1)), steps.mean())
    rows: list[Row] = []
    for column, (axis, name) in enumerate((("x", "x_"), ("y", "y_"), ("z", "z_"), ("all", ""))):
        all_tracks = measured.ensemble.diffusion_um2_s[axis]
        low, high = (getattr(measured.tracks, f"diffusion_{name}um2_s_{end}") for end in ("low", "high"))
        known = np.isfinite(low)
        inside = (low[known] <= coefficient) & (high[known] >= coefficient)
        rows.append(
            {
                "method": label,
                "axis": axis,
                "beads": beads,
                "frames": len(frames),
                "photons": _LIGHT.mean,
                "background_e": _LIGHT.background_e,
                "diffusion_um2_s": coefficient,
                "of_the_true_paths_um2_s": float(squares[column]) * FPS / 2,
                "recovered_um2_s": all_tracks.value,
                "low_um2_s": all_tracks.low,
                "high_um2_s": all_tracks.high,
                "ratio": None if all_tracks.value is None else all_tracks.value / coefficient,
                "covered": _holds(all_tracks, coefficient),
                "tracks": len(measured.tracks),
                "tracks_measured": int(known.sum()),
                "tracks_covered": float(inside.mean()) if known.any() else None,
                "found": float(measured.tracks.observed.sum() / (beads * len(frames))),
            }
        )
    return rows


def _holds(interval: Interval, value: float) -> bool | None:
    """Whether an interval holds a value; None: there is none."""
    if interval.value is None:
        return None
    low, high = interval.low, interval.high
    return (low is None or low <= value) and (high is None or high >= value)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `brownian.png`: recovered over true coefficient with 95 % intervals, a panel for each axis."""
    rows = tables["brownian"]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(3, sharey=True)
    for axis, name in zip(axes[0], "xyz", strict=True):
        for method, look in looks.items():
            axis.plot(*series(rows, "diffusion_um2_s", "ratio", method=method, axis=name), **look)
            for row in rows:
                if row["method"] == method and row["axis"] == name and row["ratio"] and row["high_um2_s"]:
                    ends = (row["recovered_um2_s"] - row["low_um2_s"], row["high_um2_s"] - row["recovered_um2_s"])
                    height = [[end / row["diffusion_um2_s"]] for end in ends]
                    axis.errorbar(row["diffusion_um2_s"], row["ratio"], height, color=look["color"], capsize=2)
        axis.axhline(1.0, label="truth", **BOUND)
        log_axis(axis, [row["diffusion_um2_s"] for row in rows])
        panel(axis, title=f"along {name}", x="true diffusion coefficient (µm²/s)")
    axes[0, 0].set_ylabel("recovered over true")
    save(figure, axes, folder / "brownian.png", title="Diffusion recovered from localizations", caption=caption)
