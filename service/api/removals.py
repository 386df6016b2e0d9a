"""Deletion of runs in the API process: what is in use is not deleted, and a task deletes the rest in small steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from service.api.live import Live
from service.api.run_readers import RunReaders
from service.files.run_removal import RunRemover
from service.store.store import Store

__all__ = ["Deletions"]

_PERIOD_S = 60.0
"""Time until files that could not be deleted are tried again."""

_PAUSE_S = 0.005
"""Between two steps, so that the engine's transactions come first."""


class Deletions:
    """The deletions of one service.

    Parameters
    ----------
    store : Store
    data_dir : Path
    live : Live
        Its status names the run that the engine computes.
    readers : RunReaders

    Attributes
    ----------
    remover : RunRemover
    """

    def __init__(self, store: Store, data_dir: Path, live: Live, readers: RunReaders) -> None:
        self._live = live
        self._readers = readers
        self._wake = asyncio.Event()
        self.remover = RunRemover(store, data_dir, self._use_of)

    def wake(self) -> None:
        """Begin the work now; call it on the event loop."""
        self._wake.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what is noted while the block runs."""
        async with self._live.keep_running("deletions", self._work):
            yield

    async def _work(self) -> None:
        while True:
            self._wake.clear()
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
