"""Rows of the database as items of a list; a damaged row does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import Row

from service.store.errors import StoreError
from service.store.pages import Page

__all__ = ["damaged_row", "moment", "page_of"]

_log = structlog.get_logger(__name__)

Item = TypeVar("Item")


def page_of(rows: Sequence[Row[Any]], limit: int, key: str, build: Callable[[Row[Any]], Item]) -> Page[Item]:
    """The first `limit` rows as items, without those that `build` finds damaged; `key` names the cursor's column."""
    items = []
    for row in rows[:limit]:
        try:
            items.append(build(row))
        except StoreError as error:
            _log.warning("damaged_row", problem=error.problem, remedy=error.remedy)
    return Page(items, str(getattr(rows[limit - 1], key)) if len(rows) > limit else None)


def damaged_row(kind: str, item: object, column: str) -> StoreError:
    """The error for a row that cannot be read."""
    return StoreError(
        f"The row of {kind} {str(item)[:80]} in the database is damaged: {column} cannot be read.",
        "Restore a backup; the other rows are not concerned.",
    )


def moment(unix_s: object, kind: str, item: object) -> datetime:
    """A column of Unix seconds as UTC.

    Raises
    ------
    StoreError
        When it is no time.
    """
    try:
        return datetime.fromtimestamp(unix_s, UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        raise damaged_row(kind, item, f"the time {str(unix_s)[:40]}") from None
