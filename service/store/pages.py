"""Pages of a list, newest first.

A cursor is the key of the last item of the page before: items that arrive
meanwhile appear at the top and never shift the pages below. A cursor of
tracks has several numbers, the first of which is their revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import DataError

__all__ = ["MOST_KEY", "Page", "cursor_numbers", "parse_cursor"]

MOST_KEY = 2**63 - 1
"""Largest integer of a database column."""

_DIGITS = len(str(MOST_KEY))

_SHOWN = 80
"""Characters of a cursor in a message."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items, newest first, and the cursor of the next page (None: this was the last)."""

    items: list[Item]
    next: str | None


def parse_cursor(cursor: str | None) -> int:
    """The key below which the page begins.

    Raises
    ------
    DataError
        When `cursor` was not given out by a list.
    """
    return MOST_KEY if cursor is None else cursor_numbers(cursor, 1)[0]


def cursor_numbers(cursor: str, *counts: int) -> tuple[int, ...]:
    """The numbers of a cursor; `counts` are the allowed counts of numbers.

    Raises
    ------
    DataError
        When `cursor` was not given out by a list.
    """
    parts = cursor.split(".")
    if len(parts) not in counts or not all(_is_key(part) for part in parts):
        raise DataError(
            f"cursor {cursor[:_SHOWN]!r} is not one that a list returned.",
            "Use the 'next' of the page before, or leave it out.",
        )
    return tuple(int(part) for part in parts)


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= MOST_KEY
