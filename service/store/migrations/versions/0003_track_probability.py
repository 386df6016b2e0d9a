"""Keep the probability of existence of each track point."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the column; points of before state no probability."""
    op.add_column("track_points", sa.Column("probability", sa.Double))
