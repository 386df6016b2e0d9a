"""Connections: SQLite in WAL mode for one machine, PostgreSQL by URL.

SQLite allows one writer at a time. A transaction that begins as a reader and
writes later can fail at once when another process wrote in between, whatever
the busy timeout; so writing transactions begin with BEGIN IMMEDIATE and wait
for their turn. With WAL, readers never wait for the
writer. `synchronous = NORMAL` makes a commit survive a killed process, not
the loss of power. Every wait has a limit: for a lock, a reply, a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from service.store.errors import StoreError
from service.store.plain_errors import plain_errors
from service.store.sqlite_file import SqliteFile
from service.store.values import dump_json, load_json

__all__ = ["Database"]

_BUSY_TIMEOUT_S = 5.0
"""A writer's transaction takes milliseconds; a longer wait means that another process hangs."""

_CONNECTIONS = 10
"""Connections that are kept open; the HTTP layer reads with fewer threads."""

_POOL_TIMEOUT_S = 5.0
"""How long a thread waits for one of the connections: as long as for a lock."""

_MIGRATION_TIMEOUT_S = 3600.0
"""A migration may copy a long table, or wait for the migration of another service."""

_WRITE = "bathyscope_write"
_FILES = "bathyscope_files"


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
        self._file = SqliteFile(Path(str(self.url.database))) if self.is_sqlite else None
        self._engine = _create_engine(self.url, self._file, busy_timeout_s)
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
        with plain_errors(self.location), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, committed when the block ends and undone when it fails."""
        with plain_errors(self.location), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """As `writing`, for as long as it takes, and in a SQLite file that is made where there is none."""
        if self._file is not None:
            self._file.make()
        with self.writing() as connection, _patience(connection):
            yield connection
        if self._file is not None:
            self._file.remember()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        if self._file is not None:
            self._file.forget()


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:  # the latter from a port that is no number
        raise StoreError(
            "The database URL is not understood.", "Give it as postgresql://user:password@host:5432/name."
        ) from error
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
    backend = url.get_backend_name()
    if backend not in drivers:
        raise StoreError(
            f"The database URL starts with {url.drivername}://; only SQLite and PostgreSQL are supported.",
            "Give a path for SQLite, or postgresql://user:password@host:5432/name.",
        )
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreError(
            "The database URL names no file; what is kept in memory is gone when a process ends.",
            "Give the path of a file, as sqlite:////folder/bathyscope.db.",
        )
    return url.set(drivername=drivers[backend])


def _create_engine(url: URL, file: SqliteFile | None, busy_timeout_s: float) -> Engine:
    options: dict[str, Any] = {
        "json_serializer": dump_json,
        "json_deserializer": load_json,
        "pool_size": _CONNECTIONS,
        "max_overflow": _CONNECTIONS,
        "pool_timeout": _POOL_TIMEOUT_S,
    }
    if file is not None:
        engine = create_engine(url, creator=lambda: file.connect(busy_timeout_s), **options)
        _guard_sqlite(engine, file)
        return engine
    try:
        engine = create_engine(url, pool_pre_ping=True, **options)
        from service.store.postgres import BoundedConnection, connection_options
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"The driver for {url.drivername} is not installed.", "Install it with: pip install 'bathyscope[postgres]'."
        ) from error

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: list[Any], named: dict[str, Any]) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **connection_options(busy_timeout_s, named))

    return engine


def _guard_sqlite(engine: Engine, file: SqliteFile) -> None:
    @event.listens_for(engine, "connect")
    def _remember(_connection: object, record: Any) -> None:
        record.info[_FILES] = file.files()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        file.check(connection.info[_FILES])
        writes = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """Lift the limits of PostgreSQL and its driver for one transaction."""
    if connection.dialect.name == "sqlite":
        yield
        return
    for limit in ("lock_timeout", "statement_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = '{_MIGRATION_TIMEOUT_S:g}s'"))
    driver: Any = connection.connection.dbapi_connection
    driver.reply_timeout_s = _MIGRATION_TIMEOUT_S
    try:
        yield
    finally:
        del driver.reply_timeout_s  # the limit of all connections applies again
