"""Experiment `cells`: cells of 5 µm in a vessel over static autofluorescence, 75 µm/s, 100 frames/s, 1.5 s.

A cell is a cloud of points in an ellipsoid of changing shape and direction.
The published method takes the minimum over time of each pixel away before it
localizes; every method is shown with and without that, and with the static
light removed as in `bathyscope localize` (`models.background`). Methods that use a
calibration are tested with a sweep of beads and with a sweep of cells, because
a calibration should use the objects that are tracked.

Table `cells`: localizations of all methods in the middle scene. Table
`cells-tracks`: the image filter in all scenes, with the pattern of beads, of
spheres of the cells' size computed from beads, and of cells; its flow in the
vessel; and ideal detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.cell_scenes import QUICK_SCENES, SCENES, CellImages, CellMovie, cell_movie
from evaluation.experiments.cell_tracks import limit_row, patterns, track_cells
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import SCMOS_CAMERA, Frames
from evaluation.optics.hidden_sweep import draw_sweep, sweep_calibration
from evaluation.report.figures import CHANCE, LIMIT, bar_places, new_figure, panel, save, styles
from evaluation.scores.scoring import Row, score_rows
from models.background.frame_light import remove_light
from models.background.static_light import StaticLight
from models.calibration.calibration import Calibration
from models.localization import Localizer
from models.weights import reference_model

__all__ = ["draw", "remove_minimum", "remove_static_light", "run"]

_COMPARED = "as it is"
"""Scene in which all methods are compared."""
_NETWORK = "cascade"

_SHADES = (1.0, 0.5, 0.25)
"""Opacity of the bars of a figure: as they are, minimum removed, static light removed."""


def remove_minimum(frames: Frames) -> Frames:
    """Each pixel less its minimum over time, the camera's offset kept: the published background removal."""
    offset = round(frames.camera.offset_adu)
    counts = frames.counts - frames.counts.min(axis=0) + np.uint16(offset)
    return replace(frames, counts=counts)


