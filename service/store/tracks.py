"""Tracks: points as rows, and one summary row per track that the queries begin with.

A query first chooses tracks by their summaries (a few hundred rows an hour),
then reads the points of the chosen ones by primary key. A window of time is
turned into a range of frames, so that a long run costs no more than a short one.

Reading takes many transactions, between which a reader may sleep, and
recomputed tracks may become the newest revision meanwhile. So the revision
is looked up once, into a `TrackSelection`, from which all further reads take
it; cursors carry it from page to page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError

from models.errors import DataError
from models.tables import Tracks
from service.store.database import Database
from service.store.errors import UnknownItem
from service.store.localizations import frame_range
from service.store.pages import MOST_KEY, cursor_numbers
from service.store.run_query import is_kept
from service.store.runs import run_key
from service.store.schema import LIVE_REVISION, POINT_COLUMNS, points, runs, tracks

__all__ = [
    "Bounds",
    "RunTracks",
    "TrackPage",
    "TrackQuery",
    "TrackSelection",
    "TrackSummary",
    "add_points",
    "chosen_revision",
]

_POINTS_AT_ONCE = 10_000
"""Points held in memory by one step of a stream, about 5 MB on their way through the database driver."""

_TRACKS_AT_ONCE = 500
"""Below the number of parameters that any SQLite accepts in one statement (999)."""

_POINT = np.dtype([(name, column.dtype) for name, column in Tracks.empty().columns().items()])
"""One point in memory, in the order of `POINT_COLUMNS`."""

_NO_FRAME = -1
"""As the last frame: frames count from 0."""

_NO_TRACKS = (0, -1)
"""As lowest and highest track id: there is none."""


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


@dataclass(frozen=True, slots=True)
class TrackSelection:
    """Points of tracks, as they were at the time of the query.

    Attributes
    ----------
    run_id, run_key : the run; a key alone may be given to another run when this one is deleted
    revision : of the tracks
    query : which of their points
    tracks : lowest and highest track id, both included
    frames : first and last frame, both included
    """

    run_id: str
    run_key: int
    revision: int
    query: TrackQuery
    tracks: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TrackPage:
    """Tracks, newest first; what their points are read with; and the cursor of the next page (None: the last one)."""

    items: list[TrackSummary]
    selection: TrackSelection
    next: str | None

    @property
    def revision(self) -> int:
        """Of the tracks."""
        return self.selection.revision


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where a page begins: below a track, or within it, behind a frame."""

    revision: int | None = None
    track_id: int = MOST_KEY
    frame: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        return cls() if text is None else cls(*cursor_numbers(text, 2, 3))

    def __str__(self) -> str:
        return ".".join(str(part) for part in (self.revision, self.track_id, self.frame) if part is not None)


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
    ) -> TrackPage:
        """Tracks that live in the window of time, newest (highest id) first; all of them without a `limit`.

        With `most_points` a page has no more points. A track that is longer
        begins a page of its own, and goes on in the next one. A track of
        which no point lies in the box of `query` is left out when its points
        are read.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no tracks of this revision.
        DataError
            When no list returned `cursor`, or it is of another revision.
        """
        begin = _Cursor.parse(cursor)
        with self._database.reading() as connection:
            selection = _select(connection, run_id, query, begin)
            chosen = select(tracks).where(*_chosen(selection)).order_by(tracks.c.track_id.desc())
            chosen = chosen.limit(None if limit is None else limit + 1)
            found = [_summary(row) for row in connection.execute(chosen)]
            return _page(connection, selection, found, limit, most_points, begin.frame)

    def get(
        self,
        run_id: str,
        track_id: int,
        revision: int | None = None,
        cursor: str | None = None,
        *,
        most_points: int | None = None,
    ) -> TrackPage:
        """One track, or a page of its points.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no such track in this revision.
        DataError
            When no page of this track returned `cursor`, or it is of another revision.
        """
        begin = _Cursor(track_id=track_id) if cursor is None else _Cursor(*cursor_numbers(cursor, 3))
        if begin.track_id != track_id:
            raise DataError(f"cursor {cursor} is not of track {track_id}.", "Use the 'next' of the page before.")
        with self._database.reading() as connection:
            selection = _select(connection, run_id, TrackQuery(revision=revision), begin)
            selection = replace(selection, tracks=(track_id, track_id))
            found = [_summary(row) for row in connection.execute(select(tracks).where(*_chosen(selection)))]
            if not found:
                raise UnknownItem(
                    f"Run {run_id} has no track {track_id} in revision {selection.revision}.",
                    f"GET /api/v1/runs/{run_id}/tracks lists its tracks.",
                )
            return _page(connection, selection, found, None, most_points, begin.frame)

    def select(self, run_id: str, query: TrackQuery = TrackQuery()) -> TrackSelection:
        """All tracks that live in the window of time, without a list of them.

        Raises
        ------
        UnknownItem
            When there is no such run, or it has no tracks of this revision.
        """
        with self._database.reading() as connection:
            return _select(connection, run_id, query, _Cursor())

    def stream(self, selection: TrackSelection) -> Iterator[Tracks]:
        """The points of a selection, by track and frame, in parts of bounded size; no transaction is open between them.

        Raises
        ------
        UnknownItem
            When the run was deleted meanwhile.
        """
        for part in self._column_parts(selection, POINT_COLUMNS):
            yield Tracks.from_columns(part)

    def read(self, selection: TrackSelection) -> Tracks:
        """As `stream`, in one piece.

        Raises
        ------
        UnknownItem
            When the run was deleted meanwhile.
        """
        return Tracks.concatenate(self.stream(selection))

    def read_columns(self, selection: TrackSelection, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Some columns of `read`, and the track ids; most of the time of a read is that of its values.

        Parameters
        ----------
        selection : TrackSelection
        names : sequence of str
            Names of columns of `Tracks`.

        Raises
        ------
        UnknownItem
            When the run was deleted meanwhile.
        """
        wanted = tuple(name for name in POINT_COLUMNS if name == "track_id" or name in names)
        parts = list(self._column_parts(selection, wanted))
        return {
            # As a plain str: names of columns are a kind of their own, which is no key of JSON.
            str(name): np.concatenate([np.empty(0, _POINT[name]), *(part[name] for part in parts)])
            for name in wanted
        }

    def _column_parts(self, selection: TrackSelection, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the points of a selection, in parts that have points."""
        lowest = selection.tracks[0]
        while True:
            rest = replace(selection, tracks=(lowest, selection.tracks[1]))
            some = select(tracks).where(*_chosen(rest)).order_by(tracks.c.track_id).limit(_TRACKS_AT_ONCE)
            with self._reading(selection) as connection:
                found = [_summary(row) for row in connection.execute(some)]
            for ids, low, high in _parts(found, selection.frames):
                part = self._points(selection, names, ids, low, high)
                if len(part["track_id"]):
                    yield part
            if len(found) < _TRACKS_AT_ONCE:
                return
            lowest = found[-1].track_id + 1

    @contextmanager
    def _reading(self, selection: TrackSelection) -> Iterator[Connection]:
        """A transaction that first checks that the tracks of a selection still exist."""
        with self._database.reading() as connection:
            here = (runs.c.key == selection.run_key) & (runs.c.id == selection.run_id) & is_kept()
            revision = connection.scalar(select(runs.c.revision).where(here))
            if revision is None or revision < selection.revision:
                raise UnknownItem(
                    f"Run {selection.run_id} or revision {selection.revision} of its tracks was deleted meanwhile.",
                    "GET /api/v1/runs lists the existing runs.",
                )
            yield connection

    def _points(
        self, selection: TrackSelection, names: Sequence[str], ids: list[int], low: int, high: int
    ) -> dict[str, NDArray[Any]]:
        rows = select(*map(_column, names)).where(
            *_of(points, selection), points.c.track_id.in_(ids), points.c.frame.between(low, high)
        )
        rows = _inside(rows, selection.query).order_by(points.c.track_id, points.c.frame)
        with self._reading(selection) as connection:
            return _read(connection, rows, names)


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
    """PostgreSQL's bulk load. It bypasses SQLAlchemy, so the driver's errors are converted to SQLAlchemy's here."""
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


def _select(connection: Connection, run_id: str, query: TrackQuery, begin: _Cursor) -> TrackSelection:
    """Fix the revision, the tracks below the cursor, and the frames that exist now."""
    key = run_key(connection, run_id)
    revision = chosen_revision(connection, run_id, key, query.revision, begin.revision)
    within = begin.frame is not None
    selection = TrackSelection(
        run_id, key, revision, query, (0, begin.track_id if within else begin.track_id - 1), (0, _NO_FRAME)
    )
    frames: tuple[int, int] | None
    if query.t_from_s is None and query.t_to_s is None:
        last = connection.scalar(select(func.max(tracks.c.frame_to)).where(*_of(tracks, selection)))
        frames = (0, _NO_FRAME if last is None else last)
    else:
        frames = frame_range(connection, key, query.t_from_s, query.t_to_s)
    return replace(selection, frames=frames or (0, _NO_FRAME))


def chosen_revision(connection: Connection, run_id: str, key: int, wanted: int | None, of_cursor: int | None) -> int:
    """The revision that is asked for, or that of a cursor, or the newest one.

    Raises
    ------
    UnknownItem
        When the run has no such revision.
    DataError
        When the two differ.
    """
    newest = int(connection.scalar(select(runs.c.revision).where(runs.c.key == key)) or 0)
    if None not in (wanted, of_cursor) and wanted != of_cursor:
        raise DataError(
            f"revision is {wanted}, and the cursor is of revision {of_cursor}.",
            "Leave the revision out, or begin without a cursor.",
        )
    revision = of_cursor or wanted or newest
    # For readers, a revision that is still being written does not exist.
    if not LIVE_REVISION <= revision <= newest:
        raise UnknownItem(
            f"Run {run_id} has no revision {revision} of its tracks; the newest is {newest}.",
            f"GET /api/v1/runs/{run_id} states its newest revision.",
        )
    return revision


def _of(table: Table, selection: TrackSelection) -> tuple[ColumnElement[bool], ...]:
    return table.c.run_key == selection.run_key, table.c.revision == selection.revision


def _chosen(selection: TrackSelection) -> list[ColumnElement[bool]]:
    """The conditions on the summaries of the selected tracks."""
    query = selection.query
    wanted = [
        *_of(tracks, selection),
        tracks.c.track_id.between(*selection.tracks),
        tracks.c.points >= query.min_length,
    ]
    if query.t_from_s is not None:
        wanted.append(tracks.c.t_to_s >= query.t_from_s)
    if query.t_to_s is not None:
        wanted.append(tracks.c.t_from_s <= query.t_to_s)
    return wanted


def _page(
    connection: Connection,
    selection: TrackSelection,
    found: list[TrackSummary],
    limit: int | None,
    most_points: int | None,
    behind: int | None,
) -> TrackPage:
    """The first of the tracks `found` as a page; when `behind` is given, what is left of the first track behind it."""
    low, high = selection.frames
    fitting = len(found) if limit is None else min(limit, len(found))
    if behind is not None and found and found[0].track_id == selection.tracks[1]:
        low, fitting = max(low, behind + 1), min(fitting, 1)
    if most_points is not None:
        held = [min(track.points, _overlap(track, low, high)) for track in found[:fitting]]
        whole = int(np.searchsorted(np.cumsum(held), most_points, side="right"))
        if found and not whole:
            first = found[0].track_id
            its = select(points.c.frame).where(*_of(points, selection), points.c.track_id == first)
            its = its.where(points.c.frame.between(low, high)).order_by(points.c.frame).offset(most_points).limit(1)
            beyond = connection.scalar(its)
            if beyond is not None:
                some = replace(selection, tracks=(first, first), frames=(low, beyond - 1))
                return TrackPage(found[:1], some, str(_Cursor(selection.revision, first, beyond - 1)))
            whole = 1
        fitting = min(fitting, whole)
    items = found[:fitting]
    ends = (items[-1].track_id, items[0].track_id) if items else _NO_TRACKS
    more = str(_Cursor(selection.revision, ends[0])) if fitting < len(found) else None
    return TrackPage(items, replace(selection, tracks=ends, frames=(low, high)), more)


def _overlap(track: TrackSummary, low: int, high: int) -> int:
    return max(0, min(track.frame_to, high) - max(track.frame_from, low) + 1)


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


def _column(name: str) -> ColumnElement[Any]:
    # Whole numbers have no NaN; NULL in `observed` means not observed.
    return func.coalesce(points.c.observed, 0) if name == "observed" else points.c[name]


def _read(connection: Connection, rows: Select[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The columns of a query. NULL becomes NaN: SQLite keeps NaN as NULL.

    The rows go from the driver's cursor straight into an array. With SQLAlchemy's rows and a list of them between, a
    window of 50,000 points takes twice the processor time.
    """
    driver: Any = connection.dialect.loaded_dbapi
    cursor: Any = connection.execute(rows).cursor
    try:
        table = np.fromiter(cursor, [(name, _POINT[name]) for name in names])
    except driver.Error as error:
        raise OperationalError(str(rows), None, error) from error
    return {name: np.ascontiguousarray(table[name]) for name in names}
