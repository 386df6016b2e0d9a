"""Experiment `cells`: cells of 5 µm in a vessel over static autofluorescence, 75 µm/s, 100 frames/s, 1.5 s.

A cell is a cloud of points in an ellipsoid of changing shape and direction.
The published method takes the minimum over time of each pixel away before it
localizes; every method is shown with and without that, and with the static
light removed as in `bathyscope localize` (`models.background`). Methods that use a
calibration are tested with a sweep of beads and with a sweep of cells, because
a calibration should use the objects that are tracked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.methods.registry import needs_model
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, SCMOS_CAMERA, Frames, Photons, expose
from evaluation.optics.hidden_sweep import draw_sweep, sweep_calibration
from evaluation.report.figures import CHANCE, bar_places, new_figure, panel, save, styles
from evaluation.scores.scoring import Row, score_rows
from models.background.frame_light import remove_light
from models.background.static_light import StaticLight
from models.calibration.calibration import Calibration
from models.motion import PulsatileFlow
from models.synthesis import PatternTable

__all__ = ["CellImages", "autofluorescence", "draw", "remove_minimum", "remove_static_light", "run"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_CELLS, _QUICK_CELLS = 15, 6
_FPS, _SECONDS, _QUICK_FRAMES = 100.0, 1.5, 10
_SPEED_UM_S = 75.0
_LIGHT = Photons(3e4, 5.0)
_STRUCTURE_E = 25.0
_DIAMETER_UM = 5.0
_ELONGATION = 1.25
_POINTS = 48
"""Points in a cell: 1.4 µm apart on average, near the resolution of the optics in focus."""

_VESSEL_RADIUS_UM = 12.0

_SHADES = (1.0, 0.5, 0.25)
"""Opacity of the bars of a figure: as they are, minimum removed, static light removed."""


class CellImages:
    """Draws each emitter as a cell; emitters are the centres.

    Rendered from a table of quarter-pixel shifts, whose error is far below
    the extent of a cell.

    Parameters
    ----------
    optics : BenchmarkOptics
    seed : int
        Of the cells' shapes.
    """

    def __init__(self, optics: BenchmarkOptics, seed: int) -> None:
        self._optics = optics
        self._table = PatternTable(optics.psf)
        self._seed = seed

    def render(self, emitters: F64, image: F32) -> None:
        """Add cells (N, 4), centres in µm and photo-electrons, to an image (H, W), in place."""
        points = []
        for index, emitter in enumerate(emitters):
            cloud = _cell(np.random.default_rng([self._seed, index]))
            share = np.full(len(cloud), emitter[3] / len(cloud))
            points.append(np.column_stack([emitter[:3] + cloud, share]))
        self._table.render(self._optics.apparent(np.concatenate(points)), image)


def _cell(rng: np.random.Generator) -> F64:
    """Points in an ellipsoid with the volume of a 5-µm sphere, any direction, shape (48, 3), µm."""
    direction = rng.standard_normal((_POINTS, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = direction * (_DIAMETER_UM / 2 * rng.random(_POINTS) ** (1 / 3))[:, None]
    stretch = _ELONGATION ** rng.uniform(-1, 1, 2)
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    cloud = (inside * np.append(stretch, 1 / stretch.prod())) @ axes.T
    centred: F64 = cloud - cloud.mean(axis=0)
    return centred


def autofluorescence(shape: tuple[int, int], rng: np.random.Generator) -> F32:
    """Static structured light: blurred blotches and fibres, mean 25 photo-electrons per pixel, shape (H, W)."""
    blotches = sum(
        weight * ndimage.gaussian_filter(rng.standard_normal(shape), size) * size
        for size, weight in ((24, 1.0), (8, 0.6), (3, 0.3))
    )
    along = np.linspace(0, 1, 400)
    fibres = np.zeros(shape)
    for _ in range(8):
        ends = rng.random((3, 2)) * shape
        path = (
            np.outer((1 - along) ** 2, ends[0])
            + np.outer(2 * along * (1 - along), ends[1])
            + np.outer(along**2, ends[2])
        )
        row, column = np.clip(path.astype(int), 0, np.array(shape) - 1).T
        np.add.at(fibres, (row, column), rng.uniform(0.3, 1.0))
    fibres = ndimage.gaussian_filter(fibres, 2.0)
    light = np.exp(0.5 * blotches) + 6 * fibres
    even: F32 = (_STRUCTURE_E * light / light.mean()).astype(np.float32)
    return even


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


def _movie(benchmark: Benchmark, images: CellImages) -> Frames:
    """Cells that a vessel carries through the field and the depths."""
    low, high = benchmark.optics.depths_um
    width = FRAME_SHAPE[1] * benchmark.optics.pixel_size_um
    deep = low + (high - low) * np.array([0.25, 0.55, 0.75])
    centreline = np.column_stack([width * np.array([0.05, 0.5, 0.95]), width * np.array([0.3, 0.6, 0.4]), deep])
    cells = _QUICK_CELLS if benchmark.quick else _CELLS
    radius = min(_VESSEL_RADIUS_UM, 0.2 * (high - low))
    # The mean speed over the cross-section is half of that on the centreline (Poiseuille).
    flow = PulsatileFlow(
        centreline, radius, cells, benchmark.seed, peak_um_s=2 * _SPEED_UM_S, beat_hz=2.5, pulsation=0.5
    )
    count = _QUICK_FRAMES if benchmark.quick else round(_SECONDS * _FPS)
    rng = benchmark.rng(5)
    brightness = rng.uniform(0.5, 1.0, cells)
    # The quick movie covers the whole time in few frames: the minimum over time needs cells that have moved on.
    times = np.linspace(0, _SECONDS, count, endpoint=False)
    emitters = [np.column_stack([flow.positions(float(t)), brightness]) for t in times]
    return expose(images, emitters, _LIGHT, FRAME_SHAPE, rng, structure=autofluorescence(FRAME_SHAPE, rng))


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `cells`: every method, with and without background removal, calibrated with beads and with cells."""
    images = CellImages(benchmark.optics, benchmark.seed)
    frames = _movie(benchmark, images)
    forms = {"as they are": frames, "temporal minimum removed": remove_minimum(frames)}
    if not benchmark.quick:  # the few frames of the quick movie have no map
        forms["static light removed"] = remove_static_light(frames)
    method_runs = [(method_run, "beads") for method_run in benchmark.method_runs]
    fits = [method_run for method_run in benchmark.method_runs if not needs_model(method_run.name)]
    if fits and not benchmark.quick:
        calibration = _cell_calibration(benchmark, images)
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
        benchmark.advance((done + 1) / len(method_runs), method_run.label)
    return {"cells": rows}


def _cell_calibration(benchmark: Benchmark, images: CellImages) -> Calibration:
    low, high = benchmark.optics.depths_um
    positions = np.arange(low - 4.0, high + 4.1, 2.0)
    sweep = draw_sweep(images, SCMOS_CAMERA, benchmark.optics.pixel_size_um, z_um=positions, seed=benchmark.seed)
    return sweep_calibration(sweep, SCMOS_CAMERA, z_range_um=(low, high))


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `cells.png`: Jaccard index and errors with and without background removal."""
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
