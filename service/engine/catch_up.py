"""Catching up: deferred frames are analysed from the recording when no run is on.

A run that was faster than its analysis, or whose process was killed, leaves
frames that are recorded and not analysed. They are read back and localized
with the model of the neighbouring frames; then the tracks of the whole run are
computed again, from all localizations in the order of the frames, as the next
revision: smoothed, unless the run's settings say otherwise. A run without such
frames is smoothed alike. Live tracks keep their identities in revision 1.

The work is done in steps of one batch. Each step stores its results and the
frames that they belong to in one transaction, so the work can stop after any
step, at a pause or when the process is killed, and no step is repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.background.mode import StaticLightMode
from models.background.static_light import FIRST_FRAMES
from models.errors import DataError
from models.tables import Localizations, TrackEvents, Tracks
from models.tracking.fixed_lag import FixedLag
from models.tracking.image_tracker import one_thread
from models.tracking.state import TrackState
from service.analysis.analyzer import Analyzer
from service.analysis.frame_localizer import LocalizesFrames
from service.analysis.live_tracks import StoredLiveTracks
from service.analysis.smoothed_run import ROUNDING_S, SmoothedRun
from service.files.recording import RecordedImage, place_of_recording
from service.store.errors import StoreError, UnknownItem
from service.store.frames import AnalysedFrames, FrameTimes, RecordedFrames
from service.store.runs import Run
from service.store.store import Store
from service.store.tracks import TrackQuery
from service.tracking_settings import TrackingPart
from service.version import installed_version
from service.worker_thread import WorkerThread

__all__ = ["CatchUp"]

_TRACKED_PER_STEP = 128
"""Frames tracked and stored in one step: about 50 ms of tracking and 2,500 rows at 20 emitters."""

_DONE = "done"

_RETRY_S = 30.0
"""Pause after an error of the database."""

_END_PATIENCE_S = 5.0

_log = structlog.get_logger(__name__)


class CatchUp(WorkerThread):
    """Analyses deferred frames, one run after the other, unless it is paused.

    Parameters
    ----------
    store : Store
    data_dir : Path
        The paths of recordings are relative to it.
    load_localizer : callable
        Returns the localizer of a model id.
    batch : int
        Frames that are localized at once.
    add_event : callable
        Receives the kind, the message and the run of each event; None for an event of all runs.

    Attributes
    ----------
    run_id : str or None
        The run whose frames are being analysed or whose tracks are being computed, also during a pause.
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        load_localizer: Callable[[str], LocalizesFrames],
        *,
        batch: int,
        add_event: Callable[[str, str, str | None], None],
    ) -> None:
        super().__init__("catch up", self._stopped)
        self._store = store
        self._data_dir = data_dir
        self._load_localizer = load_localizer
        self._batch = batch
        self._add_event = add_event
        self._changed = threading.Condition()
        self._work = False
        self._paused = False
        self._ending = False
        self._step = threading.Lock()
        self._busy = False
        self.run_id: str | None = None
        self._given_up: set[str] = set()
        self._loaded: tuple[str, str, Analyzer] | None = None

    # ---- from other threads ----

    def wake(self) -> None:
        """Look for work: a run has ended, or was found unfinished."""
        with self._changed:
            self._work = True
            self._changed.notify()

    def pause(self) -> None:
        """Pause, and return when the present step is done: the localizer is free then."""
        with self._changed:
            self._paused = True
        with self._step:
            pass

    def resume(self) -> None:
        """Go on after a pause."""
        with self._changed:
            self._paused = False
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the present step."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self.is_alive():
            self.join(_END_PATIENCE_S)

    @property
    def idle(self) -> bool:
        """Whether all work since the last `wake` is done."""
        with self._changed:
            return not (self._work or self._busy)

    # ---- on its own thread ----

    def work(self) -> None:
        """Work until it is closed."""
        while self._may_go_on(lambda: self._work):
            with self._changed:
                self._work, self._busy = False, True
            with one_thread():
                self._catch_all_up()
            self._loaded = None
            with self._changed:
                self._busy = False

    def drain(self) -> None:
        """Report the thread as idle."""
        with self._changed:
            self._work = self._busy = False

    def _stopped(self, error: Exception) -> None:
        self._add_event(
            "catch_up_failed",
            f"The analysis of deferred frames stopped ({type(error).__name__}: {error}). "
            "It goes on when the engine starts the next time.",
            None,
        )

    def _catch_all_up(self) -> None:
        """Catch up with each run; after an error of the database, try again later."""
        waits = False
        try:
            for run_id in self._store.catch_ups.waiting():
                try:
                    if run_id not in self._given_up:
                        self.run_id = run_id
                        self._catch_up(run_id)
                except StoreError as error:  # one damaged run must not hold up the others
                    waits = True
                    _log.warning("catch_up_waits", run_id=run_id, error=str(error))
                finally:
                    self.run_id = None
        except StoreError as error:
            waits = True
            _log.warning("catch_up_waits", error=str(error))
        if waits:
            with self._changed:
                self._work = True
                self._changed.wait_for(lambda: self._ending, _RETRY_S)

    def _may_go_on(self, condition: Callable[[], bool] = lambda: True) -> bool:
        """Wait until there is no pause and `condition` holds; False at the end of the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending or (not self._paused and condition()))
            return not self._ending

    def _catch_up(self, run_id: str) -> None:
        steps = self._steps(run_id)
        try:
            while self._may_go_on():
                with self._step:
                    # A pause may have begun between the two checks; it did not wait for a step then.
                    if not self._paused and next(steps, _DONE) is _DONE:
                        return
        except UnknownItem:
            return  # it was deleted
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  a damaged recording or a lost model concerns this run only
            if run_id not in self._store.catch_ups.waiting():
                return  # it is being deleted, its recording first
            self._given_up.add(run_id)
            self._add_event(
                "catch_up_failed",
                f"The deferred frames of run {run_id} could not be analysed ({type(error).__name__}: {error}). "
                "It is tried again when the engine starts the next time.",
                run_id,
            )

    def _steps(self, run_id: str) -> Iterator[str]:
        run = self._store.runs.get(run_id)
        tracking = TrackingPart.of_record(run.settings.get("tracking"))
        static_light = (run.settings.get("analysis") or {}).get("static_light", "off")
        if not self._store.catch_ups.examine(run_id, tracking.smooths):
            return
        had_late = yield from self._localize(run, tracking, static_light)
        yield from self._track(run, tracking, had_late)

    def _localize(self, run: Run, tracking: TrackingPart, static_light: StaticLightMode) -> Generator[str, None, bool]:
        """Append the localizations of all deferred frames; whether there were any.

        The first map of their static light is from the recorded frames just before and after the first of them.
        """
        recorded, batches = self._store.frames.recorded(run.id), self._store.frames.analysed(run.id)
        late = _late(recorded, batches)
        if not len(late) or run.recording is None:
            return False
        start_s = batches[0].start_s if batches else float(recorded.frames.times_s[0])
        model_ids = _models_of(recorded.frames.numbers[late], batches, run.model_id)
        image = RecordedImage(place_of_recording(self._data_dir, run))
        for model_id, rows in _batches(model_ids, late, self._batch):
            yield "frames"
            if self._loaded is None or self._loaded[:2] != (run.id, model_id):
                analyzer = self._analyzer(model_id, tracking, static_light)
                first = max(int(rows[0]) - FIRST_FRAMES // 2, 0)
                around = recorded.planes[first : first + FIRST_FRAMES]
                analyzer.localizer.begin_with((image.plane(int(plane)) for plane in around), len(around))
                self._loaded = (run.id, model_id, analyzer)
            frames = FrameTimes(recorded.frames.numbers[rows], recorded.frames.times_s[rows])
            pixels = [image.plane(int(plane)) for plane in recorded.planes[rows]]
            found = _localized(self._loaded[2], pixels, frames)
            ends = float(frames.times_s[0]) - start_s, float(frames.times_s[-1]) - start_s
            self._store.catch_ups.append(run.id, found, frames, ends, model_id)
        return True

    def _analyzer(self, model_id: str, tracking: TrackingPart, static_light: StaticLightMode) -> Analyzer:
        try:
            localizer = self._load_localizer(model_id)
        except UnknownItem as error:  # the model, not the run
            raise DataError(error.problem, error.remedy) from error
        return Analyzer(localizer, tracking.tracker(localizer.image_model), tracking.candidates_from, static_light)

    def _track(self, run: Run, tracking: TrackingPart, had_late: bool) -> Iterator[str]:
        """Compute the tracks of the whole run again, and make them its newest."""
        while self._store.catch_ups.discard_tracks(run.id):
            yield "tracks of an earlier attempt"
        batches = self._store.frames.analysed(run.id)
        numbers = np.concatenate([batch.frames.numbers for batch in batches])
        times_s = np.concatenate([batch.frames.times_s for batch in batches]) - batches[0].start_s
        models = np.repeat([batch.model_id for batch in batches], [len(batch.frames) for batch in batches])
        order = np.argsort(numbers)
        tracker = (
            SmoothedRun(StoredLiveTracks(self._store, run.id), tracking) if tracking.smooths else _AsLive(tracking)
        )
        model_id = str(models[order[0]])
        for first in range(0, len(order), _TRACKED_PER_STEP):
            yield "tracks"
            part = order[first : first + _TRACKED_PER_STEP]
            window = times_s[part[0]] - ROUNDING_S, times_s[part[-1]] + ROUNDING_S
            found = self._store.localizations.read(run.id, *window)
            for row in part:
                if models[row] != model_id:
                    tracker.end_all()  # as live: depths of two models are not those of one track
                    model_id = str(models[row])
                begin, end = np.searchsorted(found.frame, [numbers[row], numbers[row] + 1])
                tracker.step(float(times_s[row]), int(numbers[row]), found.select(np.arange(begin, end)))
            yield from self._add(run.id, *tracker.take())
        yield "the last tracks"
        tracker.end_all()
        yield from self._add(run.id, *tracker.take())
        made = {
            "form": "smoothed" if tracking.smooths else "as live",
            "model_ids": list(dict.fromkeys(models[order].tolist())),
            "tracking": tracking.record(),
            "version": installed_version(),
        }
        revision = self._store.catch_ups.complete(run.id, made)
        count = len(self._store.tracks.query(run.id, TrackQuery(revision=revision)).items)
        made_of = f"revision {revision}, {count} track{'' if count == 1 else 's'}."
        if had_late or not tracking.smooths:
            done = "run_caught_up", f"The deferred frames of run {run.id} are analysed; its tracks are {made_of}"
        else:
            done = "run_smoothed", f"The tracks of run {run.id} are smoothed: {made_of}"
        self._add_event(*done, run.id)

    def _add(self, run_id: str, points: Tracks, events: TrackEvents) -> Iterator[str]:
        for _ in self._store.catch_ups.add_in_steps(run_id, points, events):
            yield "points"


class _AsLive:
    """Gives the points and events that the run would have stored live."""

    def __init__(self, tracking: TrackingPart) -> None:
        self._tracker = tracking.tracker()
        self._observer = tracking.observer()
        self._lag = FixedLag(tracking.lag_frames)
        self._states: list[TrackState] = []
        self._points: list[Tracks] = []
        self._events: list[TrackEvents] = []

    def step(self, t_s: float, frame: int, found: Localizations) -> None:
        state = self._tracker.step(t_s, frame, found)
        self._states.append(state)
        self._events.append(self._observer.step(state))

    def end_all(self) -> None:
        self._tracker.end_all()
        self._smooth()
        self._points.append(self._lag.finish())

    def take(self) -> tuple[Tracks, TrackEvents]:
        """Points and events that are ready."""
        self._smooth()
        points, self._points = self._points, []
        events, self._events = self._events, []
        return Tracks.concatenate(points), TrackEvents.concatenate(events)

    def _smooth(self) -> None:
        states, self._states = self._states, []
        self._points.append(self._lag.add(states))


def _localized(analyzer: Analyzer, pixels: list[NDArray[np.uint16]], frames: FrameTimes) -> Localizations:
    """Localizations of frames; below the model's threshold those of tracks through the deferred frames alone."""
    given = [
        Frame(its, int(number), float(time_s), "recording", 0.0)
        for its, number, time_s in zip(pixels, frames.numbers, frames.times_s, strict=True)
    ]
    return Localizations.concatenate(result.found for result in analyzer.analyze(given))


def _late(recorded: RecordedFrames, batches: list[AnalysedFrames]) -> NDArray[np.intp]:
    """Rows of `recorded` that are in no batch."""
    known = np.concatenate([np.empty(0, np.int64), *(batch.frames.numbers for batch in batches)])
    return np.flatnonzero(~np.isin(recorded.frames.numbers, known))


def _models_of(numbers: NDArray[np.int64], batches: list[AnalysedFrames], first: str) -> list[str]:
    """For each frame the model of the newest batch that began before it."""
    timeline = sorted((int(batch.frames.numbers[0]), batch.model_id) for batch in batches)
    places = np.searchsorted([begin for begin, _ in timeline], numbers)
    return [timeline[place - 1][1] if place else first for place in places]


def _batches(model_ids: list[str], rows: NDArray[np.intp], size: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Rows in their order, in groups of one model and at most `size` rows."""
    for model_id, group in groupby(zip(model_ids, rows, strict=True), key=itemgetter(0)):
        its = np.array([row for _, row in group])
        for first in range(0, len(its), size):
            yield model_id, its[first : first + size]
