"""Pages of a list, newest first.

A cursor is the key of the last item of the page before: items that arrive
meanwhile appear at the top and never shift the pages below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import DataError

__all__ = ["MOST_KEY", "Page", "parse_cursor"]

MOST_KEY = 2**63 - 1
"""Largest integer of a database column."""

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
    if cursor is None:
        return MOST_KEY
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor[:20]) > MOST_KEY:
        raise DataError(
            f"cursor {cursor[:40]!r} is none that a list gave.", "Use the 'next' of the page before, or leave it out."
        )
    return int(cursor)
