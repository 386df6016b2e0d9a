"""The thread that commits results: one transaction per batch, in order.

A database that is locked or away for a while is waited for; what comes
meanwhile waits in a bounded stage. Frames count as analysed when their batch
is committed. The frames of a batch that is given up are turned away: deferred
when they are recorded, and analysed again after the run, else skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from models.tables import Localizations, Tracks
from service.engine.analyzer import AnalysisBatch
from service.engine.ledger import Ledger
from service.engine.stages import Stage
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.runs import RunFigures
from service.store.store import Store
from service.worker_thread import WorkerThread

__all__ = ["Storekeeper"]

_PAUSE_S = 0.25
"""Between tries; each waits for the database's busy timeout besides."""

_PATIENCE_S = 60.0
"""How long one batch is tried: the stage before it holds as much, so patience ends when there is no room any more."""

_END_PATIENCE_S = 30.0
"""How long the end of a run waits for a database that does not answer, whatever still waits then."""


class Storekeeper(WorkerThread):
    """Appends the batches of one run until their stage has ended.

    Parameters
    ----------
    store : Store
    run_id : str
    stage : Stage of AnalysisBatch
    ledger : Ledger
        Is told which frames are stored, and which are not.
    figures : callable
        Gives ``latency_ms``, ``stages`` and ``fps`` of the run so far.
    stored : callable
        Gets every batch once it is committed; must not block.
    failed : callable
        Gets an exception that ends the thread; the frames of what waits or comes later are turned away.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        stage: Stage[AnalysisBatch],
        ledger: Ledger,
        figures: Callable[[], dict[str, Any]],
        *,
        stored: Callable[[AnalysisBatch], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("store", failed)
        self._store = store
        self._run_id = run_id
        self._stage = stage
        self._ledger = ledger
        self._figures = figures
        self._stored = stored
        self._open: AnalysisBatch | None = None
        self._end_s: float | None = None
        self._over = False
        self._lock = threading.Lock()
        self._unstored = 0
        self._reason = ""

    @property
    def problem(self) -> str | None:
        """How many frames have no results in the database although they were analysed, and why."""
        if not self._unstored:
            return None
        return f"Results of {self._unstored} frames could not be stored: {self._reason}"

    def work(self) -> None:
        """Commit until the stage has ended."""
        while not self._stage.ended:
            for batch in self._stage.take(1, _PAUSE_S):
                self._open = batch
                self._commit(batch)

    def drain(self) -> None:
        """Give up what was being committed, and what comes."""
        reason = f"{type(self.failure).__name__}: {self.failure}"
        if self._open is not None:
            self.give_up(self._open, reason)
        while not self._stage.ended:
            for batch in self._stage.take(1, _PAUSE_S):
                self.give_up(batch, reason)

    def give_up(self, batch: AnalysisBatch, reason: str) -> None:
        """Turn away the frames of a batch that cannot be kept; from any thread."""
        with self._lock:
            self._unstored += len(batch.results)
            self._reason = reason
        self._ledger.turn_away(batch.numbers)

    def _commit(self, batch: AnalysisBatch) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        tried = False
        while not self._over:
            try:
                # The answer to a commit may be lost with the connection; the batch is there then.
                if not (tried and self._is_stored(batch)):
                    self._append(batch)
            except UnknownItem:
                raise  # the run was deleted
            except StoreError as error:
                tried, self._reason = True, str(error)
                if time.monotonic() >= self._deadline_s(until_s):
                    break
                time.sleep(_PAUSE_S)
            else:
                self._open = None
                self._ledger.analyse(batch.numbers)
                self._stored(batch)
                return
        self._over = self._stage.closed
        self._open = None
        self.give_up(batch, self._reason)

    def _deadline_s(self, until_s: float) -> float:
        """When a batch that was to be tried until `until_s` is given up, seeing that the run may have ended."""
        if self._end_s is None and self._stage.closed:
            self._end_s = time.monotonic() + _END_PATIENCE_S
        return until_s if self._end_s is None else min(until_s, self._end_s)

    def _is_stored(self, batch: AnalysisBatch) -> bool:
        newest = self._store.localizations.list(self._run_id, limit=1).items
        return any((item.frame_from, item.frame_to) == (batch.numbers[0], batch.numbers[-1]) for item in newest)

    def _append(self, batch: AnalysisBatch) -> None:
        results = batch.results
        self._store.append(
            self._run_id,
            ResultBatch(
                Localizations.concatenate(result.found for result in results),
                Tracks.concatenate(result.state.rows() for result in results),
                (results[0].state.t_s, results[-1].state.t_s),
                analysed=FrameTimes.of(batch.numbers, (result.time_s for result in results)),
                model_id=batch.model.id,
            ),
            self._ledger.counts(storing=len(results)).as_dict(),
            RunFigures(**self._figures()),
        )
