"""Experiment `tracking`: points that diffuse, go straight, or pulse through a vessel; localized, then tracked.

All methods use the same Kalman tracker with the same settings, so only the
localizations differ. The scores are the position errors of confirmed tracks,
how long one track follows a point, and how often a point changes to another
track.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.moving_points import FPS, movie, movie_truth
from evaluation.optics.frames import FRAME_SHAPE, Photons
from evaluation.report.figures import CHANCE, new_figure, panel, save, styles
from evaluation.scores.scoring import Row
from models.metrics import chance_jaccard, match, score_table
from models.motion import Brownian, Directed, Motion, PulsatileFlow
from models.tables import Localizations, Tracks, Truth
from models.tracking import track_table

__all__ = ["continuity", "draw", "run", "with_sigmas"]

_POINTS, _QUICK_POINTS = 20, 8
_FRAMES, _QUICK_FRAMES = 150, 12
_FEWEST_FRAMES = 20
"""Tracks in fewer frames are too short to score."""

_LIGHT = Photons(2e4, 5.0)
_TOLERANCE_UM = 10.0
_DIFFUSION_UM2_S = 20.0
_SPEED_UM_S = 75.0
_USUAL_SIGMA_UM = (1.5, 1.5, 2.0)
"""Errors of look-ups in `snr` and `density`."""

_PATTERNS = ("brownian", "directed", "pulsatile")


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `tracking`: one row for each pattern of motion and method."""
    rows: list[Row] = []
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    total = len(_PATTERNS) * len(benchmark.method_runs)
    for index, pattern in enumerate(_PATTERNS):
        points = _QUICK_POINTS if benchmark.quick else _POINTS
        motion = _motion(benchmark, pattern, points)
        brightness = benchmark.rng(7, index).uniform(0.3, 1.0, points)
        frames = movie(benchmark, motion, brightness, _LIGHT, count, index)
        for done, method_run in enumerate(benchmark.method_runs):
            used_frames, found = benchmark.localizations(method_run, frames, _FEWEST_FRAMES)
            truth = movie_truth(used_frames)
            tracks = track_table(with_sigmas(found), FPS)
            score = score_table(tracks, truth, _TOLERANCE_UM)
            rows.append(
                {
                    "method": method_run.label,
                    "motion": pattern,
                    "points": points,
                    "frames": len(used_frames),
                    "photons": _LIGHT.mean,
                    "background_e": _LIGHT.background_e,
                    "tolerance_um": _TOLERANCE_UM,
                    "localization_jaccard": score_table(found, truth, _TOLERANCE_UM).jaccard,
                }
                | score.as_dict()
                | continuity(tracks, truth)
                | {"chance_jaccard": chance_jaccard(tracks, truth, _TOLERANCE_UM)}
            )
            done_now = index * len(benchmark.method_runs) + done + 1
            benchmark.advance(done_now / total, f"{pattern}, {method_run.label}")
    return {"tracking": rows}


def with_sigmas(found: Localizations) -> Localizations:
    """Localizations whose sigmas are stated: a look-up states none, and a tracker needs some."""
    stated = {}
    for name, usual in zip(("sigma_x_um", "sigma_y_um", "sigma_z_um"), _USUAL_SIGMA_UM, strict=True):
        values = getattr(found, name)
        stated[name] = np.where(np.isfinite(values), values, usual)
    return replace(found, **stated)


def continuity(tracks: Tracks, truth: Truth) -> Row:
    """Share of its time that a point is followed by its longest track, and changes of track per point."""
    owners: dict[int, list[int]] = {}
    length = len(np.unique(truth.frame))
    for frame in np.unique(truth.frame):
        mine, real = tracks.frame == frame, truth.frame == frame
        found = np.column_stack([tracks.x_um[mine], tracks.y_um[mine], tracks.z_um[mine]])
        places = np.column_stack([truth.x_um[real], truth.y_um[real], truth.z_um[real]])
        for localization, point in zip(*match(found, places, _TOLERANCE_UM), strict=True):
            owners.setdefault(int(truth.track_id[real][point]), []).append(int(tracks.track_id[mine][localization]))
    points = len(np.unique(truth.track_id))
    longest = sum(np.unique(each, return_counts=True)[1].max() for each in owners.values())
    switches = sum(int(np.count_nonzero(np.diff(each))) for each in owners.values())
    return {"longest_share": float(longest / (length * points)), "switches_per_point": switches / points}


def _motion(benchmark: Benchmark, pattern: str, points: int) -> Motion:
    rng = benchmark.rng(8, _PATTERNS.index(pattern))
    box = benchmark.box(FRAME_SHAPE)
    low, high = np.array(box).T
    start = rng.uniform(low + 2, high - 2, (points, 3))
    if pattern == "brownian":
        return Brownian(start, _DIFFUSION_UM2_S, benchmark.seed, box_um=box)
    if pattern == "directed":
        way = rng.standard_normal((points, 3)) * np.array([1.0, 1.0, 0.5])
        return Directed(start, way / np.linalg.norm(way, axis=1, keepdims=True) * _SPEED_UM_S, box)
    middle = (low + high) / 2
    line = np.array([[low[0], middle[1] - 15, 0], middle, [high[0], middle[1] + 15, 0]])
    line[:, 2] = low[2] + (high - low)[2] * np.array([0.3, 0.5, 0.7])
    radius = min(15.0, 0.25 * (high - low)[2])
    return PulsatileFlow(line, radius, points, benchmark.seed, peak_um_s=2 * _SPEED_UM_S, beat_hz=2.5, pulsation=0.8)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `tracking.png`: bars for each pattern of motion."""
    rows = tables["tracking"]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(4, width=3.0)
    keys = (
        ("jaccard", "Jaccard index of track points"),
        ("rmse_axial_um", "axial RMSE (µm)"),
        ("longest_share", "share of time in the longest track"),
        ("switches_per_point", "changes of track per point"),
    )
    width = 0.8 / len(looks)
    for axis, (key, title) in zip(axes[0], keys, strict=True):
        for place, (method, look) in enumerate(looks.items()):
            values = [next(r[key] or 0 for r in rows if r["method"] == method and r["motion"] == m) for m in _PATTERNS]
            at = np.arange(len(_PATTERNS)) + (place - (len(looks) - 1) / 2) * width
            axis.bar(at, values, width, color=look["color"], label=method)
        if key == "jaccard":
            axis.axhline(max(row["chance_jaccard"] or 0 for row in rows), label="chance level", **CHANCE)
        axis.set_xticks(range(len(_PATTERNS)), list(_PATTERNS))
        panel(axis, title=title)
    save(figure, axes, folder / "tracking.png", title="Tracks of moving points, one Kalman tracker", caption=caption)
