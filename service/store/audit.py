"""The audit: who changed, moved or deleted what, and with which outcome."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from service.store.database import Database
from service.store.pages import Page, parse_cursor
from service.store.rows import moment, page_of
from service.store.schema import audit

__all__ = ["Audit", "AuditLine"]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One request or rule that changed something.

    Attributes
    ----------
    id : of the line
    occurred_at : UTC
    who : name of the key; ``local`` without keys, ``access_key`` for that of the setting, ``retention`` for its rules
    role : of the key
    client : address, followed by the program in brackets where the request names one
    method, path : of the request
    body : what was sent, as text; None when nothing was, or it was long
    status : HTTP status of the response
    """

    id: int
    occurred_at: datetime
    who: str
    role: str
    client: str
    method: str
    path: str
    body: str | None
    status: int


class Audit:
    """The table of audit lines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, who: str, role: str, client: str, method: str, path: str, body: str | None = None, status: int = 200
    ) -> None:
        """Store a line; see `AuditLine`."""
        values = {
            "occurred_at": time.time(),
            "who": who,
            "role": role,
            "client": client,
            "method": method,
            "path": path,
            "body": body,
            "status": status,
        }
        with self._database.writing() as connection:
            connection.execute(insert(audit).values(values))

    def list(self, limit: int = 100, cursor: str | None = None, *, who: str | None = None) -> Page[AuditLine]:
        """At most `limit` lines, newest first, of one key where given.

        Raises
        ------
        DataError
            When no list returned `cursor`.
        """
        query = select(audit).where(audit.c.id < parse_cursor(cursor)).order_by(audit.c.id.desc()).limit(limit + 1)
        if who is not None:
            query = query.where(audit.c.who == who)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return page_of(rows, limit, "id", _line)


def _line(row: Row[Any]) -> AuditLine:
    values = {field.name: getattr(row, field.name) for field in fields(AuditLine)}
    return AuditLine(**values | {"occurred_at": moment(row.occurred_at, "audit line", row.id)})
