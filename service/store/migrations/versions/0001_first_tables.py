"""Make the tables of the first version: runs, localizations, tracks, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _run_key() -> sa.Column[int]:
    return sa.Column("run_key", _KEY, sa.ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("started_at", sa.Double, nullable=False, comment="Unix seconds"),
        sa.Column("ended_at", sa.Double, comment="Unix seconds"),
        sa.Column("committed_at", sa.Double, comment="Unix seconds of the last batch"),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("record", sa.Boolean, nullable=False),
        sa.Column("recording", sa.Text, comment="path of the recording, relative to the data directory"),
        sa.Column("duration_s", sa.Double, comment="seconds asked for"),
        sa.Column("fps", sa.Double),
        sa.Column("revision", sa.Integer, nullable=False, comment="newest complete revision of the tracks"),
        sa.Column("ledger", sa.JSON, nullable=False),
        sa.Column("latency_ms", sa.JSON, nullable=False),
        sa.Column("accuracy", sa.JSON),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("problem", sa.Text),
    )
    op.create_table(
        "localization_batches",
        _run_key(),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("frame_from", sa.BigInteger, nullable=False),
        sa.Column("frame_to", sa.BigInteger, nullable=False),
        sa.Column("t_from_s", sa.Double, nullable=False),
        sa.Column("t_to_s", sa.Double, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "localization_batches_time",
        "localization_batches",
        ["run_key", "t_from_s", "t_to_s", "frame_from", "frame_to"],
    )
    op.create_table(
        "tracks",
        _run_key(),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("track_id", sa.BigInteger, primary_key=True),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("frame_from", sa.BigInteger, nullable=False),
        sa.Column("frame_to", sa.BigInteger, nullable=False),
        sa.Column("t_from_s", sa.Double, nullable=False),
        sa.Column("t_to_s", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    numbers = (
        "t_s",
        *(f"{axis}_um" for axis in "xyz"),
        *(f"v{axis}_um_s" for axis in "xyz"),
        *(f"sigma_{axis}_um" for axis in "xyz"),
    )
    op.create_table(
        "track_points",
        _run_key(),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("track_id", sa.BigInteger, primary_key=True),
        sa.Column("frame", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.Double) for name in numbers),
        sa.Column("observed", sa.Integer),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("occurred_at", sa.Double, nullable=False, comment="Unix seconds"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("details", sa.JSON, nullable=False),
    )
