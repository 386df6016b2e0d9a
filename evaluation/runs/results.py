"""A folder of results: tables as CSV files, figures drawn from them, and the record of how they were made.

Slow methods run apart from fast ones, in processes of their own and into
folders of their own; afterwards the folders are merged. Figures are drawn from
the tables alone, for single runs and merged folders alike. Runs can be merged
only if all methods had the same frames, the same optics and the same calibration;
otherwise the merge is refused. `results.json` repeats all tables in one file,
with the provenance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.experiments.registry import EXPERIMENTS, experiment_named
from evaluation.report.pages import page
from evaluation.report.tables import read_table, write_table
from evaluation.runs.provenance import write_result
from evaluation.scores.comparison import compare_with_baselines, comparison_summary
from evaluation.scores.scoring import Row
from evaluation.scores.targets import met, targets
from models.errors import DataError

__all__ = [
    "RECORD",
    "RESULTS",
    "draw_results",
    "is_results",
    "merge_results",
    "read_record",
    "result_summary",
    "write_results",
]

RECORD = "reproduce.json"
"""File of a folder's record."""

RESULTS = "results.json"
"""File of all tables of a folder, with their provenance."""

_COMPARISON, _PAGE = "comparison", "tables.md"
"""What `merge` writes beside the tables."""

Record = dict[str, Any]

_CONDITIONS = ("simulated", "quick", "optics", "seeds", "matching", "microscopes", "left_out")
"""Parts of the record that `RESULTS` repeats."""

_SHARED = ("quick", "optics", "seeds", "matching")
"""What all runs of a folder have in common."""


def is_results(folder: Path) -> bool:
    """Whether a folder is one of results."""
    return (folder / RECORD).is_file()


def draw_results(folder: Path, only: str | None = None) -> None:
    """Draw the figures of a folder from its tables.

    Parameters
    ----------
    folder : Path
    only : str, optional
        Of this experiment; of all when not given.

    Raises
    ------
    DataError
        When the folder has no results, or a table was changed so that it cannot be drawn.
    """
    record = read_record(folder)
    for name, experiment in record["experiments"].items():
        if only not in (None, name):
            continue
        tables = {table: _read_rows(folder, table)[0] for table in experiment["tables"]}
        try:
            experiment_named(name).draw(tables, folder, _caption(record, experiment["optics"]))
        except (KeyError, IndexError, StopIteration) as error:
            raise DataError(
                f"The tables of {name} in {folder} cannot be drawn: a column or a row is missing ({error!r}).",
                "Leave tables as `reproduce` wrote them, or run the experiment again.",
            ) from error


