"""Which runs are being read by requests, so that no run is deleted under a download or a measurement."""

from __future__ import annotations

import re
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CountReaders", "RunReaders"]

_READS = re.compile(r"/api/v1/runs/([^/]+)/(?:tracks|track-events|localizations|measures|frames|export)\b")


class RunReaders:
    """Requests that read a run now, by run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def use_of(self, run_id: str) -> str | None:
        """Whether a run is being read, as a clause; None when it is not."""
        count = self.counts[run_id]
        return f"{count} {'request reads' if count == 1 else 'requests read'} it" if count else None


class CountReaders:
    """Counts the requests that read a run, from their first to their last byte.

    Parameters
    ----------
    app : ASGI application
    readers : RunReaders
    """

    def __init__(self, app: ASGIApp, readers: RunReaders) -> None:
        self._app = app
        self._counts = readers.counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it."""
        found = _READS.match(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        run_id = found[1]
        self._counts[run_id] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._counts[run_id] -= 1
            if not self._counts[run_id]:
                del self._counts[run_id]
