"""Experiment `isolated`: one emitter in a frame, its errors over the Cramér-Rao bound and over its own sigmas.

Isolated emitters show best whether a method reaches the bound. The emitter is
in the middle of the frame, so that its whole pattern is in the frame at every
depth. Both forms of light, five slices of depth; see `over_bound` for the
pairing and the ratios. The ratio of error to the method's own sigma is 1 for
correct sigmas and larger for sigmas that are too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.conditions import light_columns, light_text
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, Frames, Light, Photons, Snr, expose
from evaluation.report.figures import BOUND, Style, error_axis, new_figure, panel, save, series, styles
from evaluation.scores.over_bound import isolated_errors
from evaluation.scores.scoring import Row

__all__ = ["SLICES_UM", "draw", "isolated_frames", "run"]

SLICES_UM = ((3.0, 10.0), (10.0, 25.0), (25.0, 50.0), (50.0, 75.0), (75.0, 97.0))
"""Narrow where the pattern changes fast."""

_QUICK_SLICES_UM = ((3.0, 10.0), (10.0, 22.0))
_LIGHTS: tuple[Light, ...] = (
    *(Snr(db) for db in (10.0, 20.0, 30.0)),
    *(Photons(photons, background) for background in (2.0, 50.0) for photons in (3e3, 1e4, 1e5)),
)
_QUICK_LIGHTS: tuple[Light, ...] = (Snr(20.0), Photons(1e4, 2.0))
_FRAMES, _QUICK_FRAMES = 100, 6
_BESIDE_MIDDLE_UM = 5.0
"""Largest distance from the middle of the frame in x and in y: several pixels, so all sub-pixel places occur."""

_SIGMA_RATIO = (0.8, 1.25)
"""Target range of the standard deviation of error over sigma."""


def isolated_frames(
    optics: BenchmarkOptics,
    depths_um: tuple[float, float],
    light: Light,
    count: int,
    rng: np.random.Generator,
    shape: tuple[int, int] = FRAME_SHAPE,
) -> Frames:
    """Frames of `shape` (H, W) with one emitter each, near the middle and uniform in depth."""
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2 * optics.pixel_size_um
    xy = middle + rng.uniform(-_BESIDE_MIDDLE_UM, _BESIDE_MIDDLE_UM, (count, 2))
    emitters = np.column_stack([xy, rng.uniform(*depths_um, count), np.ones(count)])
    return expose(optics, list(emitters[:, None]), light, shape, rng)


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `isolated`; one row for each light, slice of depth and method."""
    rows: list[Row] = []
    lights = _QUICK_LIGHTS if benchmark.quick else _LIGHTS
    slices = [
        each
        for each in (_QUICK_SLICES_UM if benchmark.quick else SLICES_UM)
        if each[1] <= benchmark.optics.depths_um[1]
    ]
    conditions = [(light, depths) for light in lights for depths in slices]
    for done, (light, depths) in enumerate(conditions):
        words = (round(10 * light.db),) if isinstance(light, Snr) else (round(light.mean), round(light.background_e))
        rng = benchmark.rng(13, round(depths[0]), *words)
        frames = isolated_frames(benchmark.optics, depths, light, _QUICK_FRAMES if benchmark.quick else _FRAMES, rng)
        bounds = benchmark.optics.bounds(frames)
        for method_run in benchmark.method_runs:
            used_frames, found = benchmark.localizations(method_run, frames)
            errors = isolated_errors(found, used_frames, bounds)
            rows.append(
                {"method": method_run.label}
                | light_columns(light)
                | {"depth_um": sum(depths) / 2, "from_um": depths[0], "to_um": depths[1], "frames": errors.frames}
                | errors.columns()
                | {"median_photons": round(used_frames.median_photons, 1)}
            )
        what = f"{light_text(light)}, {depths[0]:g} to {depths[1]:g} µm, {method_run.label}"
        benchmark.advance((done + 1) / len(conditions), what)
    return {"isolated": rows}


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figures `isolated.png` (published light: errors over bound and sigma) and `isolated-physical.png`."""
    rows = tables["isolated"]
    levels = sorted({row["snr_db"] for row in rows if row["form"] == "published"})
    figure, axes = new_figure(len(levels), 3, sharey="row", sharex=True)
    looks = styles(row["method"] for row in rows)
    for column, db in zip(axes.T, levels, strict=True):
        where = {"form": "published", "snr_db": db}
        for axis, kind in zip(column, ("axial", "lateral"), strict=False):
            _ratios(axis, rows, looks, f"{kind}_over_bound", where)
            panel(axis, title=f"{kind} error over its bound, {db:g} dB")
        _sigmas(column[2], rows, looks, where)
        panel(column[2], title=f"axial error over its own sigma, {db:g} dB", x="depth (µm)")
    _name_ordinates(axes, ("error over bound", "error over bound", "standard deviation"))
    title = "Isolated emitters: errors over the bound, and errors over the reported sigmas"
    save(figure, axes, folder / "isolated.png", title=title, caption=caption)
    _draw_physical([row for row in rows if row["form"] == "physical"], looks, folder, caption)


def _draw_physical(rows: list[Row], looks: dict[str, Style], folder: Path, caption: str) -> None:
    levels = sorted({row["photons"] for row in rows})
    backgrounds = sorted({row["background_e"] for row in rows})
    figure, axes = new_figure(len(levels), 2 * len(backgrounds), sharey=True, sharex=True)
    for pair, background in enumerate(backgrounds):
        for column, photons in zip(axes.T, levels, strict=True):
            where = {"photons": photons, "background_e": background}
            for axis, kind in zip(column[2 * pair :], ("axial", "lateral"), strict=False):
                _ratios(axis, rows, looks, f"{kind}_over_bound", where)
                panel(axis, title=f"{kind}, {photons:,.0f} e⁻ on {background:g} e⁻/px")
    for axis in axes[-1]:
        axis.set_xlabel("depth (µm)")
    _name_ordinates(axes, ("error over bound",) * len(axes))
    title = "One emitter alone, sCMOS camera: errors over the bound"
    save(figure, axes, folder / "isolated-physical.png", title=title, caption=caption)


def _name_ordinates(axes: Any, names: Sequence[str]) -> None:
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name)


def _ratios(axis: Any, rows: list[Row], looks: dict[str, Style], key: str, where: Row) -> None:
    for method, look in looks.items():
        axis.plot(*series(rows, "depth_um", key, method=method, **where), **look)
    axis.axhline(1.0, label="Cramér-Rao bound", **BOUND)
    error_axis(axis)


def _sigmas(axis: Any, rows: list[Row], looks: dict[str, Style], where: Row) -> None:
    """Standard deviations, thin where outliers count and full from the median; the band is the target."""
    axis.axhspan(*_SIGMA_RATIO, color="0.92", zorder=0, label="target")
    for method, look in looks.items():
        axis.plot(*series(rows, "depth_um", "axial_over_sigma_median", method=method, **where), **look)
        thin = look | {"linewidth": 0.7, "marker": "", "label": None, "alpha": 0.7}
        axis.plot(*series(rows, "depth_um", "axial_over_sigma", method=method, **where), **thin)
    error_axis(axis)
