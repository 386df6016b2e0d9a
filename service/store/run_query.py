"""Which runs a list has, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from models.errors import DataError
from service.store.pages import parse_cursor
from service.store.schema import runs

__all__ = ["RunOrder", "RunQuery", "RunState", "is_kept", "rows_of_runs"]

RunState = Literal["running", "finished", "interrupted", "failed"]

RunOrder = Literal["newest", "oldest", "name", "longest"]
"""``longest``: by the time from start to end, or to the last commit of a run that has not ended."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Selection and order of runs; None selects all.

    Attributes
    ----------
    search : text in id, name or notes, in small or capital letters
    state : of the run
    model_id : with which it began
    recorded : whether it has a recording
    started_from, started_to : window of its start, ends included
    order : of the list
    """

    search: str | None = None
    state: RunState | None = None
    model_id: str | None = None
    recorded: bool | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None
    order: RunOrder = "newest"


def is_kept() -> ColumnElement[bool]:
    """The condition that a run is not being deleted. Its recording may be."""
    return func.coalesce(runs.c.removal, "") != "run"


def rows_of_runs(connection: Connection, query: RunQuery, count: int, cursor: str | None) -> Sequence[Row[Any]]:
    """The first `count` rows of a selection after the run whose key is `cursor`.

    Raises
    ------
    DataError
        When no list returned `cursor`, or its run was deleted.
    """
    column, rising = _orders()[query.order]
    rows = select(runs).where(is_kept(), *_conditions(query))
    if cursor is not None:
        rows = rows.where(_behind(connection, query.order, parse_cursor(cursor)))
    order = (column.asc(), runs.c.key.asc()) if rising else (column.desc(), runs.c.key.desc())
    return connection.execute(rows.order_by(*order).limit(count)).all()


def _orders() -> dict[RunOrder, tuple[ColumnElement[Any], bool]]:
    """The column of each order, and whether it rises; equal values are ordered by their keys in the same direction."""
    duration = func.coalesce(runs.c.ended_at, runs.c.committed_at, runs.c.started_at) - runs.c.started_at
    return {
        "newest": (runs.c.key, False),
        "oldest": (runs.c.key, True),
        "name": (func.lower(runs.c.name), True),
        "longest": (duration, False),
    }


def _behind(connection: Connection, order: RunOrder, key: int) -> ColumnElement[bool]:
    """The condition that a run comes after the one with `key`."""
    column, rising = _orders()[order]
    beyond = runs.c.key > key if rising else runs.c.key < key
    if column is runs.c.key:
        return beyond
    found = connection.execute(select(column).where(runs.c.key == key)).one_or_none()
    if found is None:
        raise DataError(f"The run of cursor {key} was deleted meanwhile.", "Begin the list again, without a cursor.")
    value = found[0]
    return or_(column > value if rising else column < value, and_(column == value, beyond))


def _conditions(query: RunQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if query.search is not None:
        texts = (runs.c.id, runs.c.name, runs.c.notes)
        wanted.append(or_(*(text.icontains(query.search, autoescape=True) for text in texts)))
    if query.state is not None:
        wanted.append(runs.c.state == query.state)
    if query.model_id is not None:
        wanted.append(runs.c.model_id == query.model_id)
    if query.recorded is not None:
        has_recording = and_(runs.c.recording.is_not(None), func.coalesce(runs.c.removal, "local") == "local")
        wanted.append(has_recording if query.recorded else ~has_recording)
    if query.started_from is not None:
        wanted.append(runs.c.started_at >= query.started_from.timestamp())
    if query.started_to is not None:
        wanted.append(runs.c.started_at <= query.started_to.timestamp())
    return wanted
