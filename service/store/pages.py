"""Pages of a list, newest first.

A cursor is the key of the last item of the page before: items that arrive
meanwhile appear at the top and never shift the pages below. A cursor of
tracks has several numbers, the first of which is their revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import DataError

__all__ = ["LONGEST_CURSOR", "MOST_KEY", "Page", "cursor_numbers", "parse_cursor", "refused_cursor"]

MOST_KEY = 2**63 - 1
"""Largest integer of a database column."""

LONGEST_CURSOR = 64
"""Ids have up to 64 characters; three numbers of 64 bits have 62 with their dots."""

_SHOWN = 80

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
    """The numbers of a cursor, which has as many as one of `counts` says.

    Raises
    ------
    DataError
        When `cursor` was not given out by a list.
    """
    parts = cursor.split(".")
    fitting = len(cursor) <= LONGEST_CURSOR and len(parts) in counts
    if not fitting or not all(part.isascii() and part.isdigit() and int(part) <= MOST_KEY for part in parts):
        raise refused_cursor(cursor)
    return tuple(int(part) for part in parts)


def refused_cursor(cursor: str) -> DataError:
    """The error for a cursor that no list of this kind gave."""
    return DataError(
        f"cursor {cursor[:_SHOWN]!r} is none that a list gave.", "Use the 'next' of the page before, or leave it out."
    )
