"""Copies of recordings: which are due, and how far each is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from service.store.database import Database
from service.store.errors import InUse
from service.store.recording_copy import CopyState, RecordingCopy, copy_of
from service.store.runs import run_key
from service.store.schema import runs

__all__ = ["Copies", "CopyCounts", "RecordedRun"]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """An ended run with a recording on the local disk.

    Attributes
    ----------
    run_id : str
    recording : path relative to the data directory
    ended_s : Unix seconds
    copy : None before the first attempt
    """

    run_id: str
    recording: str
    ended_s: float
    copy: RecordingCopy | None


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """How many recordings are in each state of their copy; those that were not begun are waiting."""

    counts: Mapping[CopyState, int]
    oldest_waiting_s: float | None


class Copies:
    """The copies of the recordings of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self) -> list[RecordedRun]:
        """Ended runs with a recording whose copy is not verified, oldest first; none that is being deleted."""
        return [run for run in self._recorded() if run.copy is None or run.copy.state != "verified"]

    def recorded(self, run_id: str) -> RecordedRun:
        """One ended run with a recording.

        Raises
        ------
        UnknownItem
            When there is no such run.
        InUse
            When it is on, or its recording is not on the local disk.
        """
        with self._database.reading() as connection:
            run_key(connection, run_id)
        for run in self._recorded():
            if run.run_id == run_id and (run.copy is None or run.copy.freed_at is None):
                return run
        raise InUse(
            f"Run {run_id} is on, or has no recording on the local disk.",
            "Only recordings of ended runs are copied; GET /api/v1/runs/RUN says where one is.",
        )

    def counts(self) -> CopyCounts:
        """States of all copies, and the end of the oldest run whose copy is not verified, Unix seconds."""
        counts: dict[CopyState, int] = {"waiting": 0, "copying": 0, "verified": 0, "failed": 0}
        oldest = None
        for run in self._recorded():
            state: CopyState = "waiting" if run.copy is None else run.copy.state
            counts[state] += 1
            if state != "verified":
                oldest = run.ended_s if oldest is None else min(oldest, run.ended_s)
        return CopyCounts(counts, oldest)

    def note(self, run_id: str, state: CopyState, **values: Any) -> None:
        """Write the state of a copy; the other values are fields of `RecordingCopy`, and stay where not given.

        Raises
        ------
        UnknownItem
            When there is no such run.
        InUse
            When its recording is being deleted, or was.
        """
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            row = connection.execute(
                select(runs.c.recording, runs.c.removal, runs.c.recording_copy).where(runs.c.key == key)
            ).one()
            if row.recording is None or row.removal is not None:
                raise InUse(f"The recording of run {run_id} is being deleted.", "Nothing is left to do.")
            given = dict(row.recording_copy or {}) | {"problem": None} | values | {"state": state}
            if state == "verified":
                given["verified_at"] = time.time()
            _write(connection, key, given)

    def _recorded(self) -> list[RecordedRun]:
        query = (
            select(runs.c.id, runs.c.recording, runs.c.started_at, runs.c.ended_at, runs.c.recording_copy)
            .where(runs.c.state != "running", runs.c.recording.is_not(None), runs.c.removal.is_(None))
            .order_by(runs.c.key)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            RecordedRun(
                row.id,
                row.recording,
                float(row.started_at if row.ended_at is None else row.ended_at),
                copy_of(row.recording_copy, row.id),
            )
            for row in rows
        ]


def _write(connection: Connection, key: int, values: dict[str, Any]) -> None:
    connection.execute(update(runs).where(runs.c.key == key).values(recording_copy=values))
