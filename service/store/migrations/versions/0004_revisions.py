"""Keep what made each revision of a run's tracks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the column; runs of before say nothing of their revisions."""
    op.add_column("runs", sa.Column("revisions", sa.JSON, nullable=False, server_default="[]"))
