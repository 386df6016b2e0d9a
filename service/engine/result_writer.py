"""The thread that commits results: one transaction per batch, in order.

While the database is locked or not reachable, batches wait in a bounded stage.
Frames count as analysed when their batch is committed. The frames of a batch
that is given up are turned away: deferred when they are recorded, and analysed
again after the run, else skipped.

Points of tracks are smoothed here by the next frames, so they are stored with a
later batch than the frame that they are in, and the last ones at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models.tables import Localizations, Tracks
from models.tracking.fixed_lag import FixedLag
from service.engine.analysis_batch import AnalysisBatch
from service.engine.ledger import Ledger
from service.engine.stages import Stage
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.runs import RunFigures
from service.store.schema import LIVE_REVISION
from service.store.store import Store
from service.store.tracks import TrackQuery
from service.worker_thread import WorkerThread

__all__ = ["ResultWriter"]

_PAUSE_S = 0.25
"""Between attempts; each also waits for the database's busy timeout."""

_PATIENCE_S = 60.0
"""Longest time for one batch: the stage before it holds the batches of the same time."""

_END_PATIENCE_S = 30.0
"""Longest wait for the database at the end of a run, for all waiting batches together."""


class ResultWriter(WorkerThread):
    """Appends the batches of one run until their stage has ended.

    Parameters
    ----------
    store : Store
    run_id : str
    stage : Stage of AnalysisBatch
    ledger : Ledger
        Counts the frames that are stored, and those that are not.
    figures : callable
        Returns ``latency_ms``, ``stages`` and ``fps`` of the run so far.
    lag_frames : int
        Frames by which points of tracks are smoothed, see `FixedLag`.
    stored : callable
        Receives every batch after its commit; must not block.
    failed : callable
        Receives the exception that ended the thread; the frames of waiting and later batches are turned away.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        stage: Stage[AnalysisBatch],
        ledger: Ledger,
        figures: Callable[[], dict[str, Any]],
        *,
        lag_frames: int,
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
        self._lag = FixedLag(lag_frames)
        self._points = Tracks.empty()
        self._given_up: set[int] = set()
        self._open: AnalysisBatch | None = None
        self._end_s: float | None = None
        self._over = False
        self._lock = threading.Lock()
        self._unstored = self._unstored_points = 0
        self._reason = ""

    @property
    def problem(self) -> str | None:
        """What is not in the database although it was analysed, and the reason; None: nothing."""
        if self._unstored:
            return f"Results of {self._unstored} frames could not be stored: {self._reason}"
        if self._unstored_points:
            return f"The last {self._unstored_points} points of live tracks could not be stored: {self._reason}"
        return None

    def work(self) -> None:
        """Commit until the stage has ended."""
        while not self._stage.ended:
            for batch in self._stage.take(1, _PAUSE_S):
                self._open = batch
                self._commit(batch)
        self._commit_last_points()

    def drain(self) -> None:
        """Give up the present and all later batches."""
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
        self._smooth(self._lag.add([result.state for result in batch.results]))
        if self._written(lambda: self._append(batch), lambda: self._is_stored(batch)):
            self._open, self._points = None, Tracks.empty()
            self._ledger.analyse(batch.numbers)
            self._stored(batch)
            return
        self._over = self._stage.closed
        self._open = None
        self.give_up(batch, self._reason)
        self._given_up.update(batch.numbers)

    def _commit_last_points(self) -> None:
        self._smooth(self._lag.finish())
        points = self._points
        if len(points) and not self._written(
            lambda: self._store.append_points(self._run_id, points), lambda: self._are_stored(points)
        ):
            self._unstored_points = len(points)

    def _smooth(self, ready: Tracks) -> None:
        """Take points that are ready; those in frames that were given up are left out."""
        points = Tracks.concatenate([self._points, ready])
        lost = np.isin(points.frame, list(self._given_up))
        self._points = points.select(~lost) if lost.any() else points

    def _written(self, write: Callable[[], None], is_stored: Callable[[], bool]) -> bool:
        """Try to write until the time is over; whether it is stored."""
        until_s = time.monotonic() + _PATIENCE_S
        tried = False
        while not self._over:
            try:
                # The reply to a commit may be lost with the connection, although it is stored.
                if not (tried and is_stored()):
                    write()
            except UnknownItem:
                raise  # the run was deleted
            except StoreError as error:
                tried, self._reason = True, str(error)
                if time.monotonic() >= self._deadline_s(until_s):
                    break
                time.sleep(_PAUSE_S)
            else:
                return True
        return False

    def _deadline_s(self, until_s: float) -> float:
        """Time at which a batch is given up: `until_s`, or earlier at the end of a run."""
        if self._end_s is None and self._stage.closed:
            self._end_s = time.monotonic() + _END_PATIENCE_S
        return until_s if self._end_s is None else min(until_s, self._end_s)

    def _is_stored(self, batch: AnalysisBatch) -> bool:
        newest = self._store.localizations.list(self._run_id, limit=1).items
        return any((item.frame_from, item.frame_to) == (batch.numbers[0], batch.numbers[-1]) for item in newest)

    def _are_stored(self, points: Tracks) -> bool:
        last = int(points.track_id[-1]), int(points.frame[-1])
        known = self._store.tracks.query(self._run_id, TrackQuery(revision=LIVE_REVISION)).items
        return any(track.track_id == last[0] and track.frame_to >= last[1] for track in known)

    def _append(self, batch: AnalysisBatch) -> None:
        results = batch.results
        self._store.append(
            self._run_id,
            ResultBatch(
                Localizations.concatenate(result.found for result in results),
                self._points,
                (results[0].state.t_s, results[-1].state.t_s),
                analysed=FrameTimes.of(batch.numbers, (result.time_s for result in results)),
                model_id=batch.model.id,
                events=batch.events,
            ),
            self._ledger.counts(storing=len(results)).as_dict(),
            RunFigures(**self._figures()),
        )
