"""Experiment `depth`: beads in 200 x 200 x 100 µm³, scored slice by slice.

Two forms. With the true places: Jaccard index, recall and errors in slices of
10 µm, and the range of depth with a recall of at least 0.9. And in the form
of an experiment, where the true positions are unknown: a focal stack of the
same volume is deconvolved (Richardson and Lucy, scikit-image), the maxima of
the result are taken as truth, and methods get the single frame with the focus
at the bottom. The focal stack is simulated like the frames; the table states
how far its truth is from the real one.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.focal_stack import retrieved_truth
from evaluation.optics.frames import Frames, Photons, expose, uniform_emitters
from evaluation.report.figures import (
    BOUND,
    CHANCE,
    LIMIT,
    Style,
    bar_places,
    error_axis,
    new_figure,
    panel,
    save,
    series,
    styles,
)
from evaluation.scores.scoring import Row, jaccard_error, localizations_by_frame, score_rows
from models.metrics import Scorer, chance_jaccard

__all__ = ["draw", "run"]

_SHAPE = (320, 320)
_SIDE_UM = 200.0
_LIGHT = Photons(3e4, 5.0)
_BEADS, _QUICK_BEADS = 40, 25
_FRAMES, _QUICK_FRAMES = 60, 3
_SLICES, _QUICK_SLICES = 10, 4
_TOLERANCE_UM = 10.0
_GOOD_RECALL = 0.9
_DETECTABLE = 5.0
_KNOWN_UM = 5.0
_STACKS, _QUICK_STACKS = 4, 1


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `depth` (by slice), `depth-range`, and `depth-experimental`."""
    rng = benchmark.rng(2)
    box = benchmark.box(_SHAPE, _SIDE_UM)
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    beads = _QUICK_BEADS if benchmark.quick else _BEADS
    frames = expose(benchmark.optics, [uniform_emitters(rng, beads, box) for _ in range(count)], _LIGHT, _SHAPE, rng)
    edges = np.linspace(*benchmark.optics.depths_um, (_QUICK_SLICES if benchmark.quick else _SLICES) + 1)
    limits = _limits(benchmark, frames, edges)
    slices: list[Row] = []
    ranges: list[Row] = []
    steps = len(benchmark.method_runs) + 1
    for done, method_run in enumerate(benchmark.method_runs):
        used_frames, found = benchmark.localizations(method_run, frames)
        scorer = Scorer(_TOLERANCE_UM, slice_edges_um=list(edges))
        by_frame = []
        for localizations, each in zip(
            localizations_by_frame(found, len(used_frames)), used_frames.emitters, strict=True
        ):
            alone = Scorer(_TOLERANCE_UM, slice_edges_um=list(edges))
            whole = alone.add(localizations, each[:, :3])
            scorer.add(localizations, each[:, :3])
            by_frame.append((*alone.slices, whole))
        *errors, error = [jaccard_error(scores) for scores in zip(*by_frame, strict=True)]
        chance = chance_jaccard(found, used_frames.truth(), _TOLERANCE_UM)
        mine = [
            {
                "method": method_run.label,
                "frames": len(used_frames),
                "beads": beads,
                "photons": _LIGHT.mean,
                "background_e": _LIGHT.background_e,
                "tolerance_um": _TOLERANCE_UM,
                "depth_um": float(edges[index : index + 2].mean()),
                "from_um": float(edges[index]),
                "to_um": float(edges[index + 1]),
            }
            | score.as_dict()
            | {"jaccard_error": errors[index], "chance_jaccard": chance}
            | limits[index]
            for index, score in enumerate(scorer.slices)
        ]
        slices += mine
        total = {"frames": len(used_frames)} | scorer.result() | {"jaccard_error": error}
        ranges.append({"method": method_run.label, "least_recall": _GOOD_RECALL} | _good_range(mine) | total)
        benchmark.advance((done + 1) / steps, method_run.label)
    experimental = _experimental(benchmark, frames)
    benchmark.advance(1.0, "focal stacks")
    return {"depth": slices, "depth-range": ranges, "depth-experimental": experimental}


def _limits(benchmark: Benchmark, frames: Frames, edges: NDArray[np.float64]) -> list[Row]:
    bounds = benchmark.optics.bounds(frames)
    depth = np.concatenate([each[:, 2] for each in frames.emitters])
    sigma = np.concatenate([each.sigma for each in bounds])
    known = np.concatenate([each.sigma_3d_um for each in bounds]) < _KNOWN_UM
    seen = np.concatenate([each.significance for each in bounds]) > _DETECTABLE
    rows = []
    for low, high in pairwise(edges):
        here = (depth >= low) & (depth < high)
        lateral, axial = sigma[here & known, :2], sigma[here & known, 2]
        rows.append(
            {
                "limit_detectable_5": float(seen[here].mean()) if here.any() else None,
                "limit_rms_lateral_um": float(np.sqrt((lateral**2).sum(axis=1).mean())) if len(lateral) else None,
                "limit_rms_axial_um": float(np.sqrt((axial**2).mean())) if len(axial) else None,
            }
        )
    return rows


