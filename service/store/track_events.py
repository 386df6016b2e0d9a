"""Merges and splits of the tracks of a run: one row each, numbered within the revision of the tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select

from models.tables import TrackEvents
from service.store.database import Database
from service.store.pages import MOST_KEY, cursor_numbers
from service.store.runs import run_key
from service.store.schema import EVENT_COLUMNS, track_events
from service.store.tracks import chosen_revision

__all__ = ["RunTrackEvents", "TrackEventPage", "add_track_events"]

_ROWS_AT_ONCE = 10_000
"""Events held in memory by one step of a stream."""


@dataclass(frozen=True, slots=True)
class TrackEventPage:
    """A page of events, newest first.

    Attributes
    ----------
    revision : of the tracks
    ids : numbers of the events, falling
    events : in the order of `ids`
    next : cursor of the next page; None: this was the last
    """

    revision: int
    ids: list[int]
    events: TrackEvents
    next: str | None


class RunTrackEvents:
    """The merges and splits of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self, run_id: str, limit: int = 100, cursor: str | None = None, *, revision: int | None = None
    ) -> TrackEventPage:
        """At most `limit` events, newest first, of one revision of the tracks; None: the newest complete one.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no tracks of this revision.
        DataError
            When no list returned `cursor`, or it is of another revision.
        """
        of_cursor, below = (None, MOST_KEY) if cursor is None else cursor_numbers(cursor, 2)
        with self._database.reading() as connection:
            key = run_key(connection, run_id)
            chosen = chosen_revision(connection, run_id, key, revision, of_cursor)
            query = select(track_events).where(*_of(key, chosen), track_events.c.sequence < below)
            rows = connection.execute(query.order_by(track_events.c.sequence.desc()).limit(limit + 1)).all()
        shown = rows[:limit]
        more = f"{chosen}.{shown[-1].sequence}" if len(rows) > limit else None
        return TrackEventPage(chosen, [row.sequence for row in shown], _table(shown), more)

    def stream(self, run_id: str, revision: int) -> Iterator[TrackEvents]:
        """All events of one revision in the order of their writing, in parts.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no tracks of this revision.
        """
        written = -1
        while True:
            with self._database.reading() as connection:
                key = run_key(connection, run_id)
                chosen_revision(connection, run_id, key, revision, None)
                query = select(track_events).where(
                    track_events.c.run_key == key,
                    track_events.c.revision == revision,
                    track_events.c.sequence > written,
                )
                rows = connection.execute(query.order_by(track_events.c.sequence).limit(_ROWS_AT_ONCE)).all()
            if not rows:
                return
            yield _table(rows)
            written = rows[-1].sequence


def add_track_events(connection: Connection, key: int, revision: int, found: TrackEvents) -> None:
    """Write events of the tracks of one revision."""
    if not len(found):
        return
    last = connection.scalar(select(func.max(track_events.c.sequence)).where(*_of(key, revision)))
    first = 0 if last is None else last + 1
    columns = [column.tolist() for column in found.columns().values()]
    rows = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
    head = {"run_key": key, "revision": revision}
    connection.execute(
        insert(track_events), [{**head, "sequence": number, **row} for number, row in enumerate(rows, first)]
    )


def _of(key: int, revision: int) -> tuple[ColumnElement[bool], ...]:
    return track_events.c.run_key == key, track_events.c.revision == revision


def _table(rows: Sequence[Row[Any]]) -> TrackEvents:
    if not rows:
        return TrackEvents.empty()
    return TrackEvents.from_columns({name: [getattr(row, name) for row in rows] for name in EVENT_COLUMNS})
