"""Tables of experiments as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.evaluation.scoring import Row

__all__ = ["write_table"]


def write_table(path: Path, rows: Sequence[Row], left_out: Mapping[str, str]) -> None:
    """Write rows, columns in the order of their first appearance, and a row for each method that was left out."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if left_out:
        columns.append("left_out")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or ["method"])
        writer.writeheader()
        writer.writerows(rows)
        if "method" in columns:
            writer.writerows({"method": method, "left_out": reason} for method, reason in left_out.items())
