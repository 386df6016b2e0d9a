"""Tables of experiments as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.scores.scoring import Row
from models.errors import DataError

__all__ = ["read_table", "write_table"]

_WORDS = {"": None, "True": True, "False": False}


def write_table(path: Path, rows: Sequence[Row], left_out: Mapping[str, str]) -> None:
    """Write rows, columns in the order of their first appearance, and a row for each method that was left out."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if left_out and "left_out" not in columns:
        columns.append("left_out")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or ["method"])
        writer.writeheader()
        writer.writerows(rows)
        if "method" in columns:
            writer.writerows({"method": method, "left_out": reason} for method, reason in left_out.items())


def read_table(path: Path) -> tuple[list[Row], dict[str, str]]:
    """Read what `write_table` wrote.

    Returns
    -------
    rows : list of Row
        Numbers as numbers; None where there is no figure.
    left_out : dict
        Reasons by method.

    Raises
    ------
    DataError
        When the file cannot be read, or has no column ``method``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            texts = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The table {path} cannot be read ({error}).", "Restore it, or run again.") from error
    if any("method" not in text or None in text for text in texts):
        raise DataError(f"{path} is no table of methods.", "Restore it, or run the experiment again.")
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for text in texts:
        reason = text.pop("left_out", "")
        if reason:
            left_out[text["method"]] = reason
        else:
            # A label may look like a number.
            rows.append({key: _value(value) for key, value in text.items()} | {"method": text["method"]})
    return rows, left_out


def _value(text: str | None) -> bool | int | float | str | None:
    if text is None or text in _WORDS:
        return _WORDS[text or ""]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
