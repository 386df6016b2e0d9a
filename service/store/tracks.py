"""Tracks: points as rows, and one summary row per track that the queries begin with.

A query first chooses tracks by their summaries (a few hundred rows an hour),
then reads the points of the chosen ones by primary key. A window of time is
turned into a range of frames, so that a long run costs no more than a short one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Select, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError

from models.tables import Tracks
from service.store.database import Database
from service.store.errors import UnknownItem
from service.store.localizations import frame_range
from service.store.pages import Page, parse_cursor
from service.store.runs import run_key
from service.store.schema import POINT_COLUMNS, points, runs, tracks

__all__ = ["Bounds", "RunTracks", "TrackQuery", "TrackSummary", "add_points"]

_POINTS_AT_ONCE = 50_000
"""Points held in memory by one step of a stream, about 20 MB on their way through the database driver."""

_TRACKS_AT_ONCE = 500
"""Below the number of parameters that any SQLite accepts in one statement (999)."""

_NO_REVISION = 0
"""Revisions count from 1."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A box, µm; None: open on that side."""

    x_min_um: float | None = None
    x_max_um: float | None = None
    y_min_um: float | None = None
    y_max_um: float | None = None
    z_min_um: float | None = None
    z_max_um: float | None = None


@dataclass(frozen=True, slots=True)
class TrackQuery:
    """Which tracks, and which of their points.

    Attributes
    ----------
    t_from_s, t_to_s : window of time, s from the start of the run, both ends included; None: open
    bounds : only points in this box
    min_length : only tracks with at least so many points in all
    revision : of the tracks; None: the newest complete one
    """

    t_from_s: float | None = None
    t_to_s: float | None = None
    bounds: Bounds = Bounds()
    min_length: int = 1
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One track as a whole: how many points, its first and last frame and their times (s from the start of the run)."""

    track_id: int
    points: int
    frame_from: int
    frame_to: int
    t_from_s: float
    t_to_s: float


class RunTracks:
    """The tracks of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query(
        self,
        run_id: str,
        query: TrackQuery = TrackQuery(),
        limit: int | None = None,
        cursor: str | None = None,
        *,
        most_points: int | None = None,
    ) -> Page[TrackSummary]:
        """Tracks that live in the window of time, newest (highest id) first; all of them without a `limit`.

        With `most_points` the page ends before the track with which its
        points would exceed that number; it always has one track. A track of
        which no point lies in the box of `query` is left out when its points are read.

        Raises
        ------
        UnknownItem
            When there is no such run.
        DataError
            When `cursor` is none that a list gave.
        """
        below = parse_cursor(cursor)
        with self._database.reading() as connection:
            key, revision = _run(connection, run_id, query.revision)
            chosen = select(tracks).where(
                tracks.c.run_key == key,
                tracks.c.revision == revision,
                tracks.c.track_id < below,
                tracks.c.points >= query.min_length,
            )
            if query.t_from_s is not None:
                chosen = chosen.where(tracks.c.t_to_s >= query.t_from_s)
            if query.t_to_s is not None:
                chosen = chosen.where(tracks.c.t_from_s <= query.t_to_s)
            chosen = chosen.order_by(tracks.c.track_id.desc()).limit(None if limit is None else limit + 1)
            found = [_summary(row) for row in connection.execute(chosen)]
        fitting = len(found) if limit is None else min(limit, len(found))
        if most_points is not None:
            total = np.cumsum([track.points for track in found[:fitting]])
            fitting = min(fitting, max(1, int(np.searchsorted(total, most_points, side="right"))))
        more = fitting < len(found)
        return Page(found[:fitting], str(found[fitting - 1].track_id) if more else None)

    def stream(self, run_id: str, query: TrackQuery, chosen: Sequence[TrackSummary]) -> Iterator[Tracks]:
        """The points of `chosen` that `query` asks for, by track and frame, in parts of bounded size.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.reading() as connection:
            key, revision = _run(connection, run_id, query.revision)
            window: tuple[int, int] | None = (0, max((track.frame_to for track in chosen), default=0))
            if query.t_from_s is not None or query.t_to_s is not None:
                window = frame_range(connection, key, query.t_from_s, query.t_to_s)
        if window is None:
            return
        for ids, low, high in _parts(sorted(chosen, key=lambda track: track.track_id), window):
            rows = select(*(points.c[name] for name in POINT_COLUMNS)).where(
                points.c.run_key == key,
                points.c.revision == revision,
                points.c.track_id.in_(ids),
                points.c.frame.between(low, high),
            )
            with self._database.reading() as connection:
                found = connection.execute(_inside(rows, query).order_by(points.c.track_id, points.c.frame)).all()
            if found:
                yield _tracks(found)

    def read(self, run_id: str, query: TrackQuery, chosen: Sequence[TrackSummary]) -> Tracks:
        """As `stream`, in one piece.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        return Tracks.concatenate(self.stream(run_id, query, chosen))

    def get(self, run_id: str, track_id: int, revision: int | None = None) -> tuple[TrackSummary, Tracks]:
        """One track with all its points.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no such track.
        """
        with self._database.reading() as connection:
            key, revision = _run(connection, run_id, revision)
            row = connection.execute(
                select(tracks).where(
                    tracks.c.run_key == key, tracks.c.revision == revision, tracks.c.track_id == track_id
                )
            ).one_or_none()
        if row is None:
            raise UnknownItem(
                f"Run {run_id} has no track {track_id} in revision {revision}.",
                f"GET /api/v1/runs/{run_id}/tracks lists its tracks.",
            )
        summary = _summary(row)
        return summary, self.read(run_id, TrackQuery(revision=revision), [summary])


