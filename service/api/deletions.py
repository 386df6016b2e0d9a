"""Deletion of runs in the API process: what is in use is not deleted, and a task deletes the rest in small steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio.to_thread

from service.api.live import Live
from service.api.run_readers import RunReaders
from service.files.retention import RetentionPlan, apply_retention, plan_retention
from service.files.run_removal import RunRemover
from service.settings import Settings
from service.store.store import Store

__all__ = ["Deletions"]

_PERIOD_S = 60.0
"""Time until files that could not be deleted are tried again."""

_RULES_S = 600.0
"""Time between two applications of the rules of retention: a fast camera fills 32 GB meanwhile."""

_PAUSE_S = 0.005
"""Between two steps, so that the engine's transactions come first."""


class Deletions:
    """The deletions of one service.

    Parameters
    ----------
    store : Store
    settings : Settings
        Data directory, and rules of retention.
    live : Live
        Its status names the run that the engine computes.
    readers : RunReaders

    Attributes
    ----------
    remover : RunRemover
    rules : RetentionPart
    """

    def __init__(self, store: Store, settings: Settings, live: Live, readers: RunReaders) -> None:
        self._store = store
        self._data_dir = settings.data_dir
        self.rules = settings.retention
        self._copied = settings.copy_off.url is not None
        self._live = live
        self._readers = readers
        self._wake = asyncio.Event()
        self.remover = RunRemover(store, settings.data_dir, self._use_of)

    def wake(self) -> None:
        """Begin the work now; call it on the event loop."""
        self._wake.set()

    def plan(self) -> RetentionPlan:
        """What the rules of retention ask for now. Blocks."""
        return plan_retention(self._store, self._data_dir, self.rules, self.remover, copied=self._copied)

    def apply_rules(self) -> RetentionPlan:
        """Begin the deletions that the rules of retention ask for. Blocks."""
        return apply_retention(self.plan(), self.remover, self._store, self._data_dir)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what is noted while the block runs."""
        async with self._live.keep_running("deletions", self._work):
            yield

    async def _work(self) -> None:
        due_s = time.monotonic()
        while True:
            self._wake.clear()
            if self.rules.is_set and time.monotonic() >= due_s:
                due_s = time.monotonic() + _RULES_S
                await anyio.to_thread.run_sync(self.apply_rules)
            steps = self.remover.work()
            while await anyio.to_thread.run_sync(_advance, steps):
                pass
            try:
                async with asyncio.timeout(_PERIOD_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _use_of(self, run_id: str) -> str | None:
        if (self._live.status or {}).get("catching_up") == run_id:
            return "the engine analyses its deferred frames or smooths its tracks"
        return self._readers.use_of(run_id)


def _advance(steps: Iterator[None]) -> bool:
    """Do one step; False when there is none left."""
    time.sleep(_PAUSE_S)
    return next(steps, "done") != "done"
