"""Figures of the experiment `moving`: scores over light and density with their limits, a panel for each motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.report.figures import BOUND, CHANCE, LIMIT, Style, error_axis, new_figure, panel, save, series
from evaluation.scores.scoring import Row

__all__ = ["draw"]

_COLORS = {"cascade": "#0072B2", "cascade --refine": "#009E73", "image filter": "#D55E00", "without network": "#CC79A7"}
_MORE_COLORS = ("#CC79A7", "#7A9A01", "#332288", "#882255")
_FORMS: dict[str, Style] = {
    "localizations": {"linestyle": "-", "marker": "o"},
    "tracks": {"linestyle": (0, (4, 1.5)), "marker": "s", "markerfacecolor": "white"},
    "smoothed": {"linestyle": (0, (1, 1)), "marker": "^", "markerfacecolor": "white"},
}
_IDEALS: tuple[tuple[str, str, str], ...] = (
    ("limit_jaccard", "ideal detector, 1 frame", "black"),
    ("limit_jaccard_3", "ideal detector, 3 frames", "0.4"),
    ("limit_jaccard_10", "ideal detector, 10 frames", "0.65"),
)
_BOUNDS: tuple[tuple[str, str, Style], ...] = (
    ("limit_rms_axial_um", "Cramér-Rao bound, 1 frame", BOUND),
    ("bound_rms_axial_um", "posterior bound, frames until then", LIMIT),
    ("bound_all_rms_axial_um", "posterior bound, all frames", LIMIT | {"color": "0.5"}),
)
_DENSITY_DB = 10.0
_SPREAD = 0.6
"""Width of the methods of one density, in units of the distance between densities."""


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figures `moving.png`, `moving-errors.png` and `moving-density.png`; none without rows."""
    rows = tables["moving"]
    if not rows:
        return
    caption += " Movies at 100 frames/s, SNR: mean over a movie; ± standard error over movies."
    # The quick size has other numbers of points.
    fewest = min(row["points"] for row in rows)
    usual = [row for row in rows if row["points"] == fewest]
    _draw_light(usual, folder / "moving.png", caption)
    _draw_errors(usual, folder / "moving-errors.png", caption)
    _draw_density(rows, fewest, folder / "moving-density.png", caption)


def _styles(rows: Sequence[Row]) -> dict[str, Style]:
    """Colour by what is tracked, line and marker by the form of the points."""
    spare = iter(_MORE_COLORS * 8)
    colors: dict[tuple[str, str], str] = {}
    looks: dict[str, Style] = {}
    for row in rows:
        # "cascade, tracks (model)" has the colour of "cascade (model)"; a second model has a colour of its own.
        name, _, model = row["method"].partition(" (")
        base = name.split(",")[0]
        if (base, model) not in colors:
            first = base in _COLORS and base not in {other for other, _ in colors}
            colors[base, model] = _COLORS[base] if first else next(spare)
        looks[row["method"]] = {
            "color": colors[base, model],
            "markersize": 4.5,
            "linewidth": 1.5,
            "label": row["method"],
            "zorder": 3,
            **_FORMS[row["form"]],
        }
    return looks


def _motions(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["motion"] for row in rows))


