"""Connections to PostgreSQL that never wait for ever.

The server is asked to give up by itself (`lock_timeout`,
`statement_timeout`). A server that stands still does not do so, and its
machine still acknowledges what is sent, so that no setting of TCP notices:
the client measures the time of each answer as well.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import OperationalError

__all__ = ["BoundedConnection", "connection_options"]

_CONNECT_TIMEOUT_S = 3
"""A server in the same house answers at once, or not at all."""

_STATEMENT_TIMEOUT_S = 8
"""Every statement of the service reads or writes a bounded part, which takes well below a second."""

_ANSWER_TIMEOUT_S = 10.0
"""The server gives up before: this is for one that cannot."""

_IDLE_TIMEOUT_S = 60
"""A transaction of a process that stands still holds its locks no longer."""

_DEAD_PEER_MS = 10_000
"""Sent data that is not acknowledged for so long means that the server's machine is gone."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes longer than `answer_timeout_s`."""

    answer_timeout_s: float = _ANSWER_TIMEOUT_S

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """As psycopg's, which everything that waits for the server goes through, but for a limited time."""
        try:
            return super().wait(_limited(gen, self.answer_timeout_s), *arguments, **named)
        except _NoAnswer as error:
            self.close()
            raise OperationalError(str(error)) from None


class _NoAnswer(Exception):
    """Not an error of psycopg, which would be handled on the way as one of the statement."""


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
                raise _NoAnswer(f"the server did not answer within {limit_s:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
