"""Experiment `tracking`: moving points, localized, then tracked; our tracker against others on the same localizations.

Five tables:

- `tracking`: all trackers on simulated localizations, for each motion, number
  of objects and quality of detection;
- `tracking-sigmas`: whether the sigmas of our tracks are right;
- `tracking-candidates`: candidates with probabilities against a threshold;
- `tracking-movies`: our tracks of the localizations of each method in movies;
- `tracking-dim`: tracks of dim points against localizations of single frames.

`tracking-paths` holds the tracks of one condition, for the figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.dim_movies import dim_rows
from evaluation.experiments.moving_points import FPS, movie_truth, render_movie, tracked_localizations, vessel
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import FRAME_SHAPE, Frames, Photons
from evaluation.report.figures import CHANCE, new_figure, panel, save, styles
from evaluation.scores.scoring import Row
from evaluation.tracks.candidates import threshold_rows
from evaluation.tracks.comparison import Cell, Comparison
from evaluation.tracks.consistency import consistency_columns
from evaluation.tracks.detections import QUALITIES
from evaluation.tracks.drawing import draw_heat, draw_jaccard, draw_paths
from evaluation.tracks.methods import METHODS
from evaluation.tracks.patterns import PATTERNS
from evaluation.tracks.scores import jaccard_columns
from models.metrics import chance_jaccard, score_table
from models.motion import Brownian, Directed, Motion
from models.track_metrics import score_tracks
from models.tracking import smoothed_tracks, track_table

__all__ = ["draw", "run"]

_OBJECTS, _QUICK_OBJECTS = (50, 10, 200), (10,)
_TRACK_FRAMES = 200
_QUICK_TRACK_FRAMES = 60
_MANY_OBJECTS, _FRAMES_OF_MANY = 200, 100
"""Half as many frames where there are many objects: some trackers take seconds for a frame."""

_QUICK_PATTERNS = ("brownian 10", "directed")
_PATHS = ("pulsatile", "standard")
_PATH_OBJECTS, _PATH_FRAMES = 30, 100

_POINTS, _QUICK_POINTS = 20, 8
_FRAMES, _QUICK_FRAMES = 150, 12
_FEWEST_FRAMES = 20
"""Tracks in fewer frames are too short to score."""

_LIGHT = Photons(2e4, 5.0)
_TOLERANCE_UM = 10.0
_DIFFUSION_UM2_S = 20.0
_SPEED_UM_S = 75.0
_MOTIONS = ("brownian", "directed", "pulsatile")
_OF_MOVIES, _OF_DIM = 0.4, 0.1
"""Shares of the whole work that are in the movies, and in those of dim points."""

Report = Callable[[float, str], None]


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """The tables `tracking`, and `tracking-` with `paths`, `sigmas`, `candidates`, `movies` and `dim`."""

    def report(done: float, what: str) -> None:
        benchmark.advance(_OF_MOVIES + _OF_DIM + (1 - _OF_MOVIES - _OF_DIM) * done, what)

    movies = _movies(benchmark)
    dim = dim_rows(benchmark, lambda done, what: benchmark.advance(_OF_MOVIES + _OF_DIM * done, what))
    comparison = Comparison(METHODS, benchmark.seed, _QUICK_TRACK_FRAMES if benchmark.quick else _TRACK_FRAMES // 2)
    if benchmark.quick:
        # One value in the middle: the best one matters little in so few frames.
        methods = [replace(method, settings=method.settings[1:2] or method.settings) for method in METHODS]
        comparison = Comparison(methods, benchmark.seed)
    cells = _cells(benchmark.quick)
    rows: list[Row] = []
    for done, cell in enumerate(cells):
        rows += comparison.rows(cell, lambda what, done=done: report(0.9 * done / len(cells), what))  # type: ignore[misc]
    tables = {
        "tracking": _left_out_once(rows),
        "tracking-paths": _paths(comparison, benchmark.quick),
        "tracking-sigmas": _sigmas(benchmark, report),
        "tracking-candidates": _candidates(benchmark, report),
        "tracking-movies": movies,
        "tracking-dim": dim,
    }
    report(1.0, "tracks")
    return tables


def _cells(quick: bool) -> list[Cell]:
    patterns = [pattern for pattern in PATTERNS if not quick or pattern.name in _QUICK_PATTERNS]
    cells = []
    for objects in _QUICK_OBJECTS if quick else _OBJECTS:
        frames = _FRAMES_OF_MANY if objects >= _MANY_OBJECTS else _TRACK_FRAMES
        for quality in QUALITIES[:1] if quick else QUALITIES:
            cells += [Cell(each, quality, objects, _QUICK_TRACK_FRAMES if quick else frames) for each in patterns]
    return cells


def _left_out_once(rows: list[Row]) -> list[Row]:
    """Rows with scores, and one row for each tracker that cannot run here."""
    reasons = {row["method"]: row for row in rows if "left_out" in row}
    return [*(row for row in rows if "left_out" not in row), *reasons.values()]


def _paths(comparison: Comparison, quick: bool) -> list[Row]:
    """Points of true tracks and of the tracks of three methods, for the figure."""
    pattern = next(each for each in PATTERNS if each.name == _PATHS[0])
    quality = next(each for each in QUALITIES if each.name == _PATHS[1])
    cell = Cell(pattern, quality, _PATH_OBJECTS, _QUICK_TRACK_FRAMES if quick else _PATH_FRAMES)
    shown = {method.name: method for method in comparison.methods if method.name in ("Bathyscope", "published")}
    truth = cell.movie(comparison.seed)[0]
    tables = {"truth": truth} | {name: comparison.tracks(shown[name], cell)[2] for name in ("published", "Bathyscope")}
    return [
        {
            "method": name,
            "motion": pattern.name,
            "quality": quality.name,
            "track_id": int(number),
            "frame": int(frame),
            "x_um": round(float(x), 2),
            "y_um": round(float(y), 2),
            "z_um": round(float(z), 2),
        }
        for name, table in tables.items()
        for number, frame, x, y, z in zip(table.track_id, table.frame, table.x_um, table.y_um, table.z_um, strict=True)
    ]


def _sigmas(benchmark: Benchmark, report: Report) -> list[Row]:
    rows: list[Row] = []
    for quality in QUALITIES[:1] if benchmark.quick else QUALITIES:
        for pattern in PATTERNS:
            if benchmark.quick and pattern.name not in _QUICK_PATTERNS:
                continue
            report(0.9, f"sigmas, {pattern.name}, {quality.name}")
            cell = Cell(pattern, quality, 10 if benchmark.quick else 50, 60 if benchmark.quick else _TRACK_FRAMES)
            truth, found = cell.movie(benchmark.seed + 1)
            live, smoothed = track_table(found, FPS), smoothed_tracks(found, FPS)
            rows.append(
                {
                    "method": "Bathyscope",
                    "motion": pattern.name,
                    "modelled": pattern.modelled,
                    "quality": quality.name,
                    "objects": cell.objects,
                    "frames": cell.frames,
                }
                | consistency_columns(live, smoothed, truth, found, FPS)
            )
    return rows


def _candidates(benchmark: Benchmark, report: Report) -> list[Row]:
    rows: list[Row] = []
    for pattern in PATTERNS:
        if benchmark.quick and pattern.name not in _QUICK_PATTERNS:
            continue
        report(0.95, f"candidates, {pattern.name}")
        objects, frames = (10, _QUICK_TRACK_FRAMES) if benchmark.quick else (50, _TRACK_FRAMES)
        rows += threshold_rows(pattern, objects, frames, benchmark.seed + 2)
    return rows


def _movies(benchmark: Benchmark) -> list[Row]:
    """One row for each motion, method and form: our tracks of what the method finds in a movie."""
    rows: list[Row] = []
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    total = len(_MOTIONS) * len(benchmark.method_runs)
    for index, name in enumerate(_MOTIONS):
        points = _QUICK_POINTS if benchmark.quick else _POINTS
        motion = _motion(benchmark, name, points)
        brightness = benchmark.rng(7, index).uniform(0.3, 1.0, points)
        frames = render_movie(benchmark.optics, motion, brightness, count).expose(_LIGHT, benchmark.rng(6, index))
        for done, method_run in enumerate(benchmark.method_runs):
            rows += _movie_rows(benchmark, method_run, frames, {"motion": name, "points": points})
            share = (index * len(benchmark.method_runs) + done + 1) / total
            benchmark.advance(_OF_MOVIES * share, f"{name}, {method_run.label}")
    return rows


def _movie_rows(benchmark: Benchmark, method_run: MethodRun, frames: Frames, condition: Row) -> list[Row]:
    used_frames, candidates = benchmark.candidates(method_run, frames, _FEWEST_FRAMES)
    found = method_run.above_threshold(candidates)
    truth = movie_truth(used_frames)
    given = tracked_localizations(candidates, found, probabilities=needs_model(method_run.name))
    rows: list[Row] = []
    for form, tracks in (("live", track_table(given, FPS)), ("smoothed", smoothed_tracks(given, FPS))):
        score = score_table(tracks, truth, _TOLERANCE_UM)
        rows.append(
            {"method": method_run.label, "form": form}
            | condition
            | {
                "frames": len(used_frames),
                "photons": _LIGHT.mean,
                "background_e": _LIGHT.background_e,
                "tolerance_um": _TOLERANCE_UM,
            }
            | score.as_dict()
            | jaccard_columns(tracks, found, truth)
            | score_tracks(tracks, truth).as_dict()
            | {"chance_jaccard": chance_jaccard(tracks, truth, _TOLERANCE_UM)}
        )
    return rows


def _motion(benchmark: Benchmark, name: str, points: int) -> Motion:
    rng = benchmark.rng(8, _MOTIONS.index(name))
    box = benchmark.box(FRAME_SHAPE)
    low, high = np.array(box).T
    start = rng.uniform(low + 2, high - 2, (points, 3))
    if name == "brownian":
        return Brownian(start, _DIFFUSION_UM2_S, benchmark.seed, box_um=box)
    if name == "directed":
        way = rng.standard_normal((points, 3)) * np.array([1.0, 1.0, 0.5])
        return Directed(start, way / np.linalg.norm(way, axis=1, keepdims=True) * _SPEED_UM_S, box)
    return vessel(box, points, benchmark.seed, 2 * _SPEED_UM_S)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figures `tracking.png`, `tracking-3d.png`, `tracking-jaccard.png` and `tracking-movies.png`."""
    scored = [row for row in tables["tracking"] if "left_out" not in row]
    simulated = "Simulated localizations in 200 x 200 x 100 µm³ at 100 frames/s; peers tuned for each cell."
    draw_heat(scored, folder / "tracking.png", simulated)
    draw_paths(tables["tracking-paths"], folder / "tracking-3d.png", simulated)
    draw_jaccard(scored, folder / "tracking-jaccard.png", simulated)
    _draw_movies(tables["tracking-movies"], folder / "tracking-movies.png", caption)


def _draw_movies(rows: list[Row], path: Path, caption: str) -> None:
    """Bars for each motion and method, of live tracks."""
    rows = [row for row in rows if row["form"] == "live"]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(4, width=3.0)
    keys = (
        ("track_jaccard_10", "Jaccard index of track points"),
        ("rmse_axial_um", "axial RMSE (µm)"),
        ("jsc_theta", "Jaccard index of tracks"),
        ("idf1", "IDF1"),
    )
    width = 0.8 / max(len(looks), 1)
    for axis, (key, title) in zip(axes[0], keys, strict=True):
        for place, (method, look) in enumerate(looks.items()):
            values = [next(r[key] or 0 for r in rows if r["method"] == method and r["motion"] == m) for m in _MOTIONS]
            at = np.arange(len(_MOTIONS)) + (place - (len(looks) - 1) / 2) * width
            axis.bar(at, values, width, color=look["color"], label=method)
        if key == "track_jaccard_10" and rows:
            axis.axhline(max(row["chance_jaccard"] or 0 for row in rows), label="chance level", **CHANCE)
        axis.set_xticks(range(len(_MOTIONS)), list(_MOTIONS))
        panel(axis, title=title)
    save(figure, axes, path, title="Tracks of moving points in movies", caption=caption)
