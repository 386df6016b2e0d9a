"""Experiment `ghosts`: false localizations of emitters outside the range or at negative defocus.

Samples have emitters at negative defocus, deeper than the range, and beside the
frame, whose light reaches into it. They must not be localized: a localization
with a depth in the range is a ghost and causes false tracks. Frames have eight
emitters that must be found, four at negative defocus (-3 to -20 µm), two up to
20 µm beyond the range, and two up to 15 µm beside the frame.

Definition of a ghost. Localizations at the tuned threshold are paired with the
emitters that must be found, as everywhere (10 µm in 3D, most pairs, then the
least total distance). A localization that is left over, and is within 10 µm
laterally of an emitter that must not be found, is a ghost of the nearest of
these. One exception: a localization within 10 µm in 3D of an emitter beyond
the range or beside the frame is correct and counts as placed. At negative
defocus there is no exception, however near to focus: the sign is wrong.
`chance_ghosts` is the number that the density of the method's other false
localizations predicts by chance.

Without aberrations the PSF is symmetric about focus and the sides cannot be
distinguished, so the optics are always the hidden ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.conditions import light_columns, light_text
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, Box, Frames, Light, Photons, Snr, expose, uniform_emitters
from evaluation.report.figures import CHANCE, Style, bar_places, new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row, localizations_by_frame, score_rows
from models.metrics import TOLERANCE_UM, Region, match

__all__ = ["FARTHER_UM", "NEAREST_UM", "GhostCount", "count_ghosts", "draw", "run"]

F64 = NDArray[np.float64]

FARTHER_UM = 20.0
"""Largest distance of emitters beyond the range, and of those at negative defocus from focus."""

NEAREST_UM = 3.0
"""Nearer to focus no pattern has information on its side; no emitters are drawn there."""

_BESIDE_UM = (1.0, 15.0)
"""Distance of the emitters beside the frame from its edge."""

_COUNTED, _WRONG, _BEYOND, _BESIDE = 8, 4, 2, 2
_LIGHTS: tuple[Light, ...] = (Snr(20.0), Photons(1e4, 5.0), Photons(1e5, 5.0))
_QUICK_LIGHTS: tuple[Light, ...] = (Photons(3e4, 5.0),)
_FRAMES, _QUICK_FRAMES = 100, 6
_ASKED = 0.1
"""Largest number of ghosts for each emitter at negative defocus."""

_KINDS: dict[str, tuple[float, ...]] = {
    "wrong side": (3.0, 6.0, 10.0, 15.0, 20.0),
    "beyond": (0.0, 10.0, 20.0),
    "beside": (1.0, 5.0, 15.0),
}
"""Edges of the bins: distance from focus, from the end of the range, and from the edge of the frame, µm."""

_GRID = 40
"""Grid points along a side, for the area that is not near an emitter that must not be found."""


@dataclass(frozen=True, slots=True)
class GhostCount:
    """Ghosts in a frame of the emitters that must not be found.

    Attributes
    ----------
    ghosts : ndarray of int64, shape (K,)
        Of each emitter; those that may be placed come first.
    placed : ndarray of bool, shape (K,)
        Whether it was localized at its true position.
    others : ndarray of float64, shape (E, 3)
        False localizations that are near none of them, µm.
    """

    ghosts: NDArray[np.int64]
    placed: NDArray[np.bool_]
    others: F64


def count_ghosts(localizations_um: F64, counted_um: F64, placeable_um: F64, wrong_um: F64) -> GhostCount:
    """Apply the rule of this module to one frame.

    Parameters
    ----------
    localizations_um : ndarray of float64, shape (N, 3)
    counted_um : ndarray of float64, shape (M, 3)
        Emitters that must be found.
    placeable_um : ndarray of float64, shape (P, 3)
        Emitters beyond the range or beside the frame.
    wrong_um : ndarray of float64, shape (W, 3)
        Emitters at negative defocus.

    Returns
    -------
    GhostCount
        Of K = P + W emitters, in this order.
    """
    left = np.delete(localizations_um, match(localizations_um, counted_um)[0], axis=0)
    true, of = match(left, placeable_um)
    left = np.delete(left, true, axis=0)
    unwanted = np.concatenate([placeable_um, wrong_um])
    placed = np.zeros(len(unwanted), bool)
    placed[of] = True
    ghosts = np.zeros(len(unwanted), np.int64)
    if len(unwanted) == 0 or len(left) == 0:
        return GhostCount(ghosts, placed, left)
    apart = _lateral(left, unwanted)
    near = apart.min(axis=1) <= TOLERANCE_UM
    np.add.at(ghosts, apart.argmin(axis=1)[near], 1)
    return GhostCount(ghosts, placed, left[~near])


def _lateral(a: F64, b: F64) -> F64:
    distance: F64 = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    return distance


@dataclass(frozen=True, slots=True)
class _Scenes:
    """Frames and all that is in them: the truth of the frames is what must be found, then what may be placed."""

    frames: Frames
    wrong: tuple[F64, ...]
    region: Region
    box: Box


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `ghosts` (per kind of emitter and distance) and `ghosts-scores` (of the emitters that must be found)."""
    ghosts: list[Row] = []
    scores: list[Row] = []
    optics = benchmark.optics.reaching(FARTHER_UM)
    lights = _QUICK_LIGHTS if benchmark.quick else _LIGHTS
    for done, light in enumerate(lights):
        scenes = _scenes(benchmark, optics, light)
        for method_run in benchmark.method_runs:
            used_frames, found = benchmark.localizations(method_run, scenes.frames)
            columns = {"method": method_run.label} | light_columns(light)
            counts = [
                count_ghosts(localizations, *_split_by_region(each[:, :3], scenes.region), wrong[:, :3])
                for localizations, each, wrong in zip(
                    localizations_by_frame(found, len(used_frames)), used_frames.emitters, scenes.wrong, strict=False
                )
            ]
            ghosts += _rows(columns | {"frames": len(used_frames)}, counts, used_frames, scenes)
            scores += score_rows(found, used_frames, columns, scenes.region)
            benchmark.advance((done + 1) / len(lights), f"{light_text(light)}, {method_run.label}")
    return {"ghosts": ghosts, "ghosts-scores": scores}


