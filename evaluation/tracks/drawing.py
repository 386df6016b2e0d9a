"""Figures of the experiment `tracking`: scores of all trackers, tracks in 3D, and tracks against localizations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report.figures import LIMIT, new_figure, panel, save
from evaluation.scores.scoring import TOLERANCES_UM, Row
from evaluation.tracks.patterns import BOX_UM

__all__ = ["draw_heat", "draw_jaccard", "draw_paths"]

_SHORTEST_PATH = 5
"""Tracks with fewer points are left out of the picture of paths, for all methods alike."""

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#7A9A01")


def draw_heat(rows: Sequence[Row], path: Path, caption: str) -> None:
    """HOTA of each tracker and motion; a panel for each number of objects and quality of detection."""
    key = "hota" if any(row["hota"] is not None for row in rows) else "beta"
    objects = sorted({row["objects"] for row in rows})
    qualities = list(dict.fromkeys(row["quality"] for row in rows))
    motions = list(dict.fromkeys(row["motion"] for row in rows))
    methods = list(dict.fromkeys((row["form"], row["method"]) for row in rows))
    figure, axes = new_figure(len(qualities), len(objects), width=max(0.55 * len(motions), 2.0) + 1, height=3.2)
    for line, count in zip(axes, objects, strict=True):
        for axis, quality in zip(line, qualities, strict=True):
            here = {
                (row["method"], row["motion"]): row[key]
                for row in rows
                if (row["objects"], row["quality"]) == (count, quality)
            }
            values = np.array([[here.get((name, motion)) for motion in motions] for _, name in methods], np.float64)
            _heat(axis, values)
            axis.set_xticks(range(len(motions)), motions, rotation=40, ha="right", fontsize=7)
            axis.set_yticks(
                range(len(methods)),
                [name if form in name else f"{name} ({form})" for form, name in methods],
                fontsize=7,
            )
            axis.set_title(f"{quality}, {count:g} objects", fontsize=9)
            if axis is not line[0]:
                axis.set_yticklabels([])
            for place in range(1, len(methods)):
                if methods[place][0] != methods[place - 1][0]:
                    axis.axhline(place - 0.5, color="white", linewidth=3)
    title = "HOTA of tracks" if key == "hota" else "beta of tracks"
    save(figure, axes, path, title=f"{title}, on the same localizations", caption=caption)


def _heat(axis: Any, values: np.ndarray) -> None:
    """Colored cells with their numbers."""
    axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:.2f}".removeprefix("0") if value < 1 else "1"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=6.5, color="white" if value < 0.65 else "black"
            )


def draw_paths(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Tracks in 3D, each in a colour of its own, the truth and the methods side by side."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = new_figure(len(methods), width=4.2, height=3.9, subplot_kw={"projection": "3d"})
    for axis, method in zip(axes[0], methods, strict=True):
        mine = [row for row in rows if row["method"] == method]
        columns = np.array([[row[name] for name in ("track_id", "x_um", "y_um", "z_um")] for row in mine])
        shown = 0
        for number in np.unique(columns[:, 0]):
            places = columns[columns[:, 0] == number, 1:]
            if len(places) >= _SHORTEST_PATH:
                axis.plot(*places.T, linewidth=1.0, color=_COLORS[shown % len(_COLORS)])
                shown += 1
        axis.set(xlabel="x (µm)", ylabel="y (µm)", zlabel="depth (µm)")
        (x_low, x_high), (y_low, y_high), (z_low, z_high) = BOX_UM
        axis.set(xlim=(x_low, x_high), ylim=(y_low, y_high), zlim=(z_high, z_low))
        axis.tick_params(labelsize=7)
        axis.set_title(f"{method}: {shown} tracks", fontsize=10)
        axis.set_box_aspect((2, 2, 1))
    first = rows[0]
    save(figure, axes, path, title=f"Tracks, {first['motion']}, {first['quality']} localizations", caption=caption)


def draw_jaccard(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Jaccard index of our tracks over that of the localizations that they are made of, a panel for each tolerance."""
    ours = [row for row in rows if row["method"].startswith("Bathyscope")]
    figure, axes = new_figure(len(TOLERANCES_UM), sharey=True)
    for axis, tolerance in zip(axes[0], TOLERANCES_UM, strict=True):
        for method, color in zip(dict.fromkeys(row["method"] for row in ours), _COLORS, strict=False):
            here = [row for row in ours if row["method"] == method]
            x = [row[f"localization_jaccard_{tolerance:g}"] for row in here]
            y = [row[f"track_jaccard_{tolerance:g}"] for row in here]
            axis.scatter(x, y, s=14, color=color, label=method, zorder=3)
        axis.plot([0, 1], [0, 1], label="as the localizations", **LIMIT)
        panel(axis, title=f"within {tolerance:g} µm", x="J of localizations", xlim=(0, 1.02), ylim=(0, 1.02))
    axes[0, 0].set_ylabel("J of track points")
    save(figure, axes, path, title="Tracks against the localizations that they are made of", caption=caption)
