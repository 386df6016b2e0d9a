"""Work on ended runs: analysis of frames that are recorded only, then tracks that are computed again.

The column `catch_up` of a run is ``"check"`` when it has ended and may have
such work, ``"due"`` when it has, until its tracks are recomputed, and NULL
otherwise. Each step here is one transaction, from whose result the work can
continue after a restart. Tracks that are being written have a revision that
is not read yet; the last step makes it the newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, select, tuple_, update

from models.tables import Localizations, TrackEvents, Tracks
from service.store.database import Database
from service.store.frames import FrameTimes, add_analysed, read_analysed, read_recorded
from service.store.localizations import add_batch
from service.store.runs import LEDGER_KEYS, run_key
from service.store.schema import points, runs, track_events, tracks
from service.store.track_events import add_track_events
from service.store.tracks import add_points

__all__ = ["CatchUps"]

_POINTS_PER_STEP = 20_000
"""Points that are deleted in one transaction, which blocks other writers for some 50 ms."""


_ROWS_PER_STEP = 20_000
"""Rows of tracks that are stored in one transaction: about 100 ms."""


class CatchUps:
    """The catch-ups of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self) -> list[str]:
        """Ids of the ended runs that may need a catch-up, oldest first."""
        wanted = runs.c.catch_up.is_not(None), runs.c.state != "running", runs.c.removal.is_(None)
        query = select(runs.c.id).where(*wanted).order_by(runs.c.key)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def examine(self, run_id: str, smooth: bool = False) -> bool:
        """Correct the ledger of an ended run from database and recording; return whether there is anything to do.

        There is when frames were deferred, or when the tracks are to be smoothed and frames were analysed.

        The ledger of a killed process is older than its last recorded frames:
        frames that were committed since are deferred, gaps between them lost.
        Frames that are in neither stay in flight: their fate is unknown.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            row = connection.execute(select(runs).where(runs.c.key == key)).one()
            if row.catch_up == "due":
                return True
            recorded = read_recorded(connection, key).frames.numbers
            analysed = [batch.frames.numbers for batch in read_analysed(connection, key)]
            known = np.concatenate([np.empty(0, np.int64), *analysed])
            late = np.setdiff1d(recorded, known)
            due = bool(len(late)) or (smooth and bool(len(known)))
            values: dict[str, Any] = {"catch_up": "due" if due else None}
            killed = row.state == "interrupted"
            if len(late) or (killed and len(recorded)):
                values["ledger"] = _corrected_ledger(row.ledger or {}, recorded, known, late, killed=killed)
            connection.execute(update(runs).where(runs.c.key == key).values(values))
        return due

    def append(
        self,
        run_id: str,
        localizations: Localizations,
        analysed: FrameTimes,
        t_s: tuple[float, float],
        model_id: str,
    ) -> None:
        """Write the localizations of frames that were deferred, and move them in the ledger.

        Parameters
        ----------
        run_id : str
        localizations : Localizations
            Of these frames; may be empty.
        analysed : FrameTimes
            All frames of the batch, by rising number.
        t_s : (float, float)
            Times of the first and last of them, s from the start of the run.
        model_id : str
            The model that localized.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database cannot be written.
        """
        ends = int(analysed.numbers[0]), int(analysed.numbers[-1])
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            sequence = add_batch(connection, key, localizations, ends, t_s, model_id)
            add_analysed(connection, key, sequence, analysed)
            ledger = dict(connection.scalar(select(runs.c.ledger).where(runs.c.key == key)) or {})
            ledger["deferred"] -= len(analysed)
            ledger["analysed"] += len(analysed)
            connection.execute(update(runs).where(runs.c.key == key).values(ledger=ledger))

    def discard_tracks(self, run_id: str) -> bool:
        """Delete some of the tracks of revisions that were never completed; False when none is left.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.writing() as connection:
            key, newest = _revision(connection, run_id)
            columns = [points.c.run_key, points.c.revision, points.c.track_id, points.c.frame]
            some = select(*columns).where(points.c.run_key == key, points.c.revision > newest).limit(_POINTS_PER_STEP)
            if connection.execute(delete(points).where(tuple_(*columns).in_(some))).rowcount:
                return True
            for table in (tracks, track_events):
                connection.execute(delete(table).where(table.c.run_key == key, table.c.revision > newest))
        return False

    def add_tracks(self, run_id: str, found: Tracks, events: TrackEvents | None = None) -> None:
        """Write points and events of the revision after the newest one; readers do not get them until `complete`.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database cannot be written, or has these points already.
        """
        with self._database.writing() as connection:
            key, newest = _revision(connection, run_id)
            add_points(connection, key, newest + 1, found)
            if events is not None:
                add_track_events(connection, key, newest + 1, events)

    def add_in_steps(self, run_id: str, found: Tracks, events: TrackEvents) -> Iterator[None]:
        """As `add_tracks`, in transactions of bounded size; the events go with the first of them."""
        for first in range(0, max(len(found), len(events)), _ROWS_PER_STEP):
            part = slice(first, first + _ROWS_PER_STEP)
            self.add_tracks(run_id, found.select(part), events.select(part))
            yield

    def complete(self, run_id: str, made: Mapping[str, Any] | None = None) -> int:
        """Make the tracks that were added the newest revision; return its number.

        Parameters
        ----------
        run_id : str
        made : mapping, optional
            What made them; see `Run.revisions`.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.writing() as connection:
            key, newest = _revision(connection, run_id)
            noted = connection.scalar(select(runs.c.revisions).where(runs.c.key == key)) or []
            this = {"revision": newest + 1, "made_at": datetime.now(UTC).isoformat(timespec="seconds"), **(made or {})}
            values = {"revision": newest + 1, "revisions": [*noted, this], "catch_up": None}
            connection.execute(update(runs).where(runs.c.key == key).values(values))
        return newest + 1


def _revision(connection: Connection, run_id: str) -> tuple[int, int]:
    key = run_key(connection, run_id)
    return key, int(connection.scalar(select(func.max(runs.c.revision)).where(runs.c.key == key)) or 0)


def _corrected_ledger(
    ledger: Mapping[str, int | None],
    recorded: NDArray[np.int64],
    known: NDArray[np.int64],
    late: NDArray[np.int64],
    *,
    killed: bool,
) -> dict[str, int]:
    """The ledger of these frames: recorded, analysed (`known`), and recorded but not analysed (`late`)."""
    old = {name: int(ledger.get(name) or 0) for name in LEDGER_KEYS}
    seen = np.union1d(recorded, known)
    exposed = max(old["exposed"], int(seen.max()) + 1)
    new = int(np.count_nonzero(seen >= old["exposed"]))
    grabbed = old["grabbed"] + new
    # The rest was in flight when the process was killed; in other cases its results could not be stored.
    rest = grabbed - len(known) - len(late)
    skipped = min(old["skipped"], rest) if killed else rest
    return {
        "exposed": exposed,
        "grabbed": grabbed,
        "lost": old["lost"] + exposed - old["exposed"] - new,
        "recorded": len(recorded),
        "unrecorded": old["unrecorded"],
        "analysed": len(known),
        "deferred": len(late),
        "skipped": skipped,
        "in_flight": rest - skipped,
    }
