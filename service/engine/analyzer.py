"""From frames to localizations to tracks: the one code path, live and offline.

`Analyzer` is a frame-by-frame function with the tracker's state; the live
thread, `localize`, `track` and reprocessing all run it. `AnalysisThread`
passes it all waiting frames, hands each result to the view, and every 100 ms
a batch of results to the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.background.frame_light import FrameLight, remove_light
from models.background.mode import StaticLightMode
from models.background.static_light import StaticLight
from models.model_card import ModelCard
from models.tables import Localizations, TrackEvents
from models.tracking import TracksLocalizations, TrackState
from models.tracking.image_filter import FULL, Effort
from models.tracking.image_tracker import ImageModel, ImageTracker, kept, one_thread
from service.engine.fit_time import FitTime
from service.engine.stages import Stage
from service.protocol.latency import Latencies
from service.settings import EnginePart
from service.worker_thread import WorkerThread

if TYPE_CHECKING:
    from models.tracking.events import EventObserver

__all__ = [
    "AnalysisBatch",
    "AnalysisModel",
    "AnalysisOutputs",
    "AnalysisThread",
    "Analyzer",
    "FrameResult",
    "LocalizesFrames",
]

_BATCH_S = 0.1
"""Results of this time go to the store in one transaction, s: a killed process loses at most these."""


class LocalizesFrames(Protocol):
    """The part of a localizer that the engine uses."""

    @property
    def threshold(self) -> float:
        """Probability at which the model calls something an emitter."""

    def localize(
        self, frames: NDArray[np.uint16], frame_numbers: NDArray[np.int64], least: float | None = None
    ) -> Localizations:
        """Find the emitters of frames of shape (B, H, W), down to the probability `least`; None: the threshold."""

    @property
    def image_model(self) -> ImageModel | None:
        """What a fit of the images needs; None where the model has no PSF."""

    def static_light(self, mode: StaticLightMode) -> StaticLight | None:
        """What follows the static light of the frames of one run; None when it is off."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Localizations of one frame, and the tracks after it.

    Attributes
    ----------
    frame : the camera's image number
    time_s : mid-exposure on the monotonic clock, s
    found : localizations of this frame: from the model's threshold on, and those of shown tracks below it
    state : the tracks after it; its `localization` are rows of `found`
    """

    frame: int
    time_s: float
    found: Localizations
    state: TrackState


@dataclass(frozen=True, slots=True)
class AnalysisBatch:
    """Results of about 100 ms, all made by one model, and the merges and splits that are certain with them."""

    results: tuple[FrameResult, ...]
    model: ModelCard
    events: TrackEvents = field(default_factory=TrackEvents.empty)

    @property
    def numbers(self) -> list[int]:
        """Image numbers of its frames."""
        return [result.frame for result in self.results]


@dataclass(frozen=True, slots=True)
class AnalysisModel:
    """A model in memory, as the analysis uses it.

    Attributes
    ----------
    localizer : finds the emitters; warmed up
    description : of the model
    fit_cost_s : time of a fit by degree, see `FitTime`; None: not measured
    """

    localizer: LocalizesFrames
    description: ModelCard
    fit_cost_s: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class AnalysisOutputs:
    """Functions that receive the results of the analysis; none of them may block.

    Attributes
    ----------
    show : receives each result at once
    keep : receives each batch of results
    turn_away : receives the image numbers of frames that are not analysed because the analysis failed
    """

    show: Callable[[FrameResult], None]
    keep: Callable[[AnalysisBatch], None]
    turn_away: Callable[[Sequence[int]], None]


class Analyzer:
    """Finds candidates in frames, and tracks emitters in the images or, with another tracker, in the candidates.

    Parameters
    ----------
    localizer : LocalizesFrames
    tracker : TracksLocalizations
        New for each run: it keeps state. An `ImageTracker` is given the images too.
    least : float, optional
        Probability from which localizations are given to the tracker; the model's threshold when not given.
    static_light : {"auto", "on", "off"}
        Whether light that stands still is removed from the frames; see `models.background`.

    Attributes
    ----------
    lights : sequence of FrameLight or None
        Static light of each frame of the last call of `localize`.
    """

    def __init__(
        self,
        localizer: LocalizesFrames,
        tracker: TracksLocalizations,
        least: float | None = None,
        static_light: StaticLightMode = "off",
    ) -> None:
        self.lights: Sequence[FrameLight | None] = ()
        self._localizer = localizer
        self._tracker = tracker
        self._images = tracker if isinstance(tracker, ImageTracker) else None
        self._least = least
        self._mode = static_light
        self._light = localizer.static_light(static_light)
        self._start_s: float | None = None

    def swap(self, localizer: LocalizesFrames) -> None:
        """Continue with another model: all live tracks end, because depths of two models differ.

        The estimate of the static light starts again, because the two may describe the camera differently. Images are
        fitted where the other model has a PSF, if they were fitted from the start.
        """
        self._localizer = localizer
        self._light = localizer.static_light(self._mode)
        if self._images is None:
            self._tracker.end_all()
        else:
            self._images.swap(localizer.image_model)

    @property
    def threshold(self) -> float:
        """Probability at which the present model calls something an emitter."""
        return self._localizer.threshold

    @property
    def removes_static_light(self) -> bool | None:
        """Whether static light is removed from the present frames; None when that is off."""
        return None if self._light is None else self._light.in_use

    @property
    def fits(self) -> bool:
        """Whether emitters are fitted to the images."""
        return self._images is not None and self._images.fits

    def emitters(self, found: Localizations) -> int:
        """Expected number of emitters in the fit of the next frame."""
        return 0 if self._images is None else self._images.emitters(found)

    def begin_with(self, frames: Iterable[NDArray[np.uint16]], count: int) -> None:
        """Take a first map of the static light from `count` frames (H, W) of a recording; see `StaticLight`."""
        if self._light is not None:
            self._light.begin_with(frames, count)

    def localize(self, frames: Sequence[Frame]) -> list[Localizations]:
        """Candidates of each frame; one call of the network for all of them."""
        pixels = np.stack([frame.pixels for frame in frames])
        self.lights = [None] * len(frames) if self._light is None else self._light.follow(pixels)
        numbers = np.array([frame.index for frame in frames], np.int64)
        least = None if self._least is None else min(self._least, self.threshold)
        found = self._localizer.localize(remove_light(pixels, self.lights), numbers, least)
        return [found.select(found.frame == number) for number in numbers]

    def track(self, frames: Sequence[Frame], found: Sequence[Localizations]) -> Iterator[FrameResult]:
        """Tracks after each frame, in order, with all of the fit; `lights` are those of these frames."""
        for frame, its, light in zip(frames, found, self.lights, strict=True):
            yield self.track_frame(frame, its, light)

    def track_frame(
        self, frame: Frame, found: Localizations, light: FrameLight | None, effort: Effort | None = FULL
    ) -> FrameResult:
        """Tracks after a frame. Times count from the frame of the first call.

        Parameters
        ----------
        frame : Frame
        found : Localizations
            Its candidates.
        light : FrameLight or None
            Its static light.
        effort : Effort or None
            How much of the fit is made, when emitters are fitted to the images.
        """
        if self._start_s is None:
            self._start_s = frame.time_s
        t_s = frame.time_s - self._start_s
        if self._images is None:
            state = self._tracker.step(t_s, frame.index, found)
        else:
            state, found = self._images.step_image(t_s, frame.index, found, frame.pixels, light, effort)
        found, state = kept(found, state, self.threshold)
        return FrameResult(frame.index, frame.time_s, found, state)


class AnalysisThread(WorkerThread):
    """Runs an analyzer on the frames of a stage, until the stage has ended.

    Parameters
    ----------
    analyzer : Analyzer
        With the localizer of `model`.
    observer : EventObserver
        New for each run: it keeps state. It sees the tracks after they are shown.
    model : AnalysisModel
    stage : Stage of Frame
    latencies : Latencies
    outputs : AnalysisOutputs
    settings : EnginePart
        `batch` (most frames at once) and `deadline_ms` (longest that the first of them waits for others) are used.
    failed : callable
        Receives the exception that ended the analysis; later frames are turned away.

    Attributes
    ----------
    frames : int
        Number of frames that are localized and tracked.
    fit_counts : dict of str to int or None
        Number of these frames by the degree of their fit; None when emitters are not fitted to the images.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        observer: EventObserver,
        model: AnalysisModel,
        stage: Stage[Frame],
        latencies: Latencies,
        outputs: AnalysisOutputs,
        settings: EnginePart,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("analyse", failed)
        self.frames = 0
        self._analyzer = analyzer
        self._observer = observer
        self._model = model
        self._stage = stage
        self._latencies = latencies
        self._outputs = outputs
        self._next_model: AnalysisModel | None = None
        self._swap_lock = threading.Lock()
        self._batch = settings.batch
        self._deadline_s = settings.deadline_ms / 1000
        self._fit_time = FitTime(model.fit_cost_s)
        self._taken: list[int] = []
        self._waiting: list[FrameResult] = []
        self._waiting_since_s = time.monotonic()

    def swap(self, model: AnalysisModel) -> None:
        """Analyse with another model from the next batch of frames on; it is warmed up, so no frame waits for it."""
        with self._swap_lock:
            self._next_model = model

    @property
    def fit_counts(self) -> dict[str, int] | None:
        """See the class."""
        counts = self._fit_time.counts
        return dict(counts) if self._analyzer.fits or any(counts.values()) else None

    def _take_next_model(self) -> None:
        with self._swap_lock:
            chosen, self._next_model = self._next_model, None
        if chosen is not None:
            self._commit(np.inf)
            self._model = chosen
            self._fit_time.begin_with(chosen.fit_cost_s)
            self._analyzer.swap(chosen.localizer)

    def work(self) -> None:
        """Analyse until the stage has ended."""
        with one_thread():
            while not self._stage.ended:
                self._take_next_model()
                frames = self._stage.take(self._batch, timeout_s=_BATCH_S, gather_s=self._deadline_s)
                if frames:
                    self._analyse(frames)
                self._commit(time.monotonic())
        self._commit(np.inf)

    def drain(self) -> None:
        """Hand on the finished results; turn away the other frames, and all later ones."""
        taken, self._taken = self._taken, []
        self._outputs.turn_away(taken)
        self._commit(np.inf)
        while not self._stage.ended:
            self._outputs.turn_away([frame.index for frame in self._stage.take(self._batch, timeout_s=_BATCH_S)])

    def _analyse(self, frames: list[Frame]) -> None:
        self._taken = [frame.index for frame in frames]
        taken_s = time.monotonic()
        found = self._analyzer.localize(frames)
        now_s = time.monotonic()
        for frame in frames:
            self._latencies.of["analysed"].add(now_s - frame.time_s)
        self._fit_time.begin(frames[-1].time_s, taken_s, len(frames), self._deadline_s)
        for frame, its, light in zip(frames, found, self._analyzer.lights, strict=True):
            result = self._track(frame, its, light)
            self._latencies.of["tracked"].add(time.monotonic() - result.time_s)
            self._waiting.append(result)
            del self._taken[0]
            self.frames += 1
            self._outputs.show(result)

    def _track(self, frame: Frame, found: Localizations, light: FrameLight | None) -> FrameResult:
        """Tracks after a frame, with as much of the fit as there is time for."""
        if not self._analyzer.fits:
            return self._analyzer.track_frame(frame, found, light)
        begin_s = time.monotonic()
        emitters = self._analyzer.emitters(found)
        waiting = 0 if self._deadline_s else self._stage.depth
        degree, effort = self._fit_time.choose(emitters, begin_s, len(self._taken), waiting)
        result = self._analyzer.track_frame(frame, found, light, effort)
        self._fit_time.note(degree, effort, emitters, time.monotonic() - begin_s)
        return result

    def _commit(self, now_s: Any) -> None:
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        elif now_s - self._waiting_since_s >= _BATCH_S:
            results, self._waiting = self._waiting, []
            self._waiting_since_s = time.monotonic()
            events = TrackEvents.concatenate(self._observer.step(result.state) for result in results)
            self._outputs.keep(AnalysisBatch(tuple(results), self._model.description, events))