def _scenes(benchmark: Benchmark, optics: BenchmarkOptics, light: Light) -> _Scenes:
    words = (round(10 * light.db),) if isinstance(light, Snr) else (round(light.mean), round(light.background_e))
    rng = benchmark.rng(14, *words)
    across, down, (low, high) = benchmark.box(FRAME_SHAPE)
    edge = 0.5 * optics.pixel_size_um
    right, bottom = (size * optics.pixel_size_um - edge for size in FRAME_SHAPE[::-1])
    region = Region((-edge, right), (-edge, bottom), (low + NEAREST_UM, high))
    truth, wrong, drawn = [], [], []
    for _ in range(_QUICK_FRAMES if benchmark.quick else _FRAMES):
        counted = uniform_emitters(rng, _COUNTED, (across, down, region.z_um))
        beyond = uniform_emitters(rng, _BEYOND, (across, down, (high, high + FARTHER_UM)))
        beside = _move_out(uniform_emitters(rng, _BESIDE, (region.x_um, region.y_um, region.z_um)), region, rng)
        other_side = uniform_emitters(rng, _WRONG, (across, down, (low - FARTHER_UM, low - NEAREST_UM)))
        truth.append(np.concatenate([counted, beyond, beside]))
        wrong.append(other_side)
        drawn.append(np.concatenate([truth[-1], other_side]))
    frames = expose(optics, truth, light, FRAME_SHAPE, rng, drawn=drawn)
    return _Scenes(frames, tuple(wrong), region, (across, down, (low, high)))


def _move_out(emitters: F64, region: Region, rng: np.random.Generator) -> F64:
    """Emitters moved to beside one of the four edges, each as likely."""
    moved = emitters.copy()
    for row in range(len(moved)):
        axis, side = rng.integers(2), rng.integers(2)
        distance = rng.uniform(*_BESIDE_UM)
        moved[row, axis] = (region.x_um, region.y_um)[axis][side] + (distance if side else -distance)
    return moved


def _split_by_region(truth_um: F64, region: Region) -> tuple[F64, F64]:
    """Emitters that must be found, and those that may be placed."""
    inside = region.contains(truth_um)
    return truth_um[inside], truth_um[~inside]


def _rows(columns: Row, counts: Sequence[GhostCount], used_frames: Frames, scenes: _Scenes) -> list[Row]:
    """One row for each kind of emitter and bin, and one for each kind as a whole."""
    unwanted = [
        np.concatenate([_split_by_region(each[:, :3], scenes.region)[1], wrong[:, :3]])
        for each, wrong in zip(used_frames.emitters, scenes.wrong, strict=False)
    ]
    places = np.concatenate(unwanted)
    ghosts = np.concatenate([count.ghosts for count in counts])
    placed = np.concatenate([count.placed for count in counts])
    chance = _chance(counts, unwanted, scenes.box)
    kinds, distances = _kinds(places, scenes)
    rows = []
    for kind, edges in _KINDS.items():
        whole = (edges[0], edges[-1])
        for low, high in [whole, *pairwise(edges)]:
            chosen = (kinds == kind) & (distances >= low) & (distances < high)
            count = int(chosen.sum())
            rows.append(
                columns
                | {"kind": kind, "whole": (low, high) == whole, "distance_um": (low + high) / 2}
                | {"from_um": low, "to_um": high, "emitters": count}
                | {
                    "ghosts": float(ghosts[chosen].mean()) if count else None,
                    "ghosts_error": float(np.sqrt(max(ghosts[chosen].sum(), 1))) / count if count else None,
                    "placed": float(placed[chosen].mean()) if count else None,
                    "chance_ghosts": chance if kind != "beside" else None,
                }
            )
    return rows


