"""Places of the frames of a run: the commit record of its recording, and of its analysis.

A recorded frame counts as committed when its row is here. The row is written
after the shard is on disk and the image has grown over it, so a committed
frame can be read, whenever the process dies. The frames of each batch of
localizations are kept too, because a frame without an emitter leaves no row
there. Frames that are committed and not analysed are left for the catch-up.

One row holds a few frames: image numbers as int64, then times of
mid-exposure as float64 (s, monotonic clock of the run), both little-endian.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import Database
from service.store.errors import StoreError, UnknownItem
from service.store.runs import run_key
from service.store.schema import analysed_frames, batches, recorded_frames

__all__ = ["AnalysedFrames", "FrameTimes", "PlacedFrame", "RecordedFrames", "RunFrames", "add_analysed"]

_DELETED_AT_ONCE = 900
"""Values in one statement: SQLite takes 32,766, older builds 999 (sqlite.org/limits.html)."""

_NUMBER, _TIME = np.dtype("<i8"), np.dtype("<f8")


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Frames by number and time.

    Attributes
    ----------
    numbers : ndarray of int64, shape (N,)
        The camera's image numbers.
    times_s : ndarray of float64, shape (N,)
        Mid-exposure on the monotonic clock of the run, s.
    """

    numbers: NDArray[np.int64]
    times_s: NDArray[np.float64]

    @classmethod
    def of(cls, numbers: Iterable[int], times_s: Iterable[float]) -> FrameTimes:
        """From any sequences of equal length."""
        return cls(np.array([*numbers], np.int64), np.array([*times_s], np.float64))

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True)
class RecordedFrames:
    """The committed frames of a recording, and the plane of the image that each is: int64, shape (N,), rising."""

    planes: NDArray[np.int64]
    frames: FrameTimes


