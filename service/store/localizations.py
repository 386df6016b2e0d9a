"""Localizations of a run: one blob per batch, read as a whole or by a window of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, func, insert, select

from models.tables import Localizations
from service.store.blobs import pack, unpack
from service.store.database import Database
from service.store.errors import UnknownItem
from service.store.pages import Page, parse_cursor
from service.store.runs import run_key
from service.store.schema import batches

__all__ = ["Batch", "RunLocalizations", "add_batch", "frame_range"]

_BATCHES_AT_ONCE = 500
"""50 s of a run."""

_ROWS_AT_ONCE = 20_000
"""Localizations of one part: 2 MB, so that a long export holds neither memory nor a view of the database."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Localizations of a few frames by one model; times in s from the start of the run."""

    sequence: int
    frame_from: int
    frame_to: int
    t_from_s: float
    t_to_s: float
    model_id: str
    localizations: Localizations


class RunLocalizations:
    """The localizations of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, run_id: str, t_from_s: float | None = None, t_to_s: float | None = None) -> Localizations:
        """All localizations of a run in the order of the frames, or those of the batches that touch a window of time.

        Times in seconds from the start of the run; a batch is 100 ms.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        found = Localizations.concatenate(self.stream(run_id, t_from_s, t_to_s))
        return found.select(np.argsort(found.frame, kind="stable"))

    def list(
        self,
        run_id: str,
        limit: int = 100,
        cursor: str | None = None,
        *,
        t_from_s: float | None = None,
        t_to_s: float | None = None,
        most_rows: int | None = None,
    ) -> Page[Batch]:
        """At most `limit` batches, newest first, of those that touch a window of time.

        With `most_rows` the page ends before the batch with which its
        localizations would exceed that number; it always has one batch.

        Raises
        ------
        UnknownItem
            When there is no such run.
        DataError
            When no list returned `cursor`.
        """
        below = parse_cursor(cursor)
        with self._database.reading() as connection:
            key = run_key(connection, run_id)
            sizes = _window(select(batches.c.sequence, batches.c.rows), key, t_from_s, t_to_s)
            sizes = sizes.where(batches.c.sequence < below).order_by(batches.c.sequence.desc()).limit(limit + 1)
            found = connection.execute(sizes).all()
            shown = _fitting(found[:limit], most_rows)
            rows = _read(connection, _window(select(batches), key, t_from_s, t_to_s), shown)
        items = [
            Batch(row.sequence, row.frame_from, row.frame_to, row.t_from_s, row.t_to_s, row.model_id, unpack(row.data))
            for row in reversed(rows)
        ]
        return Page(items, str(shown[-1]) if len(shown) < len(found) else None)

    def stream(
        self, run_id: str, t_from_s: float | None = None, t_to_s: float | None = None
    ) -> Iterator[Localizations]:
        """As `read`, in parts and in the order of their writing: frames that were deferred come last.

        Batches never change, so those that are there at the beginning are
        the same to the end; what is written meanwhile is left out. No
        transaction is open between the parts.

        Raises
        ------
        UnknownItem
            When there is no such run, or it was deleted meanwhile.
        """
        with self._database.reading() as connection:
            key = run_key(connection, run_id)
            last = connection.scalar(select(func.max(batches.c.sequence)).where(batches.c.run_key == key))
        written = -1
        while last is not None and written < last:
            sizes = _window(select(batches.c.sequence, batches.c.rows), key, t_from_s, t_to_s)
            sizes = sizes.where(batches.c.sequence > written, batches.c.sequence <= last).order_by(batches.c.sequence)
            with self._database.reading() as connection:
                if run_key(connection, run_id) != key:
                    raise UnknownItem(f"Run {run_id} was deleted meanwhile.", "GET /api/v1/runs lists the others.")
                found = connection.execute(sizes.limit(_BATCHES_AT_ONCE)).all()
                shown = _fitting(found, _ROWS_AT_ONCE)
                rows = _read(connection, _window(select(batches), key, t_from_s, t_to_s), shown)
            if not rows:
                return
            yield Localizations.concatenate([unpack(row.data) for row in rows])
            written = shown[-1]


def _fitting(found: Sequence[Row[Any]], most_rows: int | None) -> list[int]:
    """Numbers of the first batches whose rows are together no more than `most_rows`; always one."""
    count = len(found)
    if most_rows is not None and count:
        total = np.cumsum([row.rows for row in found])
        count = max(1, int(np.searchsorted(total, most_rows, side="right")))
    return [row.sequence for row in found[:count]]


def _read(connection: Connection, query: Select[Any], shown: Sequence[int]) -> Sequence[Row[Any]]:
    """The batches of `query` from the lowest to the highest of the numbers `shown`, in rising order."""
    if not shown:
        return []
    query = query.where(batches.c.sequence.between(min(shown), max(shown))).order_by(batches.c.sequence)
    return connection.execute(query).all()


def add_batch(
    connection: Connection,
    key: int,
    localizations: Localizations,
    frames: tuple[int, int],
    t_s: tuple[float, float],
    model_id: str,
) -> int:
    """Write one batch: its first and last frame, and their times (s from the start of the run). Return its number."""
    last = connection.scalar(select(func.max(batches.c.sequence)).where(batches.c.run_key == key))
    sequence = 0 if last is None else last + 1
    connection.execute(
        insert(batches).values(
            run_key=key,
            sequence=sequence,
            frame_from=frames[0],
            frame_to=frames[1],
            t_from_s=t_s[0],
            t_to_s=t_s[1],
            model_id=model_id,
            rows=len(localizations),
            data=pack(localizations),
        )
    )
    return sequence


def frame_range(
    connection: Connection, key: int, t_from_s: float | None, t_to_s: float | None
) -> tuple[int, int] | None:
    """First and last frame of the batches that touch a window of time; None when there is none."""
    query = _window(select(func.min(batches.c.frame_from), func.max(batches.c.frame_to)), key, t_from_s, t_to_s)
    low, high = connection.execute(query).one()
    return None if low is None else (low, high)


def _window(query: Select[Any], key: int, t_from_s: float | None, t_to_s: float | None) -> Select[Any]:
    query = query.where(batches.c.run_key == key)
    if t_from_s is not None:
        query = query.where(batches.c.t_to_s >= t_from_s)
    return query if t_to_s is None else query.where(batches.c.t_from_s <= t_to_s)