def _panels(motions: Sequence[str]) -> tuple[Any, Any]:
    """One panel for each motion, two beside each other."""
    columns = min(len(motions), 2)
    return new_figure(columns, -(-len(motions) // columns), width=4.2, sharex=True, sharey=True)


def _label(axes: Any, y: str) -> None:
    for axis in axes[-1]:
        axis.set_xlabel("SNR of a frame (dB)")
    for axis in axes[:, 0]:
        axis.set_ylabel(y)


def _draw_light(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Jaccard index over SNR."""
    looks, motions = _styles(rows), _motions(rows)
    figure, axes = _panels(motions)
    for axis, motion in zip(axes.flat, motions, strict=False):
        here = [row for row in rows if row["motion"] == motion]
        for method, look in looks.items():
            x, y = series(here, "snr_db", "jaccard_10", method=method)
            axis.plot(x, y, **look)
            known = [row for row in here if row["jaccard_10_error"] is not None]
            bars = series(known, "snr_db", "jaccard_10", method=method)
            errors = series(known, "snr_db", "jaccard_10_error", method=method)
            axis.errorbar(*bars, errors[1], fmt="none", ecolor=look["color"], elinewidth=0.9, alpha=0.7, zorder=2)
        first = {"method": rows[0]["method"]}
        for key, label, color in _IDEALS:
            axis.plot(*series(here, "snr_db", key, **first), label=label, **(LIMIT | {"color": color}))
        axis.plot(*series(here, "snr_db", "chance_jaccard", **first), label="chance level", **CHANCE)
        panel(axis, title=_title(here), ylim=(0, 1.02))
    _label(axes, "Jaccard index within 10 µm")
    save(figure, axes, path, title="Moving emitters found", caption=caption)


def _draw_errors(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Axial RMSE over SNR, with the bounds."""
    looks, motions = _styles(rows), _motions(rows)
    figure, axes = _panels(motions)
    for axis, motion in zip(axes.flat, motions, strict=False):
        here = [row for row in rows if row["motion"] == motion]
        for method, look in looks.items():
            axis.plot(*series(here, "snr_db", "rmse_axial_um", method=method), **look)
        for key, label, look in _BOUNDS:
            known = [row for row in here if row.get(key) is not None]
            axis.plot(*series(known, "snr_db", key, method=rows[0]["method"]), label=label, **look)
        error_axis(axis)
        panel(axis, title=_title(here))
    _label(axes, "axial RMSE of found points (µm)")
    save(figure, axes, path, title="Axial error of moving emitters", caption=caption)


def _draw_density(rows: Sequence[Row], fewest: int, path: Path, caption: str) -> None:
    """Jaccard index of each number of points; they differ in light too, so no line joins them."""
    looks = _styles(rows)
    chosen = [row for row in rows if row["points"] != fewest or row["snr_db"] == _DENSITY_DB]
    crowded = {row["motion"] for row in chosen if row["points"] != fewest} or set(_motions(rows))
    motions = [motion for motion in _motions(rows) if motion in crowded]
    figure, axes = new_figure(len(motions), sharey=True, width=4.2)
    for axis, motion in zip(axes[0], motions, strict=True):
        here = [row for row in chosen if row["motion"] == motion]
        places = sorted({(row["points"], row["snr_db"]) for row in here})
        for number, (method, look) in enumerate(looks.items()):
            shift = _SPREAD * ((number + 0.5) / len(looks) - 0.5)
            mine = {(row["points"], row["snr_db"]): row for row in here if row["method"] == method}
            at = [index + shift for index, place in enumerate(places) if place in mine]
            values = [mine[place] for place in places if place in mine]
            axis.errorbar(
                at,
                [row["jaccard_10"] for row in values],
                [row["jaccard_10_error"] or 0.0 for row in values],
                elinewidth=0.9,
                **(look | {"linestyle": ""}),
            )
        for key, label, color in _IDEALS:
            _limits(axis, here, places, key, LIMIT | {"color": color, "label": label})
        axis.set_xticks(range(len(places)), [f"{points} points,\n{db:g} dB" for points, db in places])
        panel(axis, title=motion, ylim=(0, 1.02), xlim=(-0.5, len(places) - 0.5))
    axes[0, 0].set_ylabel("Jaccard index within 10 µm")
    save(figure, axes, path, title="Moving emitters found over their density", caption=caption)


def _limits(axis: Any, rows: Sequence[Row], places: Sequence[tuple[int, float]], key: str, look: Style) -> None:
    """A short horizontal line at the limit of each density."""
    for index, place in enumerate(places):
        value = next((row[key] for row in rows if (row["points"], row["snr_db"]) == place), None)
        if value is not None:
            ends = (index - _SPREAD / 2 - 0.05, index + _SPREAD / 2 + 0.05)
            axis.plot(ends, (value, value), **(look | ({"label": None} if index else {})))


def _title(rows: Sequence[Row]) -> str:
    return f"{rows[0]['motion']}, {rows[0]['points']} points"
