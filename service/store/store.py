"""The store: results of all runs of one data directory, in a database that survives a killed process.

The engine appends a batch of 100 ms in one transaction: localizations,
track points, and the ledger that accounts for every frame until then. So
the ledger in the database is the commit record: the results of all frames
that it counts as analysed are stored. All calls block; the HTTP layer makes them in threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sqlalchemy import select, update

from models.tables import Tracks
from service.store.audit import Audit
from service.store.catch_ups import CatchUps
from service.store.copies import Copies
from service.store.database import Database
from service.store.events import Events
from service.store.frames import RunFrames, add_analysed
from service.store.localizations import RunLocalizations, add_batch
from service.store.removals import Removals
from service.store.result_batch import ResultBatch
from service.store.runs import RunFigures, Runs, run_key
from service.store.schema import LIVE_REVISION, runs
from service.store.track_events import RunTrackEvents, add_track_events
from service.store.tracks import RunTracks, add_points

__all__ = ["Store"]


class Store:
    """Runs, localizations, tracks and events of one data directory.

    Attributes
    ----------
    runs : Runs
    tracks : RunTracks
    track_events : RunTrackEvents
    localizations : RunLocalizations
    frames : RunFrames
    catch_ups : CatchUps
    removals : Removals
    copies : Copies
    events : Events
    audit : Audit
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.runs = Runs(database)
        self.tracks = RunTracks(database)
        self.track_events = RunTrackEvents(database)
        self.localizations = RunLocalizations(database)
        self.frames = RunFrames(database)
        self.catch_ups = CatchUps(database)
        self.removals = Removals(database)
        self.copies = Copies(database)
        self.events = Events(database)
        self.audit = Audit(database)

    @classmethod
    def open(cls, where: str | Path) -> Self:
        """Open the database at a path (SQLite) or URL; nothing is read or written yet.

        Raises
        ------
        StoreError
            When the URL is not understood or its driver is not installed.
        """
        return cls(Database(where))

    @property
    def location(self) -> str:
        """Path or URL of the database, without its password."""
        return self._database.location

    def migrate(self) -> None:
        """Make or upgrade the tables; the supervisor does so before it starts the engine and the API.

        Raises
        ------
        StoreError
            When the database cannot be opened, or a newer version has changed it.
        """
        # Only the supervisor needs Alembic; engine and API start without it.
        from service.store.migration import migrate

        migrate(self._database)

    def check(self) -> None:
        """Read one row.

        Raises
        ------
        StoreError
            When the database does not respond.
        """
        with self._database.reading() as connection:
            connection.execute(select(runs.c.key).limit(1)).all()

    def append(
        self, run_id: str, batch: ResultBatch, ledger: Mapping[str, int | None], figures: RunFigures | None = None
    ) -> None:
        """Write one batch in one transaction: when this returns, it survives the death of the process.

        Parameters
        ----------
        run_id : str
            The run.
        batch : ResultBatch
            Localizations and events of tracks, and track points of these frames or of earlier ones.
        ledger : mapping
            Frames so far by what became of them (`service.store.runs.LEDGER_KEYS`).
        figures : RunFigures, optional
            Speed and latencies of the run so far.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database is locked for longer than the busy timeout, or cannot be written.
        DataError
            When the batch does not state its frames.
        """
        frames = batch.frame_range()
        progress = {"ledger": dict(ledger), "committed_at": time.time(), **(figures or RunFigures()).given()}
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            default = connection.scalar(select(runs.c.model_id).where(runs.c.key == key))
            model_id = batch.model_id or str(default)
            sequence = add_batch(connection, key, batch.localizations, frames, batch.t_s, model_id)
            if batch.analysed is not None:
                add_analysed(connection, key, sequence, batch.analysed)
            add_points(connection, key, LIVE_REVISION, batch.tracks)
            add_track_events(connection, key, LIVE_REVISION, batch.events)
            connection.execute(update(runs).where(runs.c.key == key).values(progress))

    def append_points(self, run_id: str, points: Tracks) -> None:
        """Write points of live tracks in frames that are stored already.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database cannot be written, or has these points already.
        """
        with self._database.writing() as connection:
            add_points(connection, run_key(connection, run_id), LIVE_REVISION, points)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
