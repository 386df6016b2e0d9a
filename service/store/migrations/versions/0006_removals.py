"""Keep what of a run is being deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the column; nothing of the runs of before is being deleted."""
    op.add_column("runs", sa.Column("removal", sa.Text, comment="run, recording, local, or nothing"))
