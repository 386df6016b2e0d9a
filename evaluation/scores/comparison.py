"""Is the cascade above every rival at every point, and where not, why: read from the tables of `snr` and `density`.

A point is one condition and one tolerance. The rival of a point is the best
of all methods that are not the cascade. Where the rival wins, the reason is
what the scores say: it finds more, or answers less that is false, or so few
frames were seen that nobody can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.scores.scoring import Row

__all__ = ["compared", "verdict"]

_OURS = "cascade"
_TABLES = ("snr", "density")
_CONDITION = ("form", "points", "snr_db", "photons", "background_e")
_CERTAIN = 2.0
"""Standard errors of the difference beneath which a point is undecided."""

_SAME = 0.01
"""Differences of recall or precision that are not worth a word."""


def compared(tables: Mapping[str, Sequence[Row]]) -> list[Row]:
    """One row for each form of the cascade, condition and tolerance; nothing without rivals.

    Parameters
    ----------
    tables : mapping of name to rows
        ``snr`` and ``density`` of one folder, or one of them.

    Returns
    -------
    list of Row
        ``above`` is whether the Jaccard index exceeds the best rival's, ``errors`` by how many standard errors of the
        difference, ``why`` what the scores say where it does not.
    """
    rows = []
    for table in _TABLES:
        points: dict[tuple[object, ...], list[Row]] = {}
        for row in tables.get(table, ()):
            # The background of the published form follows from the light, and differs a little from frame to frame.
            background = row["background_e"] if row["form"] == "physical" else None
            condition = {**row, "background_e": background}
            place = (*(condition.get(key) for key in _CONDITION), row["tolerance_um"])
            points.setdefault(place, []).append(condition)
        for here in points.values():
            rivals = [row for row in here if not _is_ours(row) and row["jaccard"] is not None]
            if rivals:
                best = max(rivals, key=lambda row: float(row["jaccard"]))
                rows += [_point(table, row, best) for row in here if _is_ours(row)]
    return rows


def verdict(rows: Sequence[Row]) -> list[str]:
    """For each form of the cascade and tolerance in how many points it is above every rival, and where it is not."""
    told = []
    for method, tolerance in dict.fromkeys((row["method"], row["tolerance_um"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["tolerance_um"]) == (method, tolerance)]
        lost = [row for row in mine if not row["above"]]
        everywhere = "yes" if not lost else "no: " + "; ".join(f"{_place(row)} ({row['why']})" for row in lost)
        told.append(
            f"{method} above every rival within {tolerance:g} µm at {len(mine) - len(lost)} of {len(mine)} points: "
            f"{everywhere}"
        )
    return told


def _is_ours(row: Row) -> bool:
    return str(row["method"]).split(" ")[0] == _OURS


def _point(table: str, row: Row, best: Row) -> Row:
    mine, theirs = row["jaccard"], best["jaccard"]
    margin = None if mine is None else mine - theirs
    error = float(np.hypot(row["jaccard_error"] or 0.0, best["jaccard_error"] or 0.0))
    above = margin is not None and margin > 0
    return {
        "method": row["method"],
        "experiment": table,
        **{key: row.get(key) for key in _CONDITION},
        "tolerance_um": row["tolerance_um"],
        "jaccard": mine,
        "jaccard_error": row["jaccard_error"],
        "rival": best["method"],
        "rival_jaccard": theirs,
        "rival_jaccard_error": best["jaccard_error"],
        "rival_frames": best["frames"],
        "margin": margin,
        "errors": margin / error if margin is not None and error > 0 else None,
        "above": above,
        "why": None if above else _reason(row, best, margin, error),
    }


def _reason(row: Row, best: Row, margin: float | None, error: float) -> str:
    said = []
    if margin is not None and abs(margin) < _CERTAIN * error:
        said.append(f"undecided: {margin:+.3f} ± {error:.3f} with {row['frames']} and {best['frames']} frames")
    for key, name in (("recall", "finds less"), ("precision", "answers more that is false")):
        mine, theirs = row[key], best[key]
        if mine is not None and theirs is not None and mine < theirs - _SAME:
            said.append(f"{name}: {key} {mine:.2f}, {best['method']} {theirs:.2f}")
    return ", ".join(said) or f"level with {best['method']}"


def _place(row: Row) -> str:
    light = f"{row['snr_db']:g} dB" if row["snr_db"] is not None else None
    if row["form"] == "physical":
        light = f"{row['photons']:g} e⁻" if row["photons"] is not None else "sCMOS"
    background = f" on {row['background_e']:g} e⁻/px" if row["background_e"] is not None else ""
    return ", ".join(
        [row["experiment"], f"{row['points']:g} points", *([f"{light}{background}"] if light is not None else [])]
    )
