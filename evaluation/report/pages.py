"""Tables of results as one page of Markdown, for people and for the performance record: `tables.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.report.markdown import Cell, errors, grid, jaccard, light, number, plain, table, with_error
from evaluation.scores.comparison import comparison_summary
from evaluation.scores.scoring import TOLERANCES_UM, Row
from evaluation.scores.targets import Target, met

__all__ = ["page"]

Tables = Mapping[str, Sequence[Row]]
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
        *_moving(tables.get("moving", ()), tables.get("moving-ghosts", ())),
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
            parts.append(_titled(f"Jaccard index within {tolerance:g} µm, {title}", here, key, jaccard, limits=True))
        here = [row for row in published if row["tolerance_um"] == TOLERANCES_UM[0]]
        parts.append(_titled(f"Lateral / axial RMSE in µm, {title}", here, key, errors))
    physical = [row for row in rows if row["form"] == "physical" and row["tolerance_um"] == TOLERANCES_UM[0]]
    along = _PHYSICAL_LIGHT if key == "snr_db" else key
    for background in sorted({row["background_e"] for row in physical}):
        here = [row for row in physical if row["background_e"] == background]
        what = "photo-electrons per emitter" if along == _PHYSICAL_LIGHT else "the number of points"
        name = f"Jaccard index within 10 µm, sCMOS, {background:g} e⁻/px, by {what}"
        parts.append(_titled(name, here, along, jaccard, limits=True))
    return parts


def _cost(rows: Sequence[Row]) -> list[str]:
    here = [row for row in rows if row["form"] == "published" and row["tolerance_um"] == TOLERANCES_UM[0]]

    def cell(row: Row) -> str:
        localizations = (row["tp"] + row["fp"]) / row["frames"]
        rate = f"{localizations / row['seconds_per_frame']:.3g}" if row["seconds_per_frame"] else "-"
        return f"{row['seconds_per_frame']:.3g} s, {rate}/s, {row['frames']:g}"

    title = "Processor time per frame, localizations per second of a core, frames seen, by the number of points"
    return [_titled(title, here, "points", cell)] if here else []


def _comparison(rows: Sequence[Row]) -> list[str]:
    return ["## Above every baseline", "\n".join(f"- {line}" for line in comparison_summary(rows))] if rows else []


def _isolated(rows: Sequence[Row]) -> list[str]:
    def cell(row: Row) -> str:
        ratios = (f"{number(row[f'axial_over_{by}'])}, {number(row[f'lateral_over_{by}'])}" for by in _MEASURES)
        return f"{'; '.join(ratios)} ({number(row['found'])})"

    title = "axial, lateral error over the bound; the same over sigma (found), by depth in µm"
    return [
        _titled(f"Isolated, {name}: {title}", [row for row in rows if light(row) == name], "depth_um", cell)
        for name in dict.fromkeys(map(light, rows))
    ]


def _ghosts(rows: Sequence[Row]) -> list[str]:
    whole = [{**row, "light": light(row)} for row in rows if row["whole"]]

    def cell(row: Row) -> str:
        return f"{number(row['ghosts'], 3)} ± {number(row['ghosts_error'], 3)} ({number(row['chance_ghosts'], 3)})"

    return [
        _titled(f"Ghosts per emitter (chance), {kind}", [row for row in whole if row["kind"] == kind], "light", cell)
        for kind in dict.fromkeys(row["kind"] for row in whole)
    ]


def _resolution(rows: Sequence[Row]) -> list[str]:
    parts = []
    for direction, photons in dict.fromkeys((row["direction"], row["photons"]) for row in rows):
        here = [row for row in rows if (row["direction"], row["photons"]) == (direction, photons)]
        title = f"Smallest {direction} distance resolved in µm, {photons:,.0f} e⁻ each (frames), by depth in µm"
        shown = _titled(title, here, "depth_um", lambda row: f"{number(row['resolved_um'])} ({row['frames']})")
        limit = {row["depth_um"]: number(row["limit_um"]) for row in here}
        parts.append(f"{shown}\n| Cramér-Rao limit | " + " | ".join(limit[depth] for depth in sorted(limit)) + " |")
    return parts


def _moving(rows: Sequence[Row], ghosts: Sequence[Row]) -> list[str]:
    """Scores of moving emitters by light, a table for each motion and number of points."""

    def cell(row: Row) -> str:
        return with_error(row["jaccard_10"], row["jaccard_10_error"])

    def axial(row: Row) -> str:
        return f"{number(row['rmse_axial_um'])}, {number(row.get('axial_over_bound'))}, {number(row['over_sigma_z'])}"

    parts = []
    for motion, points in dict.fromkeys((row["motion"], row["points"]) for row in rows):
        here = [row for row in rows if (row["motion"], row["points"]) == (motion, points)]
        what = f"{motion}, {points} points, by SNR in dB"
        parts.append(_titled(f"Moving: Jaccard index within 10 µm, {what}", here, "snr_db", cell, limits=True))
        parts.append(_titled(f"Moving: axial RMSE in µm, over the bound, over sigma, {what}", here, "snr_db", axial))
    for motion in dict.fromkeys(row["motion"] for row in ghosts):
        here = [row for row in ghosts if row["motion"] == motion]
        parts.append(
            _titled(f"Moving: ghosts per emitter, {motion}", here, "snr_db", lambda row: number(row["ghosts"], 3))
        )
    return parts


def _adoption(rows: Sequence[Row], costs: Sequence[Row]) -> list[str]:
    parts = []
    for share in dict.fromkeys(row["tolerance_share"] for row in rows):
        here = [
            {**row, "method": f"{row['method']}, {row['optics']}"} for row in rows if row["tolerance_share"] == share
        ]

        def cell(row: Row) -> str:
            beside = row["over_reference"]
            return jaccard(row) + ("" if beside is None else f" ({beside:+.2f})")

        title = f"Adoption: Jaccard index (less the reference's), tolerance {share:g} of the depth range, by SNR in dB"
        parts.append(_titled(title, here, "snr_db", cell))
    if costs:
        keys = [key for key in dict.fromkeys(key for row in costs for key in row) if key != "method"]
        parts.append(table(keys, [[plain(row.get(key)) for key in keys] for row in costs]))
    return parts


def _titled(title: str, rows: Sequence[Row], across: str, cell: Cell, *, limits: bool = False) -> str:
    """Grid below its title."""
    return f"{title}:\n\n{grid(rows, across, cell, limits=limits)}"
