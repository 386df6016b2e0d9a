"""Events for the user: a device lost and found, frames dropped, a run interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from service.store.database import Database
from service.store.pages import Page, parse_cursor
from service.store.rows import damaged_row, moment, page_of
from service.store.schema import events

__all__ = ["Event", "Events"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its kind is a short machine-readable name, its message a sentence for the user."""

    id: int
    occurred_at: datetime
    kind: str
    message: str
    run_id: str | None
    details: dict[str, Any]


class Events:
    """The table of events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        kind: str,
        message: str,
        *,
        run_id: str | None = None,
        details: Mapping[str, Any] | None = None,
        occurred_at: float | None = None,
    ) -> int:
        """Store an event; `occurred_at` in Unix seconds, now by default. Return its id."""
        values = {
            "occurred_at": time.time() if occurred_at is None else occurred_at,
            "kind": kind,
            "message": message,
            "run_id": run_id,
            "details": dict(details or {}),
        }
        with self._database.writing() as connection:
            return int(connection.execute(insert(events).values(values).returning(events.c.id)).scalar_one())

    def list(
        self, limit: int = 100, cursor: str | None = None, *, kind: str | None = None, run_id: str | None = None
    ) -> Page[Event]:
        """At most `limit` events, newest first, of one kind or run where given; one whose row is damaged is left out.

        Raises
        ------
        DataError
            When no list returned `cursor`.
        """
        query = select(events).where(events.c.id < parse_cursor(cursor)).order_by(events.c.id.desc()).limit(limit + 1)
        if kind is not None:
            query = query.where(events.c.kind == kind)
        if run_id is not None:
            query = query.where(events.c.run_id == run_id)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return page_of(rows, limit, "id", _event)


def _event(row: Row[Any]) -> Event:
    if not isinstance(row.details, dict):
        raise damaged_row("event", row.id, "details")
    occurred_at = moment(row.occurred_at, "event", row.id)
    return Event(row.id, occurred_at, row.kind, row.message, row.run_id, row.details)
