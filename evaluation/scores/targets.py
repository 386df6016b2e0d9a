"""Targets of the cascade and the figures in a folder of results: one line each, with the worst condition.

The targets are the project's own, on its own benchmark; nothing is tuned for
them. A target is listed when the folder has its experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.scores.scoring import Row

__all__ = ["Target", "met", "targets"]

_REFINED = "cascade --refine"
_JACCARD_BY_DB = {0.0: 0.50, 10.0: 0.78, 20.0: 0.92, 30.0: 0.95}
_JACCARD_BY_POINTS = {32.0: 0.92, 64.0: 0.85, 100.0: 0.75}
_OVER_BOUND = {"exact": 1.3, "hidden": 2.0}
_HIDDEN_UP_TO_DB = 20.0
"""The bound decreases with more light; the errors of a calibration do not."""

_SIGMA_RATIO = (0.8, 1.25)
_RESOLVED_UM = {"lateral": 2.0, "axial": 6.0}
_RESOLVED_PHOTONS, _RESOLVED_DEPTHS_UM = 1e5, (20.0, 80.0)
_GHOSTS = 0.1
_FILTER, _SMOOTHER = "image filter", "image filter, forward-backward"
_MOVING_JACCARD = {
    "directed": {0.0: 0.80, 5.0: 0.93, 10.0: 0.97},
    "brownian 10": {0.0: 0.70, 5.0: 0.93, 10.0: 0.97},
}
_MOVING_POINTS = 20
_HIDDEN_LOSS = 0.04
"""How much less the Jaccard index of moving emitters may be with hidden optics."""

_MOVING_AXIAL = 0.6
"""Largest axial RMSE of the image filter, in units of that of the joint fit of each frame."""

_MOVING_AXIAL_DB = (5.0, 10.0)
_MOVING_CROWDED = ((64, 10.0), (100, 30.0))
_MOVING_GAIN = 0.05
_MOVING_GHOSTS = 0.05
_OTHER_OPTICS = -0.05


@dataclass(frozen=True, slots=True)
class Target:
    """One figure.

    Attributes
    ----------
    name : str
        Figure and its limit.
    measured : float or None
        Worst value over the conditions; None if one has no figure.
    place : str
        Condition of the worst value.
    met : bool
    """

    name: str
    measured: float | None
    place: str
    met: bool


def targets(tables: Mapping[str, Sequence[Row]], optics: Mapping[str, str]) -> list[Target]:
    """Targets whose experiments are in the tables.

    Parameters
    ----------
    tables : mapping of name to rows
    optics : mapping of name to str
        Optics of each experiment, ``"exact"`` or ``"hidden"``.
    """
    return [
        *_scores(tables.get("snr", ()), "snr_db", _JACCARD_BY_DB, "dB, 20 points"),
        *_scores(tables.get("density", ()), "points", _JACCARD_BY_POINTS, "points, 30 dB"),
        *_isolated(tables.get("isolated", ()), optics.get("isolated", "exact")),
        *_resolution(tables.get("resolution", ())),
        *_ghosts(tables.get("ghosts", ())),
        *_adoption(tables.get("adoption", ())),
        *_moving(tables.get("moving", ()), optics.get("moving", "exact")),
        *_moving_ghosts(tables.get("moving-ghosts", ())),
    ]


def met(found: Sequence[Target]) -> list[str]:
    """As lines of text."""
    lines = []
    for target in found:
        value = "not measured" if target.measured is None else f"{target.measured:.3g}"
        lines.append(f"{'met' if target.met else 'NOT MET'}: {target.name}: {value} ({target.place})")
    return lines


def _scores(rows: Sequence[Row], key: str, asked: Mapping[float, float], unit: str) -> list[Target]:
    mine = [
        row
        for row in rows
        if row["method"] == _REFINED
        and row["form"] == "published"
        and row["tolerance_um"] == 10.0
        and row[key] in asked
    ]
    return [
        _least(f"J at {row[key]:g} {unit}, refined, at least {asked[row[key]]:g}", [row], "jaccard", asked[row[key]])
        for row in mine
    ]


def _isolated(rows: Sequence[Row], optics: str) -> list[Target]:
    found = []
    mine = [row for row in rows if row["method"] == _REFINED and row["form"] == "published"]
    for db in sorted({row["snr_db"] for row in mine}):
        here = [row for row in mine if row["snr_db"] == db]
        for axis in ("axial", "lateral"):
            name = f"isolated, {optics} optics, {db:g} dB, refined, {axis} error over"
            if optics == "exact" or db <= _HIDDEN_UP_TO_DB:
                most = _OVER_BOUND[optics]
                found.append(_most(f"{name} bound at most {most:g}", here, f"{axis}_over_bound", most))
            least, most = _SIGMA_RATIO
            key = f"{axis}_over_sigma"
            found.append(_least(f"{name} sigma at least {least:g}", here, key, least))
            found.append(_most(f"{name} sigma at most {most:g}", here, key, most))
    return found


def _resolution(rows: Sequence[Row]) -> list[Target]:
    low, high = _RESOLVED_DEPTHS_UM
    mine = [
        row
        for row in rows
        if row["method"] == _REFINED and row["photons"] == _RESOLVED_PHOTONS and low <= row["depth_um"] <= high
    ]
    return [
        _most(
            f"{direction} resolution, refined, {_RESOLVED_PHOTONS:,.0f} e⁻, at most {most:g} µm",
            [row for row in mine if row["direction"] == direction],
            "resolved_um",
            most,
        )
        for direction, most in _RESOLVED_UM.items()
        if mine
    ]


def _ghosts(rows: Sequence[Row]) -> list[Target]:
    wrong = [row for row in rows if row["kind"] == "wrong side" and row["whole"]]
    ours = dict.fromkeys(row["method"] for row in wrong if str(row["method"]).startswith("cascade"))
    return [
        _most(
            f"ghosts at negative defocus, {method}, at most {_GHOSTS:g} per emitter",
            [row for row in wrong if row["method"] == method],
            "ghosts",
            _GHOSTS,
        )
        for method in ours
    ]


def _adoption(rows: Sequence[Row]) -> list[Target]:
    mine = [row for row in rows if row["tolerance_share"] == 0.1 and row["over_reference"] is not None]
    return [
        _least(
            f"adoption of {optics}, {method}, J less the reference's at least {_OTHER_OPTICS:g}",
            [row for row in mine if (row["optics"], row["method"]) == (optics, method)],
            "over_reference",
            _OTHER_OPTICS,
        )
        for optics, method in dict.fromkeys((row["optics"], row["method"]) for row in mine)
        if optics != "reference optics"
    ]


def _moving(rows: Sequence[Row], optics: str) -> list[Target]:
    """Targets of the image filter in the conditions that have one."""
    mine = [row for row in rows if row["method"] == _FILTER]
    usual = [row for row in mine if row["points"] == _MOVING_POINTS and row["snr_db"] in _moving_asked(row)]
    crowded = [row for row in mine if (row["points"], row["snr_db"]) in _MOVING_CROWDED]
    fit, smoother = (
        {_moving_place(row): row for row in rows if row["method"] == name} for name in (_REFINED, _SMOOTHER)
    )
    least, most = _SIGMA_RATIO
    found = []
    for row in usual:
        asked = _moving_asked(row)[row["snr_db"]] - (_HIDDEN_LOSS if optics == "hidden" else 0.0)
        name = (
            f"J of {row['motion']} motion at {row['snr_db']:g} dB, {optics} optics, image filter, at least {asked:.2f}"
        )
        found.append(_least(name, [row], "jaccard_10", asked))
    for row in usual:
        if row["snr_db"] in _MOVING_AXIAL_DB and _moving_place(row) in fit:
            ratio = {**row, "ratio": _ratio(row, fit[_moving_place(row)], "rmse_axial_um")}
            name = f"axial RMSE of {row['motion']} motion, image filter, at most {_MOVING_AXIAL:g} of the joint fit's"
            found.append(_most(name, [ratio], "ratio", _MOVING_AXIAL))
    for axis in "xyz" if usual else "":
        name = f"moving, image filter, error over sigma along {axis}"
        found.append(_least(f"{name} at least {least:g}", usual, f"over_sigma_{axis}", least))
        found.append(_most(f"{name} at most {most:g}", usual, f"over_sigma_{axis}", most))
    for row in crowded:
        name = f"J of {row['points']} points, image filter, above the joint fit's by at least {_MOVING_GAIN:g}"
        found.append(_least(name, [row], "over_fit", _MOVING_GAIN))
    gains = [
        {**row, "gain": smoother[_moving_place(row)]["jaccard_10"] - row["jaccard_10"]}
        for row in usual
        if _moving_place(row) in smoother
    ]
    return found + ([_least("J of forward-backward above forward", gains, "gain", 0.0)] if gains else [])


def _moving_asked(row: Row) -> Mapping[float, float]:
    return _MOVING_JACCARD.get(row["motion"], {})


def _moving_place(row: Row) -> tuple[str, int, float]:
    return row["motion"], row["points"], row["snr_db"]


def _ratio(row: Row, other: Row, key: str) -> float | None:
    return row[key] / other[key] if row[key] is not None and other[key] else None


def _moving_ghosts(rows: Sequence[Row]) -> list[Target]:
    mine = [row for row in rows if row["method"] in (_FILTER, _SMOOTHER)]
    return [
        _most(
            f"moving ghosts at negative defocus, {method}, at most {_MOVING_GHOSTS:g} per emitter",
            [row for row in mine if row["method"] == method],
            "ghosts",
            _MOVING_GHOSTS,
        )
        for method in dict.fromkeys(row["method"] for row in mine)
    ]


def _least(name: str, rows: Sequence[Row], key: str, limit: float) -> Target:
    return _target(name, rows, key, min, lambda value: value >= limit)


def _most(name: str, rows: Sequence[Row], key: str, limit: float) -> Target:
    return _target(name, rows, key, max, lambda value: value <= limit)


def _target(
    name: str,
    rows: Sequence[Row],
    key: str,
    worst: Callable[[list[tuple[float, int]]], tuple[float, int]],
    good: Callable[[float], bool],
) -> Target:
    for row in rows:
        if row[key] is None:
            return Target(name, None, _place(row), met=False)
    value, index = worst([(row[key], index) for index, row in enumerate(rows)])
    return Target(name, value, _place(rows[index]), met=good(value))


def _place(row: Row) -> str:
    parts = [f"{row['depth_um']:g} µm"] if "depth_um" in row else []
    if row.get("snr_db") is not None:
        parts.append(f"{row['snr_db']:g} dB")
    if row.get("photons") is not None:
        parts.append(f"{row['photons']:,.0f} e⁻")
    if "motion" in row:
        parts.insert(0, row["motion"])
    error = row.get("jaccard_error", row.get("jaccard_10_error"))
    if error is not None:
        parts.append(f"± {error:.3f}")
    if row.get("frames") is not None:
        parts.append(f"{row['frames']:g} frames")
    return ", ".join(parts)
