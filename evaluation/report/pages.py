"""Tables of results as one page of Markdown, for people and for the performance record: `tables.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.scores.comparison import comparison_summary
from evaluation.scores.scoring import TOLERANCES_UM, Row
from evaluation.scores.targets import Target, met

__all__ = ["page"]

Tables = Mapping[str, Sequence[Row]]
_Cell = Callable[[Row], str]
_PHYSICAL_LIGHT = "photons"
_MEASURES = ("bound", "sigma")


def page(tables: Tables, comparison: Sequence[Row], found_targets: Sequence[Target] = ()) -> str:
    """Page of all tables: the targets first, then the experiments in their order."""
    parts = [
        *(["## Targets", "\n".join(f"- {line}" for line in met(found_targets))] if found_targets else []),
        *_scores(tables.get("snr", ()), "snr_db", "20 points, by SNR in dB"),
        *_scores(tables.get("density", ()), "points", "30 dB, by the number of points"),
        *_cost(tables.get("density", ())),
        *_comparison(comparison),
        *_isolated(tables.get("isolated", ())),
        *_ghosts(tables.get("ghosts", ())),
        *_resolution(tables.get("resolution", ())),
        *_adoption(tables.get("adoption", ()), tables.get("adoption-cost", ())),
    ]
    return "\n\n".join(["# Tables", "Written by `bathyscope reproduce merge`; simulated frames.", *parts]) + "\n"


def _scores(rows: Sequence[Row], key: str, title: str) -> list[str]:
    """Jaccard index at every tolerance, errors, and the same of the physical form."""
    parts = []
    published = [row for row in rows if row["form"] == "published"]
    if published:
        for tolerance in TOLERANCES_UM:
            here = [row for row in published if row["tolerance_um"] == tolerance]
            parts.append(_grid(f"Jaccard index within {tolerance:g} µm, {title}", here, key, _jaccard, limits=True))
        here = [row for row in published if row["tolerance_um"] == TOLERANCES_UM[0]]
        parts.append(_grid(f"Lateral / axial RMSE in µm, {title}", here, key, _errors))
    physical = [row for row in rows if row["form"] == "physical" and row["tolerance_um"] == TOLERANCES_UM[0]]
    along = _PHYSICAL_LIGHT if key == "snr_db" else key
    for background in sorted({row["background_e"] for row in physical}):
        here = [row for row in physical if row["background_e"] == background]
        what = "photo-electrons per emitter" if along == _PHYSICAL_LIGHT else "the number of points"
        name = f"Jaccard index within 10 µm, sCMOS, {background:g} e⁻/px, by {what}"
        parts.append(_grid(name, here, along, _jaccard, limits=True))
    return parts


def _cost(rows: Sequence[Row]) -> list[str]:
    here = [row for row in rows if row["form"] == "published" and row["tolerance_um"] == TOLERANCES_UM[0]]

    def cell(row: Row) -> str:
        localizations = (row["tp"] + row["fp"]) / row["frames"]
        rate = f"{localizations / row['seconds_per_frame']:.3g}" if row["seconds_per_frame"] else "-"
        return f"{row['seconds_per_frame']:.3g} s, {rate}/s, {row['frames']:g}"

    title = "Processor time per frame, localizations per second of a core, frames seen, by the number of points"
    return [_grid(title, here, "points", cell)] if here else []


def _comparison(rows: Sequence[Row]) -> list[str]:
    return ["## Above every baseline", "\n".join(f"- {line}" for line in comparison_summary(rows))] if rows else []


def _isolated(rows: Sequence[Row]) -> list[str]:
    def cell(row: Row) -> str:
        ratios = (f"{_number(row[f'axial_over_{by}'])}, {_number(row[f'lateral_over_{by}'])}" for by in _MEASURES)
        return f"{'; '.join(ratios)} ({_number(row['found'])})"

    title = "axial, lateral error over the bound; the same over sigma (found), by depth in µm"
    return [
        _grid(f"Isolated, {light}: {title}", [row for row in rows if _light(row) == light], "depth_um", cell)
        for light in dict.fromkeys(map(_light, rows))
    ]


def _ghosts(rows: Sequence[Row]) -> list[str]:
    whole = [{**row, "light": _light(row)} for row in rows if row["whole"]]

    def cell(row: Row) -> str:
        return f"{_number(row['ghosts'], 3)} ± {_number(row['ghosts_error'], 3)} ({_number(row['chance_ghosts'], 3)})"

    return [
        _grid(f"Ghosts per emitter (chance), {kind}", [row for row in whole if row["kind"] == kind], "light", cell)
        for kind in dict.fromkeys(row["kind"] for row in whole)
    ]


def _resolution(rows: Sequence[Row]) -> list[str]:
    parts = []
    for direction, light in dict.fromkeys((row["direction"], row["photons"]) for row in rows):
        here = [row for row in rows if (row["direction"], row["photons"]) == (direction, light)]
        title = f"Smallest {direction} distance resolved in µm, {light:,.0f} e⁻ each (frames), by depth in µm"
        grid = _grid(title, here, "depth_um", lambda row: f"{_number(row['resolved_um'])} ({row['frames']})")
        limit = {row["depth_um"]: _number(row["limit_um"]) for row in here}
        parts.append(f"{grid}\n| Cramér-Rao limit | " + " | ".join(limit[depth] for depth in sorted(limit)) + " |")
    return parts


def _adoption(rows: Sequence[Row], costs: Sequence[Row]) -> list[str]:
    parts = []
    for share in dict.fromkeys(row["tolerance_share"] for row in rows):
        here = [
            {**row, "method": f"{row['method']}, {row['optics']}"} for row in rows if row["tolerance_share"] == share
        ]

        def cell(row: Row) -> str:
            beside = row["over_reference"]
            return _jaccard(row) + ("" if beside is None else f" ({beside:+.2f})")

        title = f"Adoption: Jaccard index (less the reference's), tolerance {share:g} of the depth range, by SNR in dB"
        parts.append(_grid(title, here, "snr_db", cell))
    if costs:
        keys = [key for key in dict.fromkeys(key for row in costs for key in row) if key != "method"]
        lines = [_line(keys), "|" + "---|" * len(keys)]
        parts.append("\n".join([*lines, *(_line([_plain(row.get(key)) for key in keys]) for row in costs)]))
    return parts


def _grid(title: str, rows: Sequence[Row], key: str, cell: _Cell, *, limits: bool = False) -> str:
    """Methods down, values of `key` across."""
    values = list(dict.fromkeys(row[key] for row in rows))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    at = {(row["method"], row[key]): row for row in rows}
    lines = [_line(["", *map(_plain, values)]), "|---|" + "---|" * len(values)]
    for method in methods:
        cells = [cell(at[method, value]) if (method, value) in at else "" for value in values]
        lines.append(_line([f"`{method}`", *cells]))
    if limits:
        first = [next(row for row in rows if row[key] == value) for value in values]
        lines.append(_line(["ideal detector", *(_number(row["limit_jaccard"]) for row in first)]))
        lines.append(_line(["chance", *(_number(row["chance_jaccard"]) for row in first)]))
    return "\n".join([f"{title}:", "", *lines])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _jaccard(row: Row) -> str:
    error = f" ± {row['jaccard_error']:.2f}" if row["jaccard_error"] is not None else ""
    return _number(row["jaccard"]) + error


def _errors(row: Row) -> str:
    return f"{_number(row['rmse_lateral_um'])} / {_number(row['rmse_axial_um'])}"


def _light(row: Row) -> str:
    if row["photons"] is not None:
        return f"{row['photons']:,.0f} e⁻ on {row['background_e']:g} e⁻/px"
    return f"{row['snr_db']:g} dB"


def _number(value: Any, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
