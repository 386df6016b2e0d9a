"""Limits of the database reads that run at the same time, and their threads.

Reading and encoding many rows holds a processor and Python's global lock: many
reads at once would block the event loop, and the supervisor would end the
process. So heavy reads have two threads, light ones have others, and the
health check of the database has its own: none waits behind a slower kind, nor
behind requests that read no database. A request that would wait too long gets
a 503.
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
"""One reads while the other encodes. The last waiting request is served within about 10 s."""

_LIGHT_AT_ONCE, _LIGHT_WAITING = 6, 200
"""A light read takes milliseconds; six are fewer than the connections of the database's pool."""

_HEALTH_AT_ONCE, _HEALTH_WAITING = 1, 50

_DOWNLOADS = 16
"""Open downloads. Each holds a few MB (one part of its table) until its client has received it."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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
        self, function: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Call `function` and return its result.

        Raises
        ------
        NotReady
            When the queue is full.
        """
        if self._inside >= self._most:
            raise NotReady(
                f"{self._inside} reads of this kind are running or waiting, which is the limit.",
                "Try again in a moment, with fewer requests at once.",
            )
        self._inside += 1
        try:
            return await self.step(function, *arguments, **named)
        finally:
            self._inside -= 1

    async def step(
        self, function: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """As `run`, for a further part of an accepted request: it waits, and is never refused."""
        call = functools.partial(function, *arguments, **named)
        return await anyio.to_thread.run_sync(call, limiter=self._threads)


class Reads:
    """The reads of one application.

    Attributes
    ----------
    heavy : of points and localizations
    light : of a few rows
    health : of one row, to check that the database responds
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
            When the limit of open downloads is reached.
        """
        if self._downloads >= _DOWNLOADS:
            raise NotReady(
                f"{self._downloads} downloads are open, which is the limit.",
                "Try again when one of them has ended; the service ends a download whose client does not read.",
            )
        self._downloads += 1
        try:
            yield
        finally:
            self._downloads -= 1