@dataclass(frozen=True, slots=True)
class AnalysedFrames:
    """The frames of one batch of localizations, the model that made it, and the time that the run counts from.

    Attributes
    ----------
    frames : in the order of their analysis
    model_id : of the batch
    start_s : zero of the run's times on the monotonic clock, s
    """

    frames: FrameTimes
    model_id: str
    start_s: float


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A frame of a recording: its plane in the image, and its mid-exposure on the monotonic clock of the run, s."""

    plane: int
    time_s: float


class RunFrames:
    """The frames of all runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, run_id: str, entries: Sequence[tuple[int, FrameTimes]]) -> None:
        """Mark frames in one transaction as readable from the recording; a second call changes nothing.

        Parameters
        ----------
        run_id : str
        entries : sequence of (int, FrameTimes)
            The first plane of each stretch of the image, and its frames in their order.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database is locked for longer than the busy timeout, or cannot be written.
        """
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            rows = [
                {"run_key": key, "first_plane": plane, "planes": len(frames), "data": _pack(frames)}
                for plane, frames in entries
            ]
            connection.execute(dialect.insert(recorded_frames).on_conflict_do_nothing(), rows)

    def withdraw(self, run_id: str, first_planes: Sequence[int]) -> tuple[int, int]:
        """Mark stretches of the image as not readable any more.

        Parameters
        ----------
        run_id : str
        first_planes : sequence of int
            The arguments of `commit`.

        Returns
        -------
        frames, deferred : int
            Number of frames in them, and number of these that are not analysed.

        Raises
        ------
        UnknownItem
            When there is no such run.
        StoreError
            When the database is locked for longer than the busy timeout, or cannot be written.
        """
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            before = read_recorded(connection, key).frames.numbers
            for first in range(0, len(first_planes), _DELETED_AT_ONCE):
                some = recorded_frames.c.first_plane.in_(first_planes[first : first + _DELETED_AT_ONCE])
                connection.execute(delete(recorded_frames).where(recorded_frames.c.run_key == key, some))
            gone = np.setdiff1d(before, read_recorded(connection, key).frames.numbers)
            known = [batch.frames.numbers for batch in read_analysed(connection, key)]
            late = np.setdiff1d(gone, np.concatenate([np.empty(0, np.int64), *known]))
        return len(gone), len(late)

    def committed(self, run_id: str) -> NDArray[np.int64]:
        """Image numbers of all frames that can be read from the recording, int64, shape (N,), in the order of planes.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        return self.recorded(run_id).frames.numbers

    def times_s(self, run_id: str) -> NDArray[np.float64]:
        """Times of mid-exposure of the same frames, float64, shape (N,), s on the monotonic clock of the run.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        return self.recorded(run_id).frames.times_s

    def count(self, run_id: str) -> int:
        """How many frames can be read from the recording.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.reading() as connection:
            total = select(func.coalesce(func.sum(recorded_frames.c.planes), 0))
            return int(connection.scalar(total.where(recorded_frames.c.run_key == run_key(connection, run_id))) or 0)

    def find(self, run_id: str, number: int) -> PlacedFrame:
        """The place of one frame by its image number.

        Raises
        ------
        UnknownItem
            When there is no such run, or its recording does not have the frame.
        """
        with self._database.reading() as connection:
            key = run_key(connection, run_id)
            firsts = select(recorded_frames.c.first_plane).where(recorded_frames.c.run_key == key)
            planes = connection.scalars(firsts.order_by(recorded_frames.c.first_plane)).all()

            def stretch(plane: int) -> FrameTimes:
                here = (recorded_frames.c.run_key == key) & (recorded_frames.c.first_plane == plane)
                row = connection.execute(select(recorded_frames).where(here)).one()
                return _unpack(row.data, row.planes)

            # Numbers rise with the planes; only the stretches on the way are read.
            place = bisect.bisect_right(planes, number, key=lambda plane: int(stretch(plane).numbers[0])) - 1
            if place >= 0:
                frames = stretch(planes[place])
                (rows,) = np.nonzero(frames.numbers == number)
                if len(rows):
                    return PlacedFrame(planes[place] + int(rows[0]), float(frames.times_s[rows[0]]))
        raise UnknownItem(
            f"The recording of run {run_id} has no frame {number}; it was lost, came later, or was not recorded.",
            "The ledger of the run counts its frames, which begin with 0.",
        )

    def recorded(self, run_id: str) -> RecordedFrames:
        """The same with their planes.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.reading() as connection:
            return read_recorded(connection, run_key(connection, run_id))

    def analysed(self, run_id: str) -> list[AnalysedFrames]:
        """The frames of each batch of localizations, in the order of writing.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.reading() as connection:
            return read_analysed(connection, run_key(connection, run_id))


def read_recorded(connection: Connection, key: int) -> RecordedFrames:
    """What `RunFrames.recorded` gives, inside a transaction."""
    query = select(recorded_frames).where(recorded_frames.c.run_key == key).order_by(recorded_frames.c.first_plane)
    rows = connection.execute(query).all()
    parts = [_unpack(row.data, row.planes) for row in rows]
    planes = [np.arange(row.first_plane, row.first_plane + row.planes) for row in rows]
    return RecordedFrames(np.concatenate([np.empty(0, np.int64), *planes]), _join(parts))


def read_analysed(connection: Connection, key: int) -> list[AnalysedFrames]:
    """What `RunFrames.analysed` gives, inside a transaction."""
    query: Select[Any] = (
        select(analysed_frames.c.frames, analysed_frames.c.data, batches.c.model_id, batches.c.t_from_s)
        .join_from(
            analysed_frames,
            batches,
            (analysed_frames.c.run_key == batches.c.run_key) & (analysed_frames.c.sequence == batches.c.sequence),
        )
        .where(analysed_frames.c.run_key == key)
        .order_by(analysed_frames.c.sequence)
    )
    found = []
    for row in connection.execute(query):
        frames = _unpack(row.data, row.frames)
        found.append(AnalysedFrames(frames, row.model_id, float(frames.times_s[0]) - row.t_from_s))
    return found


def add_analysed(connection: Connection, key: int, sequence: int, frames: FrameTimes) -> None:
    """Write which frames batch number `sequence` is of."""
    values = {"run_key": key, "sequence": sequence, "frames": len(frames), "data": _pack(frames)}
    connection.execute(insert(analysed_frames).values(values))


def _join(parts: Sequence[FrameTimes]) -> FrameTimes:
    return FrameTimes(
        np.concatenate([np.empty(0, np.int64), *(part.numbers for part in parts)]),
        np.concatenate([np.empty(0), *(part.times_s for part in parts)]),
    )


def _pack(frames: FrameTimes) -> bytes:
    return frames.numbers.astype(_NUMBER).tobytes() + frames.times_s.astype(_TIME).tobytes()


def _unpack(blob: bytes, count: int) -> FrameTimes:
    expected = count * (_NUMBER.itemsize + _TIME.itemsize)
    if len(blob) != expected:
        raise StoreError(
            f"A list of {count} frames has {len(blob)} bytes, and {expected} were expected.",
            "It is damaged: restore a backup.",
        )
    numbers = np.frombuffer(blob, _NUMBER, count).astype(np.int64)
    return FrameTimes(numbers, np.frombuffer(blob, _TIME, count, count * _NUMBER.itemsize).astype(np.float64))
