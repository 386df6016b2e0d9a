"""The store: what the runs of one data directory found, in a database that survives a killed process.

The engine appends a batch of 100 ms in one transaction: localizations,
track points, and the ledger that accounts for every frame until then. So
the ledger in the database is the commit record: what it counts as analysed
is there. All calls block; the HTTP layer makes them in threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sqlalchemy import select, update

from models.errors import DataError
from models.tables import Localizations, Tracks
from service.store.catch_ups import CatchUps
from service.store.database import Database
from service.store.events import Events
from service.store.frames import FrameTimes, RunFrames, add_analysed
from service.store.localizations import RunLocalizations, add_batch
from service.store.runs import Runs, run_key
from service.store.schema import LIVE_REVISION, runs
from service.store.tracks import RunTracks, add_points

__all__ = ["Store"]


class Store:
    """Runs, localizations, tracks and events of one data directory.

    Attributes
    ----------
    runs : Runs
    tracks : RunTracks
    localizations : RunLocalizations
    frames : RunFrames
    catch_ups : CatchUps
    events : Events
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.runs = Runs(database)
        self.tracks = RunTracks(database)
        self.localizations = RunLocalizations(database)
        self.frames = RunFrames(database)
        self.catch_ups = CatchUps(database)
        self.events = Events(database)

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
        self,
        run_id: str,
        localizations: Localizations,
        tracks: Tracks,
        ledger: Mapping[str, int | None],
        t_s: tuple[float, float],
        *,
        frames: tuple[int, int] | None = None,
        analysed: FrameTimes | None = None,
        latency_ms: Mapping[str, Any] | None = None,
        stages: Mapping[str, Any] | None = None,
        fps: float | None = None,
        model_id: str | None = None,
    ) -> None:
        """Write one batch in one transaction: when this returns, it survives the death of the process.

        Parameters
        ----------
        run_id : str
            The run.
        localizations, tracks : Localizations, Tracks
            What was found; either may be empty.
        ledger : mapping
            Frames so far by what became of them (`service.store.runs.LEDGER_KEYS`).
        t_s : (float, float)
            Times of the first and last frame of the batch, s from the start of the run.
        frames : (int, int), optional
            Numbers of the first and last frame of the batch; taken from `analysed` or the rows when not given.
        analysed : FrameTimes, optional
            All frames of the batch, in their order; needed where frames may be analysed later.
        stages : mapping, optional
            Stage to how it is doing.
        latency_ms : mapping, optional
            Stage to quantiles so far, ms.
        fps : float, optional
            Frames analysed per second so far.
        model_id : str, optional
            The model that localized; default: the run's.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database is locked for longer than the busy timeout, or cannot be written.
        DataError
            When the batch is empty and neither `frames` nor `analysed` is given.
        """
        if frames is None:
            frames = _frames(localizations, tracks) if analysed is None else _ends(analysed)
        progress = {"ledger": dict(ledger), "committed_at": time.time()}
        progress |= {} if latency_ms is None else {"latency_ms": dict(latency_ms)}
        progress |= {} if stages is None else {"stages": dict(stages)}
        progress |= {} if fps is None else {"fps": fps}
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            default = connection.scalar(select(runs.c.model_id).where(runs.c.key == key))
            sequence = add_batch(connection, key, localizations, frames, t_s, model_id or str(default))
            if analysed is not None:
                add_analysed(connection, key, sequence, analysed)
            add_points(connection, key, LIVE_REVISION, tracks)
            connection.execute(update(runs).where(runs.c.key == key).values(progress))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()


def _ends(frames: FrameTimes) -> tuple[int, int]:
    return int(frames.numbers[0]), int(frames.numbers[-1])


def _frames(localizations: Localizations, tracks: Tracks) -> tuple[int, int]:
    numbers = np.concatenate([localizations.frame, tracks.frame])
    if not len(numbers):
        raise DataError("A batch without rows does not say which frames it is of.", "Give frames=(first, last).")
    return int(numbers.min()), int(numbers.max())