def merge_results(folders: Sequence[Path], out: Path) -> Record:
    """Join the tables of several runs in an empty folder, draw its figures, and write its record.

    Parameters
    ----------
    folders : sequence of Path
        A method that is in a table of several of them is taken from the last one.
    out : Path
        Empty folder.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    DataError
        When a folder has no results, or runs differ in what must be the same.
    """
    records = [read_record(folder) for folder in folders]
    merged = records[0]
    for folder, record in zip(folders[1:], records[1:], strict=True):
        _check_alike(folders[0], merged, folder, record)
        merged = _joined_records(merged, record)
    for experiment in merged["experiments"].values():
        for table in experiment["tables"]:
            rows, left_out = _joined_tables([_read_rows(folder, table) for folder in folders])
            experiment["tables"][table] = len(rows)
            if rows:
                write_table(out / f"{table}.csv", rows, left_out)
    (out / RECORD).write_text(json.dumps(merged, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_results(out)
    draw_results(out)
    _write_pages(out, merged)
    return merged


def write_results(folder: Path) -> None:
    """Write all tables of a folder as one JSON file.

    Its ``provenance`` is that of the command that writes it; ``runs`` has that
    of each run whose tables are in the folder. Undefined figures are null.

    Raises
    ------
    DataError
        When the folder has no results, or cannot be written.
    """
    record = read_record(folder)
    tables = _all_tables(folder, record)
    result = {
        **{key: record[key] for key in _CONDITIONS if key in record},
        "tables": {table: [_defined(row) for row in rows] for table, rows in tables.items()},
        "runs": [run["provenance"] for run in record["runs"] if "provenance" in run],
    }
    write_result(folder / RESULTS, result, record["seeds"])


def result_summary(folder: Path) -> list[str]:
    """Whether the cascade meets each target, and where a baseline is above it.

    Raises
    ------
    DataError
        When the folder has no results.
    """
    record = read_record(folder)
    tables = _all_tables(folder, record)
    return [*met(targets(tables, _optics(record))), *comparison_summary(compare_with_baselines(tables))]


def _write_pages(folder: Path, record: Record) -> None:
    """Page of all tables, and whether the cascade is above every baseline at every point."""
    tables = _all_tables(folder, record)
    comparison = compare_with_baselines(tables)
    if comparison:
        write_table(folder / f"{_COMPARISON}.csv", comparison, {})
    text = page(tables, comparison, targets(tables, _optics(record)))
    (folder / _PAGE).write_text(text, encoding="utf-8")


def _all_tables(folder: Path, record: Record) -> dict[str, list[Row]]:
    names = [table for experiment in record["experiments"].values() for table in experiment["tables"]]
    return {table: _read_rows(folder, table)[0] for table in names}


def _defined(row: Row) -> Row:
    """The row with None for figures that are not finite, which JSON does not have."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _optics(record: Record) -> dict[str, str]:
    return {name: experiment["optics"] for name, experiment in record["experiments"].items()}


def read_record(folder: Path) -> Record:
    """Record of a folder of results.

    Raises
    ------
    DataError
        When there is none, or it is damaged or of another version.
    """
    path = folder / RECORD
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(record["experiments"]) - set(EXPERIMENTS)
        complete = {*_SHARED, "microscopes", "left_out", "runs"} <= set(record) and not unknown
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} holds no results: {RECORD} is missing or unreadable.",
            "Name folders that `bathyscope reproduce` wrote.",
        ) from error
    if not complete:
        raise DataError(
            f"{path} was written by another version of Bathyscope, or changed.", "Run the experiments again."
        )
    return record


def _read_rows(folder: Path, table: str) -> tuple[list[Row], dict[str, str]]:
    """A table that nothing was written to has no file."""
    path = folder / f"{table}.csv"
    return read_table(path) if path.is_file() else ([], {})


def _check_alike(first: Path, merged: Record, folder: Path, record: Record) -> None:
    different = [f"{key} ({merged[key]} and {record[key]})" for key in _SHARED if merged[key] != record[key]]
    for kind, microscope in record["microscopes"].items():
        known = merged["microscopes"].get(kind, microscope)
        different += [
            f"{key} of the {kind} optics ({known[key]} and {microscope[key]})"
            for key in microscope
            if known.get(key) != microscope[key]
        ]
    if different:
        raise DataError(
            f"{first} and {folder} differ in {', '.join(different)}: their methods did not have the same frames.",
            "Run both with the same --seed, --optics, --quick and --calibration.",
        )


def _joined_records(one: Record, other: Record) -> Record:
    experiments = {name: {**each, "tables": dict(each["tables"])} for name, each in one["experiments"].items()}
    for name, each in other["experiments"].items():
        known = experiments.setdefault(name, {**each, "tables": {}})
        known["tables"] |= each["tables"]
    return one | {
        "microscopes": one["microscopes"] | other["microscopes"],
        "left_out": _still_out(
            one["left_out"] | other["left_out"], {m for record in (one, other) for m in _methods(record)}
        ),
        # In the order in which experiments are listed, whatever the order of the folders.
        "experiments": {name: experiments[name] for name in EXPERIMENTS if name in experiments},
        "runs": [*one["runs"], *other["runs"]],
    }


def _methods(record: Record) -> list[str]:
    return [each["method"] for run in record["runs"] for methods in run["methods"].values() for each in methods]


def _still_out(left_out: dict[str, str], measured: set[str]) -> dict[str, str]:
    return {method: reason for method, reason in left_out.items() if method not in measured}


def _joined_tables(parts: Sequence[tuple[list[Row], dict[str, str]]]) -> tuple[list[Row], dict[str, str]]:
    """Rows of all parts, methods in the order of their first appearance, each from the last part that has it."""
    rows: dict[str, list[Row]] = {}
    left_out: dict[str, str] = {}
    for part, missing in parts:
        mine: dict[str, list[Row]] = {}
        for row in part:
            mine.setdefault(row["method"], []).append(row)
        # Updating keeps the place of a method that is known.
        rows.update(mine)
        left_out |= missing
    return [row for each in rows.values() for row in each], _still_out(left_out, set(rows))


def _caption(record: Record, kind: str) -> str:
    size = "QUICK SIZE, few frames. " if record["quick"] else ""
    return (
        f"{size}Simulated frames of 10x/0.45, 0.65 µm/px; {record['microscopes'][kind]['label']}. "
        f"Match: optimal, gated in 3D. Seed {record['seeds']['judging']}."
    )
