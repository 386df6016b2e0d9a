"""From frames to localizations to tracks: the one code path, live and offline.

`Analyzer` is a frame-by-frame function with the tracker's memory; the live
thread, `localize`, `track` and reprocessing all run it. `AnalysisThread`
gives it as many frames as have come, hands the newest state to the view, and
every 100 ms a batch to the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.model_card import ModelCard
from models.tables import Localizations
from models.tracking import TracksLocalizations, TrackState
from service.engine.polish import SparePolish
from service.engine.stages import Stage
from service.protocol.latency import Latencies
from service.worker_thread import WorkerThread

__all__ = ["AnalysisBatch", "AnalysisThread", "Analyzer", "FrameResult", "LocalizesFrames"]

_BATCH_S = 0.1
"""Results of this time go to the store in one transaction: what a killed process can lose, s."""


class LocalizesFrames(Protocol):
    """What the engine needs of a localizer."""

    def localize(self, frames: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Find the emitters of frames of shape (B, H, W)."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What was found in one frame.

    Attributes
    ----------
    frame : the camera's image number
    time_s : mid-exposure on the monotonic clock, s
    found : localizations of this frame
    state : all live tracks after it
    """

    frame: int
    time_s: float
    found: Localizations
    state: TrackState


@dataclass(frozen=True, slots=True)
class AnalysisBatch:
    """Results of about 100 ms, all made by one model."""

    results: tuple[FrameResult, ...]
    model: ModelCard

    @property
    def numbers(self) -> list[int]:
        """Image numbers of its frames."""
        return [result.frame for result in self.results]


class Analyzer:
    """Localizes frames and joins what is found to tracks.

    Parameters
    ----------
    localizer : LocalizesFrames
    tracker : TracksLocalizations
        New for each run: it remembers.
    """

    def __init__(self, localizer: LocalizesFrames, tracker: TracksLocalizations) -> None:
        self._localizer = localizer
        self._tracker = tracker
        self._start_s: float | None = None

    def swap(self, localizer: LocalizesFrames) -> None:
        """Go on with another model: all live tracks end, since its depths are not those of the one before."""
        self._localizer = localizer
        self._tracker.end_all()

    def localize(self, frames: Sequence[Frame]) -> list[Localizations]:
        """Localizations of each frame; one call of the network for all of them."""
        numbers = np.array([frame.index for frame in frames], np.int64)
        found = self._localizer.localize(np.stack([frame.pixels for frame in frames]), numbers)
        return [found.select(found.frame == number) for number in numbers]

    def track(self, frames: Sequence[Frame], found: Sequence[Localizations]) -> Iterator[FrameResult]:
        """Tracks after each frame, in order. Times count from the first frame that was ever given."""
        for frame, its in zip(frames, found, strict=True):
            if self._start_s is None:
                self._start_s = frame.time_s
            state = self._tracker.step(frame.time_s - self._start_s, frame.index, its)
            yield FrameResult(frame.index, frame.time_s, its, state)


class AnalysisThread(WorkerThread):
    """Runs an analyzer on what comes into a stage, until the stage has ended.

    Parameters
    ----------
    analyzer : Analyzer
    stage : Stage of Frame
    latencies : Latencies
    model : ModelCard
        Of the analyzer's localizer.
    batch, deadline_s : int, float
        Most frames at once, and the longest that the first of them waits for others, s.
    show : callable
        Gets each result at once; must not block.
    keep : callable
        Gets each batch of results; must not block.
    failed : callable
        Is called with the exception when analysis cannot go on; frames that come later are turned away.
    turn_away : callable
        Gets the image numbers of frames that are not analysed because of it.
    polish : SparePolish, optional
        Refines what was found while nothing waits and the next frame is not due.

    Attributes
    ----------
    frames : int
        How many have been localized and tracked.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        stage: Stage[Frame],
        latencies: Latencies,
        *,
        model: ModelCard,
        batch: int,
        deadline_s: float,
        show: Callable[[FrameResult], None],
        keep: Callable[[AnalysisBatch], None],
        failed: Callable[[Exception], None],
        turn_away: Callable[[Sequence[int]], None],
        polish: SparePolish | None = None,
    ) -> None:
        super().__init__("analyse", failed)
        self.frames = 0
        self._analyzer = analyzer
        self._stage = stage
        self._latencies = latencies
        self._model = model
        self._next_model: tuple[LocalizesFrames, ModelCard, SparePolish | None] | None = None
        self._swap_lock = threading.Lock()
        self._batch = batch
        self._deadline_s = deadline_s
        self._show = show
        self._keep = keep
        self._turn_away = turn_away
        self._polish = polish
        self._last: Frame | None = None
        self._taken: list[int] = []
        self._waiting: list[FrameResult] = []
        self._waiting_since_s = time.monotonic()

    def swap(self, localizer: LocalizesFrames, model: ModelCard, polish: SparePolish | None = None) -> None:
        """Analyse with another model from the next batch of frames on; it is warmed up, so no frame waits for it."""
        with self._swap_lock:
            self._next_model = (localizer, model, polish)

    def _take_next_model(self) -> None:
        with self._swap_lock:
            chosen, self._next_model = self._next_model, None
        if chosen is not None:
            self._commit(np.inf)
            localizer, self._model, self._polish = chosen
            self._analyzer.swap(localizer)

    def work(self) -> None:
        """Analyse until the stage has ended."""
        while not self._stage.ended:
            self._take_next_model()
            frames = self._stage.take(self._batch, timeout_s=_BATCH_S, gather_s=self._deadline_s)
            if frames:
                self._analyse(frames)
            self._commit(time.monotonic())
        self._commit(np.inf)

    def drain(self) -> None:
        """Hand on the results that are there; turn away the other frames, and all that come."""
        taken, self._taken = self._taken, []
        self._turn_away(taken)
        self._commit(np.inf)
        while not self._stage.ended:
            self._turn_away([frame.index for frame in self._stage.take(self._batch, timeout_s=_BATCH_S)])

    def _analyse(self, frames: list[Frame]) -> None:
        self._taken = [frame.index for frame in frames]
        taken_s = time.monotonic()
        found = self._polished(frames, self._analyzer.localize(frames), taken_s)
        now_s = time.monotonic()
        for frame in frames:
            self._latencies.of["analysed"].add(now_s - frame.time_s)
        for result in self._analyzer.track(frames, found):
            self._latencies.of["tracked"].add(time.monotonic() - result.time_s)
            self._waiting.append(result)
            del self._taken[0]
            self.frames += 1
            self._show(result)

    def _polished(self, frames: Sequence[Frame], found: list[Localizations], taken_s: float) -> Sequence[Localizations]:
        """Refined as far as the time allows that these frames may take without holding up the next ones."""
        before, self._last = self._last, frames[-1]
        if self._polish is None or before is None or self._stage.depth:
            return found
        return self._polish.polish(frames, found, until_s=taken_s + frames[-1].time_s - before.time_s)

    def _commit(self, now_s: Any) -> None:
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        elif now_s - self._waiting_since_s >= _BATCH_S:
            results, self._waiting = self._waiting, []
            self._waiting_since_s = time.monotonic()
            self._keep(AnalysisBatch(tuple(results), self._model))