def _kinds(places_um: F64, scenes: _Scenes) -> tuple[NDArray[np.str_], F64]:
    """Kind of each emitter that must not be found, and its distance from the range, focus or frame, µm."""
    low, high = scenes.box[2]
    region = scenes.region
    edges = (region.x_um, region.y_um)
    beside = np.max(
        [
            side
            for axis, (first, last) in enumerate(edges)
            for side in (first - places_um[:, axis], places_um[:, axis] - last)
        ],
        axis=0,
    )
    depth = places_um[:, 2]
    kinds = np.where(depth < low, "wrong side", np.where(depth > high, "beyond", "beside"))
    distances: F64 = np.where(depth < low, low - depth, np.where(depth > high, depth - high, beside))
    return kinds, distances


def _chance(counts: Sequence[GhostCount], unwanted: Sequence[F64], box: Box) -> float | None:
    """Expected other false localizations laterally within the tolerance, from their density in the free area."""
    (left, right), (top, bottom), _ = box
    x, y = np.meshgrid(np.linspace(left, right, _GRID), np.linspace(top, bottom, _GRID))
    grid = np.column_stack([x.ravel(), y.ravel()])
    free = sum(float((_lateral(grid, each).min(axis=1) > TOLERANCE_UM).mean()) for each in unwanted)
    others = np.concatenate([count.others for count in counts])
    inside = Region((left, right), (top, bottom)).contains(others)
    area = free * (right - left) * (bottom - top)
    return float(inside.sum() / area * np.pi * TOLERANCE_UM**2) if area else None


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `ghosts.png`: ghosts for each emitter by kind and distance, and J of the emitters that must be found."""
    rows, scores = tables["ghosts"], tables["ghosts-scores"]
    looks = styles(row["method"] for row in rows)
    lights = list(dict.fromkeys(_light_of(row) for row in rows))
    figure, axes = new_figure(len(_KINDS) + 1, len(lights), sharey="col", height=2.8)
    for line, light in zip(axes, lights, strict=True):
        mine = [row for row in rows if _light_of(row) == light and not row["whole"]]
        title = f"{light[0]:g} dB" if light[0] is not None else f"{light[1]:,.0f} e⁻ on {light[2]:g} e⁻/px"
        for axis, (kind, x) in zip(
            line,
            (
                ("wrong side", "distance from focus (µm)"),
                ("beyond", "distance from the end of the range (µm)"),
                ("beside", "distance from the frame (µm)"),
            ),
            strict=False,
        ):
            _ghost_lines(axis, [row for row in mine if row["kind"] == kind], looks)
            panel(axis, title=f"{kind}, {title}", x=x)
        line[0].set_ylabel("ghosts per emitter")
        found = [row for row in scores if _light_of(row) == light and row["tolerance_um"] == TOLERANCE_UM]
        for place, row in enumerate(found):
            line[-1].barh(place, row["jaccard"] or 0.0, color=looks[row["method"]]["color"], height=0.6)
        bar_places(line[-1], [row["method"] for row in found])
        panel(line[-1], title=f"right side, {title}", x="Jaccard index, 10 µm", xlim=(0, 1.02))
    for axis in axes[0, :-1]:
        # Last, for it ends the scaling of the whole column.
        axis.set_ylim(bottom=-0.02)
    title = "Localizations of emitters that must not be found"
    save(figure, axes, folder / "ghosts.png", title=title, caption=caption)


def _light_of(row: Row) -> tuple[float | None, float | None, float | None]:
    return row["snr_db"], row["photons"], row["background_e"] if row["photons"] is not None else None


def _ghost_lines(axis: Any, rows: list[Row], looks: dict[str, Style]) -> None:
    for method, look in looks.items():
        heights = series(rows, "distance_um", "ghosts", method=method)
        axis.plot(*heights, **look)
        errors = series(rows, "distance_um", "ghosts_error", method=method)[1]
        axis.errorbar(*heights, errors, fmt="none", ecolor=look["color"], elinewidth=0.9, alpha=0.7)
        axis.plot(
            *series(rows, "distance_um", "chance_ghosts", method=method),
            color=look["color"],
            linestyle=":",
            linewidth=0.9,
        )
    axis.plot([], [], label="other false localizations", **CHANCE)
    axis.axhline(_ASKED, color="0.8", linewidth=1)