def remove_static_light(frames: Frames) -> Frames:
    """Each frame without the light that stands still, as `localize --static-light on` gives it to a network."""
    light = StaticLight(frames.camera, lambda _: 0.0, "on")
    light.begin_with(frames.counts, len(frames))
    return replace(frames, counts=remove_light(frames.counts, light.follow(frames.counts)))


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `cells` and `cells-tracks`."""
    images = CellImages(benchmark.optics, benchmark.seed)
    chosen = QUICK_SCENES if benchmark.quick else SCENES
    movies = [
        # The scene in which all methods are compared keeps its seed.
        cell_movie(
            benchmark.optics,
            images,
            scene,
            benchmark.rng(5) if scene.name == _COMPARED else benchmark.rng(5, scene.cells),
            benchmark.seed,
            quick=benchmark.quick,
        )
        for scene in chosen
    ]
    fits = [method_run for method_run in benchmark.method_runs if not needs_model(method_run.name)]
    calibration = None
    if not benchmark.quick:
        calibration = _cell_calibration(benchmark, images)
    tracked = _tracked(benchmark, movies, calibration)
    compared = next(movie for movie in movies if movie.scene.name == _COMPARED)
    return {"cells": _compared(benchmark, compared.frames, fits, calibration), "cells-tracks": tracked}


def _tracked(benchmark: Benchmark, movies: Sequence[CellMovie], calibration: Calibration | None) -> list[Row]:
    """The image filter, with the network of each cascade that takes part."""
    rows: list[Row] = []
    networks = [each for each in benchmark.method_runs if each.name == _NETWORK]
    for done, movie in enumerate(movies):
        rows.append(limit_row(benchmark.optics, movie))
        for network in networks:
            folder = network.model_folder or reference_model("full")
            localizer = Localizer.load(folder, camera=movie.frames.camera)
            cells = None if calibration is None else calibration.psf
            for calibrated_with, psf in patterns(localizer, cells):
                rows += track_cells(movie, localizer, psf, calibrated_with).rows
                benchmark.advance(0.6 * (done + 0.9) / len(movies), f"{movie.scene.name}, {calibrated_with}")
    return rows


def _compared(
    benchmark: Benchmark, frames: Frames, fits: Sequence[MethodRun], calibration: Calibration | None
) -> list[Row]:
    """Localizations of every method, with and without background removal, calibrated with beads and with cells."""
    forms = {"as they are": frames, "temporal minimum removed": remove_minimum(frames)}
    if not benchmark.quick:  # the few frames of the quick movie have no map
        forms["static light removed"] = remove_static_light(frames)
    method_runs = [(method_run, "beads") for method_run in benchmark.method_runs]
    if calibration is not None:
        for method_run in fits:
            label = f"{method_run.label} (cell sweep)"
            made = MethodRun(
                label, method_run.name, calibration, "cells", threshold=method_run.threshold, kept=benchmark.kept
            )
            method_runs.append((made, "cells"))
    rows: list[Row] = []
    for done, (method_run, calibrated) in enumerate(method_runs):
        for name, movie in forms.items():
            used_frames, found = benchmark.localizations(method_run, movie)
            columns = {"method": method_run.label, "calibrated_with": calibrated, "frames_are": name}
            rows += score_rows(found, used_frames, columns)
        benchmark.advance(0.6 + 0.4 * (done + 1) / len(method_runs), method_run.label)
    return rows


def _cell_calibration(benchmark: Benchmark, images: CellImages) -> Calibration:
    low, high = benchmark.optics.depths_um
    positions = np.arange(low - 4.0, high + 4.1, 2.0)
    sweep = draw_sweep(images, SCMOS_CAMERA, benchmark.optics.pixel_size_um, z_um=positions, seed=benchmark.seed)
    return sweep_calibration(sweep, SCMOS_CAMERA, z_range_um=(low, high))


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figures `cells.png` (all methods, with and without background removal) and `cells-tracks.png`."""
    if tables["cells-tracks"]:
        _draw_tracks(tables["cells-tracks"], folder, caption)
    rows = [row for row in tables["cells"] if row["tolerance_um"] == 10.0]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(3, height=1.0 + 0.42 * len(looks))
    keys = (
        ("jaccard", "Jaccard index within 10 µm"),
        ("rmse_lateral_um", "lateral RMSE (µm)"),
        ("rmse_axial_um", "axial RMSE (µm)"),
    )
    for axis, (key, title) in zip(axes[0], keys, strict=True):
        for place, (method, look) in enumerate(looks.items()):
            mine = [row for row in rows if row["method"] == method]
            height = 0.74 / len(mine)
            for rank, row in enumerate(mine):
                value = row[key] or 0.0
                middle = place + (rank - (len(mine) - 1) / 2) * height
                axis.barh(middle, value, height=0.95 * height, color=look["color"], alpha=_SHADES[rank])
                axis.annotate(
                    f"{value:.2f}",
                    (value, middle),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    size=7,
                )
        if key == "jaccard":
            axis.axvline(max(row["chance_jaccard"] or 0 for row in rows), label="chance level", **CHANCE)
        bar_places(axis, list(looks), named=axis is axes[0, 0])
        panel(axis, title=title)
        axis.margins(x=0.15)
    title = (
        "Cells over autofluorescence (full: frames as they are, pale: minimum removed, palest: static light removed)"
    )
    save(figure, axes, folder / "cells.png", title=title, caption=caption)


def _draw_tracks(rows: Sequence[Row], folder: Path, caption: str) -> None:
    """Figure `cells-tracks.png`: Jaccard index of localizations and tracks by scene, with the ideal detectors."""
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    forms = ("localizations", "tracks")
    figure, axes = new_figure(len(forms), height=3.2)
    for axis, form in zip(axes[0], forms, strict=True):
        mine = [row for row in rows if row["form"] == form]
        looks = styles(row["calibrated_with"] for row in mine)
        width = 0.8 / max(len(looks), 1)
        for rank, (name, look) in enumerate(looks.items()):
            values = {row["scene"]: row["jaccard"] or 0.0 for row in mine if row["calibrated_with"] == name}
            places = [scenes.index(scene) + (rank - (len(looks) - 1) / 2) * width for scene in values]
            axis.bar(places, list(values.values()), width=0.92 * width, color=look["color"], label=name)
            for place, value in zip(places, values.values(), strict=True):
                text = f"{value:.2f}"
                axis.annotate(text, (place, 0.02), ha="center", va="bottom", rotation=90, size=8, color="white")
        for row in (row for row in rows if row["form"] == "limit"):
            middle = scenes.index(row["scene"])
            for key, dash in (("jaccard", ":"), ("jaccard_10", "--")):
                if row.get(key) is not None:
                    axis.plot(
                        [middle - 0.45, middle + 0.45], [row[key]] * 2, **LIMIT | {"linestyle": dash, "label": None}
                    )
        axis.set_xticks(range(len(scenes)), scenes)
        axis.set_ylim(0, 1.1)
        panel(axis, title=f"{form}: Jaccard index within 10 µm")
    title = "Cells by calibration (dotted: ideal detector of one frame; dashed: of ten)"
    save(figure, axes, folder / "cells-tracks.png", title=title, caption=caption)
