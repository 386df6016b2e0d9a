"""Tables with one line for each row or record, and their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.report.markdown import number, plain, table

__all__ = ["Column", "joined", "listed", "plainly", "shown"]

Column = tuple[str, Callable[[Mapping[str, Any]], str]]
"""Title, and the text of a row."""


def shown(name: str, digits: int | None = None) -> Callable[[Mapping[str, Any]], str]:
    """Value of a row; a dotted name leads into it."""

    def cell(row: Mapping[str, Any]) -> str:
        value = _value(row, name)
        return plain(value) if digits is None or isinstance(value, str) else number(value, digits)

    return cell


def joined(*names: str) -> Callable[[Mapping[str, Any]], str]:
    """Values of a row with slashes between them."""
    return lambda row: " / ".join(plain(_value(row, name)) for name in names)


def _value(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def listed(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    """Table with one line a row."""
    return (
        [table([title for title, _ in columns], [[cell(row) for _, cell in columns] for row in rows])] if rows else []
    )


def plainly(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Table of rows whose keys are the titles."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [table(keys, [[plain(row.get(key)) for key in keys] for row in rows])] if rows else []
