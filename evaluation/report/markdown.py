"""Tables in Markdown from rows of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.scores.scoring import Row

__all__ = ["Cell", "errors", "grid", "jaccard", "light", "line", "number", "plain", "table", "with_error"]

Cell = Callable[[Row], str]
"""Text of a row's figures in one cell."""


def grid(rows: Sequence[Row], across: str, cell: Cell, *, down: str = "method", limits: bool = False) -> str:
    """Table with the values of `down` below each other and those of `across` beside each other.

    Parameters
    ----------
    rows : sequence of Row
        Of equal `down` and `across` the first one is shown.
    across, down : str
        Keys of the rows. Numbers are sorted; methods are set as code.
    cell : callable
    limits : bool
        Add the ideal detector and the chance level, where they are known.
    """
    values = list(dict.fromkeys(row[across] for row in rows))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    names = list(dict.fromkeys(row[down] for row in rows))
    at = {(row[down], row[across]): row for row in reversed(rows)}
    lines = []
    for name in names:
        cells = [cell(at[name, value]) if (name, value) in at else "" for value in values]
        lines.append([f"`{name}`" if down == "method" else plain(name), *cells])
    if limits:
        first = [next(row for row in rows if row[across] == value) for value in values]
        for title, key in (("ideal detector", "limit_jaccard"), ("chance", "chance_jaccard")):
            if any(row.get(key) is not None for row in first):
                lines.append([title, *(number(row.get(key)) for row in first)])
    return table(["", *map(plain, values)], lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table of texts."""
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"


def jaccard(row: Row) -> str:
    """Jaccard index with its standard error where it is known."""
    error = row.get("jaccard_error")
    return number(row["jaccard"]) + ("" if error is None else f" ± {error:.2f}")


def errors(row: Mapping[str, Any]) -> str:
    """Lateral and axial RMSE, µm."""
    return f"{number(row['rmse_lateral_um'])} / {number(row['rmse_axial_um'])}"


def light(row: Row) -> str:
    """Light of a condition: photo-electrons and background, or SNR."""
    if row["photons"] is not None:
        return f"{row['photons']:,.0f} e⁻ on {row['background_e']:g} e⁻/px"
    return f"{row['snr_db']:g} dB"


def number(value: Any, digits: int = 2) -> str:
    """Number with fixed digits; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def with_error(value: Any, error: Any) -> str:
    """Number with its standard error, if that is known."""
    return number(value) + ("" if error is None else f" ± {error:.2f}")


def plain(value: Any) -> str:
    """Number as short as it can be, or the text itself."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
