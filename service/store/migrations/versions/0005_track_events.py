"""Keep merges and splits of tracks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table; tracks of before have no events."""
    op.create_table(
        "track_events",
        sa.Column("run_key", _KEY, sa.ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("frame", sa.BigInteger, nullable=False),
        sa.Column("t_s", sa.Double, nullable=False),
        sa.Column("track_id", sa.BigInteger, nullable=False),
        sa.Column("other_id", sa.BigInteger, nullable=False),
        sa.Column("x_um", sa.Double, nullable=False),
        sa.Column("y_um", sa.Double, nullable=False),
        sa.Column("z_um", sa.Double, nullable=False),
        sa.Column("distance_um", sa.Double, nullable=False),
        sa.Column("distance_sigma", sa.Double, nullable=False),
        sa.Column("chance", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
