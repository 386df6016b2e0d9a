"""Keep the number of frames by the degree of their fit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; it is empty for runs of before."""
    op.add_column("runs", sa.Column("fitted_frames", sa.JSON))
