"""Counts of refused requests, for the figures of the service and its log."""

from __future__ import annotations

from collections import Counter

import structlog
from starlette.requests import HTTPConnection

from service.api.repeats import Repeats

__all__ = ["RefusalCounter"]

_log = structlog.get_logger(__name__)


class RefusalCounter:
    """Counts refused requests by reason, and logs wrong keys: each address once a minute, never the key.

    Attributes
    ----------
    counts : Counter
        Requests and WebSockets by the reason of their refusal.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("host", "origin", "key", "role", "rate", "body"), 0))
        self._repeats = Repeats()

    def note(self, reason: str, connection: HTTPConnection) -> None:
        """Count one refusal; `reason` is one of those of `counts`."""
        self.counts[reason] += 1
        if reason != "key":
            return
        client = connection.client.host if connection.client else "unknown"
        held_back = self._repeats.held_back(client)
        if held_back is not None:
            _log.warning("wrong_key", client=client, path=connection.scope["path"][:100], not_logged=held_back)
