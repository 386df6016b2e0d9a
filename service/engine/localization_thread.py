"""The thread that localizes: all frames that wait, in one call of the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware.microscope import Frame
from service.analysis.frame_localizer import FrameCandidates, FrameLocalizer
from service.engine.analysis_batch import AnalysisModel
from service.engine.stages import Stage
from service.protocol.latency import LatencyHistogram
from service.settings import EnginePart
from service.worker_thread import WorkerThread

__all__ = ["LocalizationThread", "LocalizedFrame"]

_PAUSE_S = 0.1
"""Between looks at the end of the stage, while no frame comes."""


@dataclass(frozen=True, slots=True)
class LocalizedFrame:
    """Candidates of a frame.

    Attributes
    ----------
    candidates : FrameCandidates
    model : AnalysisModel
        The one that found them.
    since_s : float
        When it could be tracked, on the monotonic clock: frames that are gathered on purpose do not wait before that.
    """

    candidates: FrameCandidates
    model: AnalysisModel
    since_s: float


class LocalizationThread(WorkerThread):
    """Finds the candidates of the frames of a stage, until the stage has ended.

    Parameters
    ----------
    localizer : FrameLocalizer
        With the localizer of `model`.
    model : AnalysisModel
    frames : Stage of Frame
    localized : Stage of LocalizedFrame
        Receives each frame with its candidates; waits while it is full.
    latency : LatencyHistogram
        From mid-exposure to localized.
    turn_away : callable
        Receives the image numbers of frames that are not localized.
    settings : EnginePart
        `batch` (most frames at once) and `deadline_ms` (longest that the first of them waits for others) are used.
    failed : callable
        Receives the exception that ended the thread; later frames are turned away.
    """

    def __init__(
        self,
        localizer: FrameLocalizer,
        model: AnalysisModel,
        frames: Stage[Frame],
        localized: Stage[LocalizedFrame],
        latency: LatencyHistogram,
        turn_away: Callable[[Sequence[int]], None],
        settings: EnginePart,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("localize", failed)
        self._localizer = localizer
        self._model = model
        self._frames = frames
        self._localized = localized
        self._latency = latency
        self._turn_away = turn_away
        self._batch = settings.batch
        self._deadline_s = settings.deadline_ms / 1000
        self._next_model: AnalysisModel | None = None
        self._swap_lock = threading.Lock()
        self._taken: list[int] = []

    def swap(self, model: AnalysisModel) -> None:
        """Localize with another model from the next batch of frames on; it is warmed up, so no frame waits for it."""
        with self._swap_lock:
            self._next_model = model

    def _take_next_model(self) -> None:
        with self._swap_lock:
            chosen, self._next_model = self._next_model, None
        if chosen is not None:
            self._model = chosen
            self._localizer.swap(chosen.localizer)

    def work(self) -> None:
        """Localize until the stage has ended."""
        while not self._frames.ended:
            self._take_next_model()
            frames = self._frames.take(self._batch, timeout_s=_PAUSE_S, gather_s=self._deadline_s)
            if frames:
                self._localize(frames)

    def drain(self) -> None:
        """Turn away the frames that are not handed on, and all later ones."""
        self._turn_away(self._taken)
        while not self._frames.ended:
            self._turn_away([frame.index for frame in self._frames.take(self._batch, timeout_s=_PAUSE_S)])

    def _localize(self, frames: list[Frame]) -> None:
        self._taken = [frame.index for frame in frames]
        found = self._localizer.localize(frames)
        now_s = time.monotonic()
        for candidates in found:
            self._latency.add(now_s - candidates.frame.time_s)
            if not self._localized.put(LocalizedFrame(candidates, self._model, now_s + self._deadline_s)):
                self._turn_away(self._taken[:1])
            del self._taken[0]
