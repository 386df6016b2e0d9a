"""Experiment `resolution`: how near two equal points may come and still be resolved.

Two points at one depth side by side, or one behind the other, are brought
together. A pair is resolved in a frame with exactly two localizations, each
within d/2 of its own point in 3D. The figure is the smallest distance d on a
geometric grid at which at least half of the frames are resolved, found by
bisection. At each distance frames are added until the share is above or below
one half with confidence, 200 at most. The table also has the share of single
points that are localized twice. The limit is the distance that normal errors
of the size of the joint Cramér-Rao bound allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.optics.frames import SCMOS_CAMERA, Photons, expose
from evaluation.report.figures import BOUND, new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row, localizations_by_frame
from models.metrics import match

__all__ = ["draw", "is_resolved", "run"]

F64 = NDArray[np.float64]

DISTANCES_UM = np.round(np.geomspace(0.25, 32.0, 29), 3)
"""Grid of distances, each 1.19 times the one before."""

_SHAPE = (192, 192)
_BACKGROUND_E = 2.0
_PHOTONS = (1e4, 1e5)
_DEPTHS_UM = tuple(float(depth) for depth in range(10, 100, 10))
_QUICK_PHOTONS = (1e5,)
_FRAMES, _QUICK_FRAMES = 200, 8
_AT_ONCE = 4
"""Frames per call of a method, and the fewest per distance."""

_CERTAIN = 2.5
"""Standard deviations from a half from which no further frame is needed."""

_PARTS = 12
"""Of a method's time for a depth and light: five distances in each direction, and twice as much for single points."""

