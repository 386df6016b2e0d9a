"""Deletion of runs, or of their recordings, in small steps.

The first step notes in the run what is to be deleted; from then on readers do
not find it. The rows follow in short transactions, because a long run has
millions and a long transaction would block the engine. After a kill the work
continues where it ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Table, delete, select, tuple_, update

from service.store.database import Database
from service.store.errors import InUse
from service.store.recording_copy import RecordingCopy, copy_of
from service.store.runs import run_key
from service.store.schema import analysed_frames, batches, points, recorded_frames, runs, track_events, tracks

__all__ = ["Removable", "Removal", "RemovalPart", "Removals"]

RemovalPart = Literal["run", "recording", "local"]
"""A run with all that belongs to it, its recording, or only the local files of a recording that has a verified copy."""

_ROWS_PER_STEP = 20_000
"""Rows of points that are deleted in one transaction, which blocks other writers for some 50 ms."""

_BLOBS_PER_STEP = 200
"""The same for rows with a blob, which has up to some 100 kB."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be deleted.

    Attributes
    ----------
    run_id : of the run
    part : what of the run
    recording : path of its recording relative to the data directory; None without one
    copy : of the recording; None without one
    """

    run_id: str
    part: RemovalPart
    recording: str | None
    copy: RecordingCopy | None = None


@dataclass(frozen=True, slots=True)
class Removable:
    """An ended run, for the choice of what to delete.

    Attributes
    ----------
    run_id, name : of the run
    ended_s : Unix seconds of its end, or of its last commit
    recording : path of its recording relative to the data directory; None without one
    catches_up : whether it has frames that may still be analysed, or tracks to be smoothed
    copy : of the recording; None without one
    """

    run_id: str
    name: str
    ended_s: float
    recording: str | None
    catches_up: bool
    copy: RecordingCopy | None = None


class Removals:
    """The deletions of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def removable(self) -> list[Removable]:
        """All runs that have ended and are not being deleted, oldest first."""
        query = select(runs).where(runs.c.state != "running", runs.c.removal.is_(None)).order_by(runs.c.key)
        with self._database.reading() as connection:
            return [_removable(row) for row in connection.execute(query)]

    def request(self, run_id: str, part: RemovalPart = "run") -> Removal:
        """Note that a run or its recording is to be deleted; readers do not find it any more.

        Raises
        ------
        UnknownItem
            When there is no such run.
        InUse
            When the run is on, or for the local files when they are all there is.
        """
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            row = connection.execute(select(runs).where(runs.c.key == key)).one()
            if row.state == "running":
                raise InUse(f"Run {run_id} is on.", "Stop it first.")
            copy = copy_of(row.recording_copy, run_id)
            values: dict[str, Any] = {"removal": part, "catch_up": None}
            if part == "local":
                if row.removal is not None or copy is None or copy.state != "verified":
                    raise InUse(f"Run {run_id} has no verified copy of its recording.", "Wait until it is copied.")
                values = {"removal": part, "recording_copy": {**row.recording_copy, "freed_at": time.time()}}
            connection.execute(update(runs).where(runs.c.key == key).values(values))
        return Removal(run_id, part, row.recording, copy)

    def pending(self) -> list[Removal]:
        """What is noted and not deleted yet, oldest first."""
        query = select(runs.c.id, runs.c.removal, runs.c.recording).where(runs.c.removal.is_not(None))
        with self._database.reading() as connection:
            return [Removal(*row) for row in connection.execute(query.order_by(runs.c.key))]

    def step(self, removal: Removal) -> bool:
        """Delete some rows of a removal whose files are gone; False when nothing is left to delete."""
        here = (runs.c.id == removal.run_id) & (runs.c.removal == removal.part)
        with self._database.writing() as connection:
            key = connection.scalar(select(runs.c.key).where(here))
            if key is None:
                return False
            for table, count in _tables_of(removal.part):
                if _delete_some(connection, table, key, count):
                    return True
            if removal.part == "run":
                connection.execute(delete(runs).where(runs.c.key == key))
            elif removal.part == "local":
                connection.execute(update(runs).where(runs.c.key == key).values(removal=None))
            else:
                gone = {"removal": None, "recording": None, "recording_copy": None}
                connection.execute(update(runs).where(runs.c.key == key).values(gone))
        return False


def _tables_of(part: RemovalPart) -> tuple[tuple[Table, int], ...]:
    if part == "local":
        return ()
    if part == "recording":
        return ((recorded_frames, _BLOBS_PER_STEP),)
    rows = [(table, _ROWS_PER_STEP) for table in (points, tracks, track_events)]
    blobs = [(table, _BLOBS_PER_STEP) for table in (batches, analysed_frames, recorded_frames)]
    return (*rows, *blobs)


def _delete_some(connection: Connection, table: Table, key: int, count: int) -> bool:
    columns = list(table.primary_key.columns)
    some = select(*columns).where(table.c.run_key == key).limit(count)
    return bool(connection.execute(delete(table).where(tuple_(*columns).in_(some))).rowcount)


def _removable(row: Row[Any]) -> Removable:
    ended_s = row.ended_at if row.ended_at is not None else row.started_at
    copy = copy_of(row.recording_copy, row.id)
    return Removable(row.id, row.name, float(ended_s), row.recording, row.catch_up is not None, copy)
