"""Connections: SQLite in WAL mode for one machine, PostgreSQL by URL.

SQLite allows one writer at a time. A transaction that begins as a reader and
writes later can fail at once when another process wrote in between, whatever
the busy timeout; so writing transactions say so at their beginning (BEGIN
IMMEDIATE) and wait for their turn. With WAL, readers never wait for the
writer. `synchronous = NORMAL` makes a commit survive a killed process, not
the loss of power.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from service.store.errors import StoreError
from service.store.values import dump_json

__all__ = ["Database"]

_BUSY_TIMEOUT_S = 5.0
"""A writer's transaction takes milliseconds; one that waits this long faces a stuck process."""

_CONNECTIONS = 10
"""Kept open; the HTTP layer has as many threads."""

_CONNECT_TIMEOUT_S = 5
"""A PostgreSQL server in the same house answers at once, or not at all."""

_WRITE = "bathyscope_write"


class Database:
    """One database, opened by path or URL; connections are made when they are needed.

    Parameters
    ----------
    where : str or Path
        Path of the SQLite file, or a URL such as ``postgresql://user@host/bathyscope``.
    busy_timeout_s : float
        How long a writer waits for another one, seconds.

    Raises
    ------
    StoreError
        When the URL is not understood or its driver is not installed.
    """

    def __init__(self, where: str | Path, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> None:
        self.url = _url(where)
        self._engine = _create_engine(self.url, busy_timeout_s)
        self._writing = self._engine.execution_options(**{_WRITE: True})

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is one local file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def location(self) -> str:
        """Where the database is, without its password."""
        return self.url.database or "" if self.is_sqlite else self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent view."""
        with _plain_errors(self.location), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, committed when the block ends and undone when it fails."""
        with _plain_errors(self.location), self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StoreError(
            "The database URL is not understood.", "Give it as postgresql://user:password@host:5432/name."
        ) from error
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise StoreError(
            f"The database URL starts with {url.drivername}://; only SQLite and PostgreSQL are supported.",
            "Give a path for SQLite, or postgresql://user:password@host:5432/name.",
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _create_engine(url: URL, busy_timeout_s: float) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    options: dict[str, Any] = {"json_serializer": dump_json, "pool_size": _CONNECTIONS, "max_overflow": _CONNECTIONS}
    if sqlite:
        options["connect_args"] = {"timeout": busy_timeout_s, "check_same_thread": False}
    else:
        options["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        options["pool_pre_ping"] = True
    try:
        engine = create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"The driver for {url.drivername} is not installed.", "Install it with: pip install 'bathyscope[postgres]'."
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Without this, sqlite3 begins transactions by itself, late and deferred.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _plain_errors(location: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
        raise _plain_error(location, reason, isinstance(error, IntegrityError)) from error


def _plain_error(location: str, reason: str, is_conflict: bool) -> StoreError:
    if is_conflict:
        return StoreError(
            f"The database {location} has these rows already, or they do not belong together: {reason}.",
            "Write each frame of a track once, and into a run that exists.",
        )
    if "locked" in reason or "busy" in reason:
        return StoreError(
            f"The database {location} is locked by another process.",
            "Try again; when it persists, end the program that holds it (a database browser, a backup).",
        )
    if "no such table" in reason or "does not exist" in reason:
        return StoreError(
            f"The database {location} has no tables yet ({reason}).", "Start the service on it once, which makes them."
        )
    return StoreError(
        f"The database {location} cannot be used: {reason}.",
        "Check that its folder exists, is writable, is on a local disk with free space, or that the server runs.",
    )