_LIMIT_FRAMES = 12
_DIRECTIONS = ("lateral", "axial")
_PUBLISHED_UM = {"lateral": 2.0, "axial": 6.0}


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `resolution`: the resolved distance for each direction, light, depth and method, and the false splits."""
    low, high = benchmark.optics.depths_um
    depths = tuple(depth for depth in _DEPTHS_UM if low + 5 <= depth <= high - 5)
    depths = depths[:: max(len(depths) - 1, 1)] if benchmark.quick else depths
    photons = _QUICK_PHOTONS if benchmark.quick else _PHOTONS
    conditions = [(light, depth) for light in photons for depth in depths]
    wanted = _QUICK_FRAMES if benchmark.quick else _FRAMES
    rows: list[Row] = []
    for done, (light, depth) in enumerate(conditions):
        limits = {direction: _limit(benchmark, light, depth, direction) for direction in _DIRECTIONS}
        for method_run in benchmark.method_runs:
            singles, splits, missed = _single_points(benchmark, method_run, light, depth, wanted)
            for direction in _DIRECTIONS:
                pairs = _Pairs(benchmark, method_run, light, depth, direction, wanted)
                distance = _smallest(pairs.share)
                rows.append(
                    {
                        "method": method_run.label,
                        "direction": direction,
                        "photons": light,
                        "background_e": _BACKGROUND_E,
                        "depth_um": depth,
                        "frames": pairs.frames.get(distance or float(DISTANCES_UM[-1])),
                        "single_frames": singles,
                        "resolved_um": distance,
                        "limit_um": limits[direction],
                        "false_splits": splits,
                        "missed": missed,
                    }
                )
            benchmark.advance(
                (done + 1) / len(conditions), f"{light:g} photo-electrons at {depth:g} µm, {method_run.label}"
            )
    return {"resolution": rows}


def is_resolved(localizations: F64, points: F64, distance_um: float) -> bool:
    """Whether there are exactly two localizations (N, 3), each within half the distance of its own point of (2, 3)."""
    if len(localizations) != 2:
        return False
    pairs, _ = match(localizations, points, distance_um / 2)
    return len(pairs) == 2


def _smallest(share_at: Callable[[float], float]) -> float | None:
    """Smallest distance of the grid with a share of at least a half, by bisection; None when there is none."""
    low, high = 0, len(DISTANCES_UM)
    while low < high:
        middle = (low + high) // 2
        if share_at(float(DISTANCES_UM[middle])) >= 0.5:
            high = middle
        else:
            low = middle + 1
    return float(DISTANCES_UM[low]) if low < len(DISTANCES_UM) else None


def _pairs(benchmark: Benchmark, light: float, depth: float, direction: str, distance: float, count: int) -> list[F64]:
    rng = _rng(benchmark, light, depth, _DIRECTIONS.index(direction), round(1000 * distance))
    return [_pair(rng, benchmark.optics.pixel_size_um, depth, direction, distance) for _ in range(count)]


def _pair(rng: np.random.Generator, pixel_um: float, depth: float, direction: str, distance: float) -> F64:
    """Two points around the middle of the frame, at any place within a pixel and, laterally, in any direction."""
    centre = np.array([_SHAPE[1] / 2, _SHAPE[0] / 2]) + rng.uniform(-0.5, 0.5, 2)
    middle = np.append(centre * pixel_um, depth)
    turn = rng.uniform(0, np.pi)
    way = np.array([np.cos(turn), np.sin(turn), 0.0]) if direction == "lateral" else np.array([0.0, 0.0, 1.0])
    places = middle + np.outer([-0.5, 0.5], way) * distance
    # Both stay on the side of focus of the depth range.
    places[:, 2] += max(0.0, 0.5 - places[:, 2].min())
    return np.column_stack([places, np.ones(2)])


@dataclass
class _Pairs:
    """How often a method resolves pairs of one light, depth and direction."""

    benchmark: Benchmark
    method_run: MethodRun
    light: float
    depth: float
    direction: str
    wanted: int
    frames: dict[float, int] = field(default_factory=dict)

    def share(self, distance: float) -> float:
        """Share of frames in which a pair `distance` µm apart is resolved; `frames` keeps how many were used."""
        points = _pairs(self.benchmark, self.light, self.depth, self.direction, distance, self.wanted)
        rng = _rng(self.benchmark, self.light, self.depth, 7, round(1000 * distance))
        begun, done, resolved = self.method_run.seconds, 0, 0
        while done < self.wanted:
            shown = points[done : done + _AT_ONCE]
            for found, pair in zip(
                _localizations(self.benchmark, self.method_run, shown, self.light, rng), shown, strict=True
            ):
                resolved += is_resolved(found, pair[:, :3], distance)
            done += len(shown)
            spent = self.method_run.seconds - begun
            if spent * (1 + _AT_ONCE / done) > self.benchmark.seconds / _PARTS:
                break
            if abs(2 * resolved - done) > _CERTAIN * np.sqrt(done):
                break
        self.frames[distance] = done
        return resolved / done


def _single_points(
    benchmark: Benchmark, method_run: MethodRun, light: float, depth: float, wanted: int
) -> tuple[int, float, float]:
    """Number of frames of one point, and the shares of them with several localizations and with none."""
    points = [each[:1] for each in _pairs(benchmark, light, depth, "lateral", 0.0, wanted)]
    rng = _rng(benchmark, light, depth, 9)
    begun = method_run.seconds
    counts: list[int] = []
    while len(counts) < wanted:
        shown = points[len(counts) : len(counts) + _AT_ONCE]
        counts += [len(each) for each in _localizations(benchmark, method_run, shown, light, rng)]
        spent = method_run.seconds - begun
        if spent * (1 + _AT_ONCE / len(counts)) > 2 * benchmark.seconds / _PARTS:
            break
    number = np.array(counts)
    return len(number), float((number > 1).mean()), float((number == 0).mean())


def _localizations(
    benchmark: Benchmark, method_run: MethodRun, points: list[F64], light: float, rng: np.random.Generator
) -> list[F64]:
    """Localizations in each frame of such points."""
    frames = expose(benchmark.optics, points, Photons(light, _BACKGROUND_E), _SHAPE, rng)
    return localizations_by_frame(method_run.localizations(frames), len(frames))


def _limit(benchmark: Benchmark, light: float, depth: float, direction: str) -> float | None:
    """Smallest distance at which errors as large as the bounds keep both points within half of it, half the time."""
    noise = _rng(benchmark, light, depth, 11).standard_normal((400, 2, 3))

    def share(distance: float) -> float:
        kept = []
        for pair in _pairs(benchmark, light, depth, direction, distance, _LIMIT_FRAMES):
            emitters = pair * np.array([1.0, 1.0, 1.0, light])
            apparent = benchmark.optics.apparent(emitters)
            bounds = benchmark.optics.limits.of_frame(apparent, _BACKGROUND_E, SCMOS_CAMERA.read_noise_e, _SHAPE)
            error = np.sqrt(((noise * bounds.sigma[None, :, :3]) ** 2).sum(axis=2))
            kept.append((error < distance / 2).all(axis=1).mean())
        return float(np.mean(kept))

    return _smallest(share)


def _rng(benchmark: Benchmark, light: float, depth: float, *words: int) -> np.random.Generator:
    return benchmark.rng(1, round(light), round(depth), *words)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `resolution.png`: resolved distance over depth for each direction and light; false splits."""
    rows = tables["resolution"]
    looks = styles(row["method"] for row in rows)
    lights = sorted({row["photons"] for row in rows})
    figure, axes = new_figure(len(lights) + 1, 2)
    depths = [row["depth_um"] for row in rows]
    unresolved = [row | {"top_um": 36.0} for row in rows if row["resolved_um"] is None]
    for line, direction in enumerate(_DIRECTIONS):
        for axis, light in zip(axes[line], lights, strict=False):
            for method, look in looks.items():
                axis.plot(
                    *series(rows, "depth_um", "resolved_um", method=method, direction=direction, photons=light), **look
                )
                where = {"method": method, "direction": direction, "photons": light}
                lost, at_top = series(unresolved, "depth_um", "top_um", **where)
                axis.plot(lost, at_top, **(look | {"linestyle": "", "marker": 6, "label": None}))
            first = rows[0]["method"]
            limit = series(rows, "depth_um", "limit_um", method=first, direction=direction, photons=light)
            axis.plot(*limit, label="Cramér-Rao limit", **BOUND)
            axis.axhline(_PUBLISHED_UM[direction], color="#D55E00", linewidth=0.9, alpha=0.6, label="published figure")
            axis.set_yscale("log")
            axis.set_ylim(0.2, 40)
            axis.set_yticks([0.25, 0.5, 1, 2, 4, 8, 16, 32], ["0.25", "0.5", "1", "2", "4", "8", "16", "32"])
            axis.set_yticks([], minor=True)
            panel(
                axis,
                title=f"{direction}, {light:,.0f} e⁻ each",
                x="depth (µm)",
                y="resolved distance (µm)",
            )
    for axis in axes.flat:
        axis.set_xticks(sorted(set(depths)))
    for axis, key, title in zip(
        axes[:, -1], ("false_splits", "missed"), ("one point localized twice", "one point not found"), strict=True
    ):
        for method, look in looks.items():
            axis.plot(*series(rows, "depth_um", key, method=method, direction="lateral", photons=lights[-1]), **look)
        panel(axis, title=f"{title}, {lights[-1]:,.0f} e⁻", x="depth (µm)", y="share of frames", ylim=(-0.02, 1.02))
    save(figure, axes, folder / "resolution.png", title="Two equal points (arrow: not resolved)", caption=caption)
