"""Keep which frames are recorded and analysed, and what an ended run still has to do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _run_key() -> sa.Column[int]:
    return sa.Column("run_key", _KEY, sa.ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True)


def upgrade() -> None:
    """Make two tables and two columns; runs of before have nothing in them."""
    op.create_table(
        "recorded_frames",
        _run_key(),
        sa.Column("first_plane", sa.BigInteger, primary_key=True),
        sa.Column("planes", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "analysed_frames",
        _run_key(),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.add_column("runs", sa.Column("catch_up", sa.Text, comment="check, due, or nothing"))
    op.add_column("runs", sa.Column("stages", sa.JSON, nullable=False, server_default="{}"))
