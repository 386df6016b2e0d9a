"""How many database reads are under way, and in which threads.

Reading and encoding many rows keeps a processor busy, and Python's lock with
it: many at once starve the event loop, whose silence ends the process. So
heavy reads have two threads, light ones have others, and the look at the
database's health has its own: none of them waits behind a slower kind, nor
behind requests that read no database. Who would wait for long is told 503.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from service.api.problems import NotReady

__all__ = ["ReadLimit", "Reads"]

_HEAVY_AT_ONCE, _HEAVY_WAITING = 2, 14
"""One reads while the other encodes. The last of those that wait has its answer within about 10 s."""

_LIGHT_AT_ONCE, _LIGHT_WAITING = 6, 200
"""A light read takes milliseconds; six stay below the connections that the database's pool keeps."""

_HEALTH_AT_ONCE, _HEALTH_WAITING = 1, 50

_DOWNLOADS = 16
"""Open downloads. Each holds a few MB (one part of its table) until its client has taken it."""

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class ReadLimit:
    """Calls in threads of their own: some at once, some waiting, no more.

    Parameters
    ----------
    at_once, waiting : int
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._most = at_once + waiting
        self._inside = 0
        self._threads = anyio.CapacityLimiter(at_once)

    async def run(
        self, function: Callable[Parameters, Answer], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Answer:
        """What `function` returns.

        Raises
        ------
        NotReady
            When as many as may wait are waiting.
        """
        if self._inside >= self._most:
            raise NotReady(
                f"{self._inside} reads of this kind are under way, which is as many as may be.",
                "Try again in a moment, with fewer requests at once.",
            )
        self._inside += 1
        try:
            return await self.step(function, *arguments, **named)
        finally:
            self._inside -= 1

    async def step(
        self, function: Callable[Parameters, Answer], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Answer:
        """As `run`, for one more part of what has been let in: it waits, and is never refused."""
        call = functools.partial(function, *arguments, **named)
        return await anyio.to_thread.run_sync(call, limiter=self._threads)


class Reads:
    """The reads of one application.

    Attributes
    ----------
    heavy : of points and localizations
    light : of a few rows
    health : whether the database answers
    """

    def __init__(self) -> None:
        self.heavy = ReadLimit(_HEAVY_AT_ONCE, _HEAVY_WAITING)
        self.light = ReadLimit(_LIGHT_AT_ONCE, _LIGHT_WAITING)
        self.health = ReadLimit(_HEALTH_AT_ONCE, _HEALTH_WAITING)
        self._downloads = 0

    @contextmanager
    def download(self) -> Iterator[None]:
        """Count a download while the block runs.

        Raises
        ------
        NotReady
            When as many as may be open are open.
        """
        if self._downloads >= _DOWNLOADS:
            raise NotReady(
                f"{self._downloads} downloads are open, which is as many as may be.",
                "Try again when one of them has ended; a download that nobody reads is ended by the service.",
            )
        self._downloads += 1
        try:
            yield
        finally:
            self._downloads -= 1
