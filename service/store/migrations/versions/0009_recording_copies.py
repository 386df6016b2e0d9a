"""Keep where the copy of a recording is, and how far it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; recordings of before have no copy."""
    op.add_column("runs", sa.Column("recording_copy", sa.JSON, comment="see RecordingCopy; times in Unix seconds"))
