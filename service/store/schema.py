"""The tables of the database, for SQLite and PostgreSQL alike.

Track points are rows, because they are queried by track, time and place;
localizations are one blob per batch, because they are only ever read whole
and there are many. Every run has a short integer key beside its public id,
so that a row of a track does not repeat a long text. Migrations in
`migrations/` make these tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

__all__ = [
    "EVENT_COLUMNS",
    "LIVE_REVISION",
    "POINT_COLUMNS",
    "analysed_frames",
    "audit",
    "batches",
    "events",
    "metadata",
    "points",
    "recorded_frames",
    "runs",
    "track_events",
    "tracks",
]

LIVE_REVISION = 1
"""Revision of the tracks made while the run was on; recomputed tracks get higher numbers and never replace it."""

metadata = MetaData()

# SQLite numbers its rows by itself only when the key is exactly INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")
_Json = JSON(none_as_null=True)


class _Words(TypeDecorator[str]):
    """Text from anywhere (drivers, file names), without halves of characters and NUL, which databases refuse."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


runs = Table(
    "runs",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", _Words, nullable=False),
    Column("notes", _Words, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("started_at", Double, nullable=False, comment="Unix seconds"),
    Column("ended_at", Double, comment="Unix seconds"),
    Column("committed_at", Double, comment="Unix seconds of the last batch"),
    Column("model_id", Text, nullable=False),
    Column("record", Boolean, nullable=False),
    Column("recording", Text, comment="path of the recording, relative to the data directory"),
    Column("duration_s", Double, comment="seconds asked for"),
    Column("fps", Double),
    Column("revision", Integer, nullable=False, comment="newest complete revision of the tracks"),
    Column("revisions", _Json, nullable=False, server_default="[]"),
    Column("ledger", _Json, nullable=False),
    Column("latency_ms", _Json, nullable=False),
    Column("stages", _Json, nullable=False, server_default="{}"),
    Column("fitted_frames", _Json),
    Column("accuracy", _Json),
    Column("settings", _Json, nullable=False),
    Column("problem", _Words),
    Column("catch_up", Text, comment="check, due, or nothing"),
    Column("removal", Text, comment="run, recording, local, or nothing"),
    Column("recording_copy", _Json, comment="see RecordingCopy; times in Unix seconds"),
)

batches = Table(
    "localization_batches",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("frame_from", BigInteger, nullable=False),
    Column("frame_to", BigInteger, nullable=False),
    Column("t_from_s", Double, nullable=False),
    Column("t_to_s", Double, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    # Last, so that reading the columns before it does not touch the blob's pages.
    Column("data", LargeBinary, nullable=False),
    # Turns a time window into a range of frames without reading a blob.
    Index("localization_batches_time", "run_key", "t_from_s", "t_to_s", "frame_from", "frame_to"),
)

recorded_frames = Table(
    "recorded_frames",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("first_plane", BigInteger, primary_key=True),
    Column("planes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Not a column of the batches: there it would lie behind the blob, and reading it would mean reading that.
analysed_frames = Table(
    "analysed_frames",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("frames", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

tracks = Table(
    "tracks",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("track_id", BigInteger, primary_key=True),
    Column("points", Integer, nullable=False),
    Column("frame_from", BigInteger, nullable=False),
    Column("frame_to", BigInteger, nullable=False),
    Column("t_from_s", Double, nullable=False),
    Column("t_to_s", Double, nullable=False),
    sqlite_with_rowid=False,
)

points = Table(
    "track_points",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("track_id", BigInteger, primary_key=True),
    Column("frame", BigInteger, primary_key=True),
    # Nullable, because SQLite keeps NaN (an undefined sigma) as NULL.
    Column("t_s", Double),
    Column("x_um", Double),
    Column("y_um", Double),
    Column("z_um", Double),
    Column("vx_um_s", Double),
    Column("vy_um_s", Double),
    Column("vz_um_s", Double),
    Column("sigma_x_um", Double),
    Column("sigma_y_um", Double),
    Column("sigma_z_um", Double),
    Column("observed", Integer),
    Column("probability", Double),
    sqlite_with_rowid=False,
)

POINT_COLUMNS: tuple[str, ...] = tuple(column.name for column in points.columns)[2:]
"""Names of the columns that a `Tracks` table has too, in its order."""

track_events = Table(
    "track_events",
    metadata,
    Column("run_key", _Key, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("frame", BigInteger, nullable=False),
    Column("t_s", Double, nullable=False),
    Column("track_id", BigInteger, nullable=False),
    Column("other_id", BigInteger, nullable=False),
    Column("x_um", Double, nullable=False),
    Column("y_um", Double, nullable=False),
    Column("z_um", Double, nullable=False),
    Column("distance_um", Double, nullable=False),
    Column("distance_sigma", Double, nullable=False),
    Column("chance", Double, nullable=False),
    sqlite_with_rowid=False,
)

EVENT_COLUMNS: tuple[str, ...] = tuple(column.name for column in track_events.columns)[3:]
"""Names of the columns that a `TrackEvents` table has too, in its order."""

events = Table(
    "events",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("occurred_at", Double, nullable=False, comment="Unix seconds"),
    Column("kind", _Words, nullable=False),
    Column("message", _Words, nullable=False),
    Column("run_id", _Words),
    Column("details", _Json, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("occurred_at", Double, nullable=False, comment="Unix seconds"),
    Column("who", _Words, nullable=False),
    Column("role", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", _Words, nullable=False),
    Column("body", _Words),
    Column("status", Integer, nullable=False),
)