def _good_range(slices: list[Row]) -> Row:
    """Longest run of slices with enough recall."""
    best, run = (0.0, 0.0), None
    for row in slices:
        if (row["recall"] or 0.0) < _GOOD_RECALL:
            run = None
            continue
        run = (run[0] if run else row["from_um"], row["to_um"])
        best = max(best, run, key=lambda ends: ends[1] - ends[0])
    return {"range_from_um": best[0], "range_to_um": best[1], "range_um": best[1] - best[0]}


def _experimental(benchmark: Benchmark, frames: Frames) -> list[Row]:
    """Scores against the retrieved truth and, of the same few frames, against the real one."""
    few = frames.first(_QUICK_STACKS if benchmark.quick else _STACKS)
    retrieved = retrieved_truth(benchmark.optics, few, benchmark.rng(3), quick=benchmark.quick)
    if retrieved is None:
        return []
    against = {
        "retrieved by deconvolution": Frames(
            few.counts, tuple(retrieved), few.background_e, few.read_noise_e, few.camera
        ),
        "real": few,
    }
    rows = []
    for method_run in benchmark.method_runs:
        found = method_run.localizations(few)
        for name, used_frames in against.items():
            columns = {"method": method_run.label, "truth": name}
            rows += score_rows(found, used_frames, columns, tolerances_um=(_TOLERANCE_UM,))
    scorer = Scorer(_TOLERANCE_UM)
    for mine, real in zip(retrieved, few.emitters, strict=True):
        scorer.add(mine[:, :3], real[:, :3])
    own: Row = {"method": "the deconvolved stack itself", "truth": "real", "frames": len(few)}
    return [*rows, own | {"tolerance_um": _TOLERANCE_UM} | scorer.result()]


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `depth.png`: Jaccard index, recall and errors over depth, and the experimental form."""
    rows = tables["depth"]
    looks = styles(row["method"] for row in rows)
    first = rows[0]["method"]
    figure, axes = new_figure(3, 2)
    for axis, key, name, limit in (
        (axes[0, 0], "jaccard", "Jaccard index", None),
        (axes[0, 1], "recall", "recall", "limit_detectable_5"),
    ):
        for method, look in looks.items():
            axis.plot(*series(rows, "depth_um", key, method=method), **look)
        if limit:
            seen = series(rows, "depth_um", limit, method=first)
            axis.plot(*seen, label="emitters above 5 sigmas", **LIMIT)
            axis.axhline(_GOOD_RECALL, color="0.8", linewidth=1)
        else:
            axis.plot(*series(rows, "depth_um", "chance_jaccard", method=first), label="chance level", **CHANCE)
        panel(axis, title=f"{name} within {_TOLERANCE_UM:g} µm", x="depth (µm)", ylim=(0, 1.02))
    for axis, kind in ((axes[1, 0], "lateral"), (axes[1, 1], "axial")):
        for method, look in looks.items():
            axis.plot(*series(rows, "depth_um", f"rmse_{kind}_um", method=method), **look)
        bound = series(rows, "depth_um", f"limit_rms_{kind}_um", method=first)
        axis.plot(*bound, label="Cramér-Rao bound, RMS", **BOUND)
        error_axis(axis)
        panel(axis, title=f"{kind} error", x="depth (µm)", y="RMSE (µm)")
    _draw_ranges(axes[0, 2], tables["depth-range"], looks)
    _draw_experimental(axes[1, 2], tables["depth-experimental"], looks)
    save(figure, axes, folder / "depth.png", title="Beads in 200 x 200 µm², by depth", caption=caption)


def _draw_ranges(axis: Any, rows: list[Row], looks: dict[str, Style]) -> None:
    bars = axis.barh
    for place, row in enumerate(rows):
        color = looks[row["method"]]["color"]
        bars(place, max(row["range_um"], 0.3), left=row["range_from_um"], color=color, height=0.6)
    bar_places(axis, [row["method"] for row in rows])
    panel(axis, title=f"depths with a recall of {_GOOD_RECALL:g} and more", x="depth (µm)")


def _draw_experimental(axis: Any, rows: list[Row], looks: dict[str, Style]) -> None:
    if not rows:
        return
    width = 0.38
    for place, method in enumerate(looks):
        for side, truth in ((-1, "real"), (1, "retrieved by deconvolution")):
            (value,) = (row["jaccard"] or 0 for row in rows if row["method"] == method and row["truth"] == truth)
            axis.barh(
                place + side * width / 2,
                value,
                height=width,
                color=looks[method]["color"],
                alpha=1.0 if side < 0 else 0.45,
                label=None,
            )
    bar_places(axis, list(looks))
    own = next((row["jaccard"] for row in rows if row["method"].startswith("the deconvolved")), None)
    if own is not None:
        axis.axvline(own, label="the deconvolved stack itself", **LIMIT)
    panel(axis, title="real truth (full), deconvolved (pale)", x="Jaccard index", xlim=(0, 1.02))
