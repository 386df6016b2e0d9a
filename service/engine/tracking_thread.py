"""The thread that tracks: each image is fitted with its tracks as priors, as far as there is time.

It hands each result to the view, and every 100 ms a batch of results to the
store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from models.tables import TrackEvents
from models.tracking.image_tracker import one_thread
from service.analysis.frame_tracker import FrameResult, FrameTracker
from service.engine.analysis_batch import AnalysisBatch, AnalysisModel, AnalysisOutputs
from service.engine.fit_time import FitTime
from service.engine.localization_thread import LocalizedFrame
from service.engine.stages import Stage
from service.protocol.latency import LatencyHistogram
from service.worker_thread import WorkerThread

if TYPE_CHECKING:
    from models.tracking.events import EventObserver

__all__ = ["BATCH_S", "TrackingThread"]

BATCH_S = 0.1
"""Results of this time go to the store in one transaction, s: a killed process loses at most these."""


class TrackingThread(WorkerThread):
    """Tracks the emitters of localized frames, until their stage has ended.

    Parameters
    ----------
    tracker : FrameTracker
    observer : EventObserver
        New for each run: it keeps state. It sees the tracks after they are shown.
    model : AnalysisModel
        Of the first frames.
    localized : Stage of LocalizedFrame
    backlog : callable
        Returns the number of frames that wait for the thread before, beyond those that it gathers on purpose.
    latency : LatencyHistogram
        From mid-exposure to tracked.
    outputs : AnalysisOutputs
    failed : callable
        Receives the exception that ended the thread; later frames are turned away.

    Attributes
    ----------
    frames : int
        Number of frames that are localized and tracked.
    fit_counts : dict of str to int or None
        Number of these frames by the degree of their fit; None when emitters are not fitted to the images.
    """

    def __init__(
        self,
        tracker: FrameTracker,
        observer: EventObserver,
        model: AnalysisModel,
        localized: Stage[LocalizedFrame],
        backlog: Callable[[], int],
        latency: LatencyHistogram,
        outputs: AnalysisOutputs,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("track", failed)
        self.frames = 0
        self._tracker = tracker
        self._observer = observer
        self._model = model
        self._localized = localized
        self._backlog = backlog
        self._latency = latency
        self._outputs = outputs
        self._fit_time = FitTime(model.fit_cost)
        self._taken: list[int] = []
        self._newest: int | None = None
        self._waiting: list[FrameResult] = []
        self._waiting_since_s = time.monotonic()

    @property
    def fit_counts(self) -> dict[str, int] | None:
        """See the class."""
        counts = self._fit_time.counts
        return dict(counts) if self._tracker.fits or any(counts.values()) else None

    def work(self) -> None:
        """Track until the stage has ended."""
        with one_thread():
            while not self._localized.ended:
                for item in self._localized.take(1, timeout_s=BATCH_S):
                    self._take(item)
                self._commit(time.monotonic())
        self._commit(np.inf)

    def drain(self) -> None:
        """Hand on the finished results; turn away the other frames, and all later ones."""
        self._outputs.turn_away(self._taken)
        self._commit(np.inf)
        while not self._localized.ended:
            late = self._localized.take(1, timeout_s=BATCH_S)
            self._outputs.turn_away([item.candidates.frame.index for item in late])

    def _take(self, item: LocalizedFrame) -> None:
        self._taken = [item.candidates.frame.index]
        if item.model is not self._model:
            self._commit(np.inf)
            self._model = item.model
            self._fit_time.begin_with(item.model.fit_cost)
            self._tracker.follow(item.candidates.localizer)
        result = self._track(item)
        self._latency.add(time.monotonic() - result.time_s)
        self._waiting.append(result)
        self._taken = []
        self.frames += 1
        self._outputs.show(result)

    def _track(self, item: LocalizedFrame) -> FrameResult:
        """Tracks after a frame, with as much of the fit as there is time for."""
        candidates = item.candidates
        frame = candidates.frame
        missing = 0 if self._newest is None else frame.index - self._newest - 1
        self._newest = frame.index
        if not self._tracker.fits:
            return self._tracker.track(candidates)
        emitters = self._tracker.emitters(candidates)
        begin_s = time.monotonic()
        degree, effort = self._fit_time.choose(frame.time_s, emitters, begin_s - item.since_s, self._backlog(), missing)
        result = self._tracker.track(candidates, effort)
        self._fit_time.note(degree, emitters, time.monotonic() - begin_s)
        return result

    def _commit(self, now_s: Any) -> None:
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        elif now_s - self._waiting_since_s >= BATCH_S:
            results, self._waiting = self._waiting, []
            self._waiting_since_s = time.monotonic()
            events = TrackEvents.concatenate(self._observer.step(result.state) for result in results)
            self._outputs.keep(AnalysisBatch(tuple(results), self._model.description, events))
