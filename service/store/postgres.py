"""Connections to PostgreSQL with a limit for every wait.

The server ends long waits itself (`lock_timeout`, `statement_timeout`). A
server that hangs cannot, while its machine still acknowledges data, so that no
setting of TCP notices: the client limits the time of each reply as well.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import OperationalError

__all__ = ["BoundedConnection", "connection_options"]

_CONNECT_TIMEOUT_S = 3
"""A server in the same building accepts at once, or not at all."""

_STATEMENT_TIMEOUT_S = 8
"""Every statement of the service reads or writes a limited part, which takes well below a second."""

_REPLY_TIMEOUT_S = 10.0
"""Longer than the limits of the server: it applies when the server hangs."""

_IDLE_TIMEOUT_S = 60
"""Longest time that the transaction of a hanging process holds its locks."""

_DEAD_PEER_MS = 10_000
"""When sent data is not acknowledged for this time, the machine of the server is gone."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when a reply takes longer than `reply_timeout_s`."""

    reply_timeout_s: float = _REPLY_TIMEOUT_S

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """As psycopg's method, through which all waits for the server pass, but for a limited time."""
        try:
            return super().wait(_limited(gen, self.reply_timeout_s), *arguments, **named)
        except _NoReply as error:
            self.close()
            raise OperationalError(str(error)) from None


class _NoReply(Exception):
    """Not an error of psycopg, which psycopg would treat as an error of the statement."""


def connection_options(busy_timeout_s: float, given: dict[str, Any]) -> dict[str, Any]:
    """Keywords for `psycopg.connect`: those that are `given` (they win), and the limits.

    `busy_timeout_s` is how long a statement waits for a lock.
    """
    limits = {
        "lock_timeout": busy_timeout_s,
        "statement_timeout": _STATEMENT_TIMEOUT_S,
        "idle_in_transaction_session_timeout": _IDLE_TIMEOUT_S,
    }
    limiting = [f"-c {name}={round(1000 * limit_s)}ms" for name, limit_s in limits.items()]
    network = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "tcp_user_timeout": _DEAD_PEER_MS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "bathyscope",
    }
    return {**network, **given, "options": " ".join([*limiting, str(given.get("options", ""))]).strip()}


def _limited(steps: Generator[Any, Any, Any], limit_s: float) -> Generator[Any, Any, Any]:
    deadline_s = time.monotonic() + limit_s
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline_s:
                raise _NoReply(f"the server did not reply within {limit_s:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
