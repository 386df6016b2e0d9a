"""Common style of all figures: colours by method, limits dashed black, chance dotted grey, conditions in captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from evaluation.scores.scoring import Row

__all__ = [
    "BOUND",
    "CHANCE",
    "LIMIT",
    "Style",
    "bar_places",
    "error_axis",
    "error_bars",
    "error_curves",
    "jaccard_curves",
    "log_axis",
    "new_figure",
    "panel",
    "save",
    "series",
    "styles",
]

Style = dict[str, Any]

_DOTS_PER_INCH = 110

LIMIT: Style = {"color": "black", "linestyle": "--", "linewidth": 1.3, "zorder": 1}
BOUND: Style = {"color": "black", "linestyle": "-.", "linewidth": 1.3, "zorder": 1}
CHANCE: Style = {"color": "0.55", "linestyle": ":", "linewidth": 1.3, "zorder": 1}

# Okabe and Ito's colours, which colour-blind readers can distinguish; each method also has its own marker.
_KNOWN: dict[str, tuple[str, str]] = {
    "cascade": ("#0072B2", "o"),
    "cascade --refine": ("#56B4E9", "D"),
    "vgg": ("#D55E00", "s"),
    "fcn": ("#CC79A7", "v"),
    "mle": ("#009E73", "^"),
    "ls": ("#7A9A01", "<"),
    "mle-multi": ("#332288", "P"),
    "lookup": ("#E69F00", "X"),
}
_MORE = (("#882255", "p"), ("#117733", "h"), ("#999933", "*"), ("#AA4499", "d"))


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Colour and marker of each method; a variant of a known method keeps its colour and has an open marker."""
    chosen: dict[str, Style] = {}
    spare = iter(_MORE * 8)
    for label in dict.fromkeys(labels):
        base = label.split(" (")[0]
        color, marker = _KNOWN[base] if base in _KNOWN else next(spare)
        chosen[label] = {
            "color": color,
            "marker": marker,
            "markersize": 5,
            "linewidth": 1.6,
            "label": label,
            "zorder": 3,
        }
        if base != label:
            chosen[label] |= {"markerfacecolor": "white", "linestyle": (0, (4, 1.5))}
    return chosen


def new_figure(
    columns: int, rows: int = 1, *, width: float = 3.5, height: float = 3.1, **options: Any
) -> tuple[Any, Any]:
    """Figure with a grid of panels, shape (rows, columns); no window system is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panel(axes: Any, *, title: str = "", x: str = "", y: str = "", **limits: Any) -> None:
    """Dress one panel."""
    axes.set(title=title, xlabel=x, ylabel=y, **limits)
    axes.title.set_fontsize(10)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, color="0.6")


def log_axis(axes: Any, values: Iterable[float]) -> None:
    """Logarithmic abscissa with a tick at each value that was measured."""
    ticks = sorted(set(values))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{value / 1000:g}k" if value >= 1000 else f"{value:g}" for value in ticks])
    axes.set_xticks([], minor=True)


def error_axis(axes: Any) -> None:
    """Logarithmic ordinate in µm with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def bar_places(axes: Any, names: Sequence[str], *, named: bool = True) -> None:
    """Ordinate of horizontal bars from the top down; few bars stay slim."""
    axes.set_yticks(range(len(names)), list(names) if named else [""] * len(names), fontsize=8)
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)


def series(rows: Sequence[Row], x: str, y: str, **where: Any) -> tuple[list[float], list[float]]:
    """Columns `x` and `y` of the rows that have the values `where`; rows without a figure are left out."""
    chosen = [
        row
        for row in rows
        if all(row[key] == value for key, value in where.items()) and row[y] is not None and row[x] is not None
    ]
    return [row[x] for row in chosen], [row[y] for row in chosen]


def save(figure: Any, axes: Any, path: Path, *, title: str, caption: str) -> None:
    """Add the title, one legend below and the caption with the simulated conditions; write a PNG."""
    entries: dict[str, Any] = {}
    for each in axes.flat:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for each in axes.flat:
        if not each.has_data():
            each.set_axis_off()
    figure.suptitle(title, fontsize=12, fontweight="bold")
    characters = int(figure.get_figwidth() * 17)
    figure.supxlabel("\n".join(wrap(caption, characters)), fontsize=7.5, color="0.35")
    if entries:
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside right center",
            fontsize=8,
            frameon=False,
        )
    figure.savefig(path, dpi=_DOTS_PER_INCH, pil_kwargs={"optimize": True})


def error_bars(axis: Any, rows: Sequence[Row], look: Style, key: str, **where: Any) -> None:
    """Standard errors of the Jaccard index, where they are known."""
    chosen = [row for row in rows if row["jaccard_error"] is not None]
    heights, errors = series(chosen, key, "jaccard", **where), series(chosen, key, "jaccard_error", **where)
    axis.errorbar(*heights, errors[1], fmt="none", ecolor=look["color"], elinewidth=0.9, alpha=0.7, zorder=2)


def jaccard_curves(axis: Any, rows: Sequence[Row], looks: Mapping[str, Style], key: str, tolerance_um: float) -> None:
    """Jaccard index of each method over `key`, with the ideal detector and the chance level of the same frames."""
    for method, look in looks.items():
        axis.plot(*series(rows, key, "jaccard", method=method, tolerance_um=tolerance_um), **look)
        error_bars(axis, rows, look, key, method=method, tolerance_um=tolerance_um)
    of_first = {"method": rows[0]["method"], "tolerance_um": tolerance_um}
    axis.plot(*series(rows, key, "limit_jaccard", **of_first), label="ideal detector", **LIMIT)
    axis.plot(*series(rows, key, "chance_jaccard", **of_first), label="chance level", **CHANCE)


def error_curves(axis: Any, rows: Sequence[Row], looks: Mapping[str, Style], key: str, kind: str) -> None:
    """RMSE, ``lateral`` or ``axial``, of what each method found within 10 µm, over `key`, with the bound."""
    for method, look in looks.items():
        axis.plot(*series(rows, key, f"rmse_{kind}_um", method=method, tolerance_um=10.0), **look)
    bound = series(rows, key, f"limit_rms_{kind}_um", method=rows[0]["method"], tolerance_um=10.0)
    axis.plot(*bound, label="Cramér-Rao bound, RMS", **BOUND)
    error_axis(axis)
