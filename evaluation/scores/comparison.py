"""Comparison of the cascade with the best baseline at every point of the tables `snr` and `density`.

A point is one condition and one tolerance. The baseline of a point is the best
of all methods other than the cascade. Where the baseline is better, the reason
is taken from the scores: higher recall, higher precision, or too few frames
for a significant difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.scores.scoring import Row

__all__ = ["compare_with_baselines", "comparison_summary"]

_OURS = "cascade"
_TABLES = ("snr", "density")
_CONDITION = ("form", "points", "snr_db", "photons", "background_e")
_CERTAIN = 2.0
"""A point whose difference has fewer standard errors is undecided."""

_SAME = 0.01
"""Smaller differences of recall or precision are not named."""


def compare_with_baselines(tables: Mapping[str, Sequence[Row]]) -> list[Row]:
    """One row for each form of the cascade, condition and tolerance; nothing without baselines.

    Parameters
    ----------
    tables : mapping of name to rows
        ``snr`` and ``density`` of one folder, or one of them.

    Returns
    -------
    list of Row
        ``above``: whether the Jaccard index exceeds the best baseline's; ``errors``: by how many standard errors of
        the difference; ``why``: the reason where it does not.
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
            baselines = [row for row in here if not _is_ours(row) and row["jaccard"] is not None]
            if baselines:
                best = max(baselines, key=lambda row: float(row["jaccard"]))
                rows += [_point(table, row, best) for row in here if _is_ours(row)]
    return rows


def comparison_summary(rows: Sequence[Row]) -> list[str]:
    """For each form of the cascade and tolerance: points above every baseline, and the others with the reason."""
    lines = []
    for method, tolerance in dict.fromkeys((row["method"], row["tolerance_um"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["tolerance_um"]) == (method, tolerance)]
        lost = [row for row in mine if not row["above"]]
        everywhere = "yes" if not lost else "no: " + "; ".join(f"{_place(row)} ({row['why']})" for row in lost)
        lines.append(
            f"{method} above every baseline within {tolerance:g} µm at {len(mine) - len(lost)} of {len(mine)} points: "
            f"{everywhere}"
        )
    return lines


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
    reasons = []
    if margin is not None and abs(margin) < _CERTAIN * error:
        reasons.append(f"undecided: {margin:+.3f} ± {error:.3f} with {row['frames']} and {best['frames']} frames")
    for key, name in (("recall", "finds fewer"), ("precision", "more false localizations")):
        mine, theirs = row[key], best[key]
        if mine is not None and theirs is not None and mine < theirs - _SAME:
            reasons.append(f"{name}: {key} {mine:.2f}, {best['method']} {theirs:.2f}")
    return ", ".join(reasons) or f"level with {best['method']}"


def _place(row: Row) -> str:
    light = f"{row['snr_db']:g} dB" if row["snr_db"] is not None else None
    if row["form"] == "physical":
        light = f"{row['photons']:g} e⁻" if row["photons"] is not None else "sCMOS"
    background = f" on {row['background_e']:g} e⁻/px" if row["background_e"] is not None else ""
    return ", ".join(
        [row["experiment"], f"{row['points']:g} points", *([f"{light}{background}"] if light is not None else [])]
    )
