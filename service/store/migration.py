"""Bring a database to the tables of this version, with the migrations that the package carries.

The supervisor calls this before it starts its children, so they never meet
old tables. Everything happens in one transaction: a migration that fails
leaves the database as it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.store.database import Database
from service.store.errors import StoreError

__all__ = ["migrate"]

_MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 7_242_284
"""Any fixed number: two services that start on one PostgreSQL database migrate one after the other."""


def migrate(database: Database) -> None:
    """Make or upgrade the tables of `database`.

    Raises
    ------
    StoreError
        When a newer version of Bathyscope has already changed the database, or it cannot be made or opened.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with database.migrating() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        _refuse_newer(connection, ScriptDirectory.from_config(config), database.location)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _refuse_newer(connection: Connection, scripts: ScriptDirectory, location: str) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    present = set(MigrationContext.configure(connection).get_current_heads())
    if not present <= known:
        raise StoreError(
            f"The database {location} was made by a newer version of Bathyscope (tables {', '.join(sorted(present))}).",
            "Install that version, or choose another data directory.",
        )
