"""Errors of the database drivers as errors that state a remedy."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError as ValueOutOfRange
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import DataError
from service.store.errors import StoreError

__all__ = ["plain_errors"]

_LONGEST_REASON = 300
_MASK_OF_KIND = 0xFF
"""SQLite's extended codes hold the kind of an error in their lowest byte."""

_LOCKED = (
    "is locked by another process.",
    "Try again; when it persists, end the program that holds it (a database browser, a backup).",
)
_FULL = ("has no room: its disk is full.", "Make room; the service goes on by itself.")
_NO_TABLES = ("has no tables yet ({reason}).", "Start the service on it once, which makes them.")
_BUSY = (
    "responds too slowly ({reason}).",
    "Try again; when it persists, see what keeps the database server busy.",
)
_NO_REPLY = (
    "does not respond ({reason}).",
    "Check that the server runs and can be reached; the service goes on by itself.",
)
_UNSURE = (
    "cannot be used: {reason}.",
    "Check that its folder exists, is writable, is on a local disk with free space, or that the server runs.",
)

_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: (
        "cannot be written: the file, its folder or its disk is read-only.",
        "Correct its permissions or mount its disk for writing, or choose another data directory.",
    ),
    sqlite3.SQLITE_NOTADB: (
        "is no SQLite database.",
        "Restore a backup; or move the file away and start again, which makes a new one.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged ({reason}).",
        "Restore a backup; or move the file away and start again, which makes a new one.",
    ),
}

# SQLSTATE, PostgreSQL's appendix A: the same for all languages of the server.
_STATES = {
    "55P03": _LOCKED,
    "40P01": _LOCKED,
    "57014": _BUSY,
    "42P01": _NO_TABLES,
    "53100": _FULL,
}

# Errors of libpq during the connection have no SQLSTATE.
_CONNECTING = (
    (
        r'database ".*" does not exist',
        ("is not there ({reason}).", "Make it (createdb NAME), or correct the URL."),
    ),
    (
        r'role ".*" does not exist|authentication failed|no password supplied|no pg_hba\.conf entry',
        (
            "refuses this user ({reason}).",
            "Correct user and password in the URL, or allow this user there.",
        ),
    ),
    (
        r"translate host name|Name or service not known|resolve host|Temporary failure in name resolution",
        ("is on an unknown host ({reason}).", "Correct the host in the URL, or its entry in the DNS."),
    ),
    (
        r"invalid (connection|URI|port|integer)|connection option",
        (
            "has a database_url that the driver refuses ({reason}).",
            "Give it as postgresql://user:password@host:5432/name.",
        ),
    ),
    (r"timeout expired|did not reply|Connection refused|No such file|No route to host", _NO_REPLY),
)


@contextmanager
def plain_errors(location: str) -> Iterator[None]:
    """Raise the errors of the block as `StoreError`, or as `DataError` where a value is the cause."""
    try:
        yield
    except (ValueOutOfRange, OverflowError, UnicodeEncodeError) as error:
        raise DataError(
            f"A value does not fit into the database ({_reason(error)}).",
            "Whole numbers have at most 64 bits, and text has no NUL.",
        ) from error
    except IntegrityError as error:
        raise StoreError(
            f"The database {location} has these rows already, or they contradict each other: {_reason(error)}.",
            "Write each frame of a track once, and into a run that exists.",
        ) from error
    except SQLAlchemyError as error:
        reason = _reason(error)
        problem, remedy = _words(error, reason)
        raise StoreError(f"The database {location} {problem.replace('{reason}', reason)}", remedy) from error


def _reason(error: Exception) -> str:
    lines = str(error.orig if isinstance(error, DBAPIError) else error).split("\n")
    return "; ".join(line.strip() for line in lines if line.strip())[:_LONGEST_REASON].rstrip(".") or "no reason given"


def _words(error: SQLAlchemyError, reason: str) -> tuple[str, str]:
    if isinstance(error, PoolTimeout):
        return "is busy: all its connections are in use.", "Try again in a moment."
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error):
        if "no such table" in reason:
            return _NO_TABLES
        return _SQLITE.get(getattr(original, "sqlite_errorcode", 0) & _MASK_OF_KIND, _UNSURE)
    if state := getattr(original, "sqlstate", None):
        return _STATES.get(state, _UNSURE)
    return next((words for pattern, words in _CONNECTING if re.search(pattern, reason)), _UNSURE)