def add_points(connection: Connection, key: int, revision: int, found: Tracks) -> None:
    """Write points, and bring the summaries of their tracks up to date."""
    if not len(found):
        return
    columns = [found.columns()[name].tolist() for name in POINT_COLUMNS]
    _insert_rows(connection, [(key, revision, *row) for row in zip(*columns, strict=True)])

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(tracks)
    new, least, greatest = statement.excluded, *_extremes(connection)
    statement = statement.on_conflict_do_update(
        index_elements=[tracks.c.run_key, tracks.c.revision, tracks.c.track_id],
        set_={
            "points": tracks.c.points + new.points,
            "frame_from": least(tracks.c.frame_from, new.frame_from),
            "frame_to": greatest(tracks.c.frame_to, new.frame_to),
            "t_from_s": least(tracks.c.t_from_s, new.t_from_s),
            "t_to_s": greatest(tracks.c.t_to_s, new.t_to_s),
        },
    )
    connection.execute(statement, [{"run_key": key, "revision": revision, **row} for row in _summaries(found)])


def _insert_rows(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    """Write rows of points by the fastest way of each database, well above the 50,000 a second of a crowded scene."""
    names = ", ".join(column.name for column in points.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(points.columns))
        connection.exec_driver_sql(f"INSERT INTO {points.name} ({names}) VALUES ({marks})", rows)  # noqa: S608  names of our own table
        return
    _copy_rows(connection, f"COPY {points.name} ({names}) FROM STDIN", rows)


def _copy_rows(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """PostgreSQL's bulk load. It goes past SQLAlchemy, so the driver's errors are made SQLAlchemy's here."""
    driver: Any = connection.dialect.loaded_dbapi
    try:
        cursor: Any = connection.connection.cursor()
        with cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except driver.IntegrityError as error:
        raise IntegrityError(statement, None, error) from error
    except driver.Error as error:
        raise OperationalError(statement, None, error) from error


def _extremes(connection: Connection) -> tuple[Any, Any]:
    return (func.min, func.max) if connection.dialect.name == "sqlite" else (func.least, func.greatest)


def _summaries(found: Tracks) -> list[dict[str, Any]]:
    order = np.argsort(found.track_id, kind="stable")
    ids, starts, counts = np.unique(found.track_id[order], return_index=True, return_counts=True)

    def extreme(ufunc: np.ufunc, column: NDArray[Any]) -> list[Any]:
        return list(ufunc.reduceat(column[order], starts).tolist())

    columns = {
        "track_id": ids.tolist(),
        "points": counts.tolist(),
        "frame_from": extreme(np.minimum, found.frame),
        "frame_to": extreme(np.maximum, found.frame),
        "t_from_s": extreme(np.minimum, found.t_s),
        "t_to_s": extreme(np.maximum, found.t_s),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _run(connection: Connection, run_id: str, revision: int | None) -> tuple[int, int]:
    key = run_key(connection, run_id)
    newest = int(connection.scalar(select(runs.c.revision).where(runs.c.key == key)) or 0)
    if revision is None:
        return key, newest
    # One that is still being written has no tracks yet, as one that never was.
    return key, revision if revision <= newest else _NO_REVISION


def _summary(row: Row[Any]) -> TrackSummary:
    return TrackSummary(row.track_id, row.points, row.frame_from, row.frame_to, row.t_from_s, row.t_to_s)


def _parts(chosen: Sequence[TrackSummary], window: tuple[int, int]) -> Iterator[tuple[list[int], int, int]]:
    """Divide `chosen` into track ids with a range of frames that hold at most `_POINTS_AT_ONCE` points each."""
    ids: list[int] = []
    held = 0
    for track in chosen:
        low, high = max(track.frame_from, window[0]), min(track.frame_to, window[1])
        if low > high:
            continue
        most = high - low + 1
        if ids and (held + most > _POINTS_AT_ONCE or len(ids) == _TRACKS_AT_ONCE):
            yield ids, *window
            ids, held = [], 0
        if most > _POINTS_AT_ONCE:
            for first in range(low, high + 1, _POINTS_AT_ONCE):
                yield [track.track_id], first, min(first + _POINTS_AT_ONCE - 1, high)
            continue
        ids.append(track.track_id)
        held += most
    if ids:
        yield ids, *window


def _inside(rows: Select[Any], query: TrackQuery) -> Select[Any]:
    limits = [("t_s", query.t_from_s, query.t_to_s)]
    limits += [
        (f"{axis}_um", getattr(query.bounds, f"{axis}_min_um"), getattr(query.bounds, f"{axis}_max_um"))
        for axis in "xyz"
    ]
    for name, low, high in limits:
        if low is not None:
            rows = rows.where(points.c[name] >= low)
        if high is not None:
            rows = rows.where(points.c[name] <= high)
    return rows


def _tracks(rows: Sequence[Row[Any]]) -> Tracks:
    # NULL becomes NaN: SQLite keeps NaN as NULL.
    return Tracks.from_columns(dict(zip(POINT_COLUMNS, zip(*rows, strict=True), strict=True)))
