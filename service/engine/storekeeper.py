"""The thread that commits results: one transaction per batch, in order.

A database that is locked for a while is waited for; what comes meanwhile
waits in a bounded stage. Nothing is dropped without being counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from models.tables import Localizations, Tracks
from service.engine.analyzer import AnalysisBatch, FrameResult
from service.engine.stages import Stage
from service.store import errors
from service.store.frames import FrameTimes
from service.store.store import Store

__all__ = ["Storekeeper"]

_PATIENCE_S = 0.25
_TRIES = 4
"""Each try waits for the database's busy timeout, so this is about half a minute before a batch is given up."""


class Storekeeper(threading.Thread):
    """Appends the batches of one run until their stage has ended.

    Parameters
    ----------
    store : Store
    run_id : str
    stage : Stage of AnalysisBatch
    figures : callable
        Gives ``latency_ms``, ``stages`` and ``fps`` of the run so far.
    after : sequence of callables
        Each gets every result once it is committed.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        stage: Stage[AnalysisBatch],
        figures: Callable[[], dict[str, Any]],
        after: Sequence[Callable[[FrameResult], None]] = (),
    ) -> None:
        super().__init__(name="store", daemon=True)
        self._store = store
        self._run_id = run_id
        self._stage = stage
        self._figures = figures
        self._after = after
        self.problem: str | None = None
        self.unstored = 0

    def run(self) -> None:
        """Commit until the stage has ended."""
        while not self._stage.ended:
            for batch in self._stage.take(1, _PATIENCE_S):
                self._commit(batch)
                for result in batch.results:
                    for use in self._after:
                        use(result)

    def give_up(self, batch: AnalysisBatch, reason: str) -> None:
        """Count a batch that cannot be kept."""
        self.unstored += len(batch.results)
        self.problem = f"Results of {self.unstored} frames are not in the database: {reason}"

    def _commit(self, batch: AnalysisBatch) -> None:
        first, last = batch.results[0], batch.results[-1]
        for attempt in range(_TRIES):
            try:
                self._store.append(
                    self._run_id,
                    Localizations.concatenate(result.found for result in batch.results),
                    Tracks.concatenate(result.state.rows() for result in batch.results),
                    batch.counts.as_dict(),
                    (first.state.t_s, last.state.t_s),
                    analysed=FrameTimes.of(
                        (result.frame for result in batch.results), (result.time_s for result in batch.results)
                    ),
                    model_id=batch.model_id,
                    **self._figures(),
                )
            except errors.StoreError as error:
                if attempt == _TRIES - 1:
                    self.give_up(batch, str(error))
                time.sleep(_PATIENCE_S)
            else:
                return
