"""One run: the stages between the camera and the database, started together and ended in order.

    microscope ─ grab ─┬─ record ── shards
                       ├─ localize ── track ─┬─ publish
                       │                     └─ store ── score
                       └─ preview

A run ends in the direction of the data: the camera stops, the grabber empties
the driver's buffer, then each stage finishes its remaining items. So an ended
run has nothing in flight, and the ledger in the database is final.

Each stage has a thread, and an exception that ends one of them ends the run as
failed, with the reason; the camera is stopped, and the stage counts the items
that it does not process any more. There are two exceptions: after a failure of
the analysis a recorded run goes on and its frames are analysed later, and
after a failure of scoring the accuracy is unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from hardware.microscope import Frame, Microscope, MicroscopeError
from models.background.mode import StaticLightMode
from service.analysis.frame_localizer import FrameLocalizer
from service.analysis.frame_tracker import FrameResult, FrameTracker
from service.engine.accuracy import LiveScore, ScoreThread
from service.engine.analysis_batch import AnalysisBatch, AnalysisModel, AnalysisOutputs
from service.engine.frame_log import FrameLog
from service.engine.frame_rate import FrameRate
from service.engine.grabber import Grabber
from service.engine.ledger import Ledger
from service.engine.localization_thread import LocalizationThread, LocalizedFrame
from service.engine.publisher import PreviewThread, TrackThread
from service.engine.recorder import Recorder, Recording
from service.engine.result_writer import ResultWriter
from service.engine.stages import Slot, Stage
from service.engine.tracking_thread import TrackingThread
from service.protocol.latency import Latencies
from service.protocol.live import LivePublisher
from service.settings import EnginePart
from service.store.errors import StoreError, UnknownItem
from service.store.runs import RunFigures, RunState
from service.store.store import Store
from service.tracking_settings import TrackingPart
from service.worker_thread import Worker, WorkerThread

__all__ = ["NO_RUN", "Run", "RunOutputs", "RunRequest", "RunSource"]

RecorderState = Literal["off", "writing", "stopped"]

NO_RUN: Mapping[str, Any] = MappingProxyType(
    {
        "run_id": None,
        "record": False,
        "recorder": "off",
        "fitted_frames": None,
        "removes_static_light": None,
        "ledger": None,
        "stages": {},
        "latency_ms": {},
        "latency_buckets": {},
        "fps": None,
        "accuracy": None,
    }
)
"""What `Run.status` returns, for an engine without a run."""

_STORE_BATCHES = 600
"""Batches that may wait for the database: those of one minute, the longest time for which one batch is retried."""

_END_PATIENCE_S = 30.0
"""How long storing the end of a run is retried."""

_PAUSE_S = 1.0
"""Between these attempts; each also waits for the database's busy timeout."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a user or the settings ask of a run.

    Attributes
    ----------
    record : whether frames are kept
    duration_s : how long it lasts; None: until it is stopped
    name, notes : for the user
    tracking : how localizations become tracks
    static_light : whether light that stands still is removed from the frames
    """

    record: bool = False
    duration_s: float | None = None
    name: str = ""
    notes: str = ""
    tracking: TrackingPart = field(default_factory=TrackingPart)
    static_light: StaticLightMode = "auto"


@dataclass(frozen=True, slots=True)
class RunSource:
    """Where the frames of a run come from, and where they are kept.

    Attributes
    ----------
    microscope : idle when the run starts
    shape : rows and columns of a frame
    recording : None when the run is not recorded
    """

    microscope: Microscope
    shape: tuple[int, int]
    recording: Recording | None = None


@dataclass(frozen=True, slots=True)
class RunOutputs:
    """Where the results of a run go.

    Attributes
    ----------
    store : the database
    live : the publisher of the live views
    epoch : of the engine, for the headers of the live views
    """

    store: Store
    live: LivePublisher
    epoch: str


class Run:
    """A run from its first exposure to its last row in the database.

    Parameters
    ----------
    run_id : str
        Already in the store.
    request : RunRequest
    source : RunSource
    model : AnalysisModel
        Warmed up.
    outputs : RunOutputs
    settings : EnginePart
    add_event : callable
        Receives the kind and the message of each event on the way.
    ended : callable
        Is called once, on a thread of the run, when everything is in the database.

    Attributes
    ----------
    model : AnalysisModel
        The present one; see `swap_model`.
    state : RunState
        How it ended; ``"running"`` until then.
    microscope_failed : bool
        The microscope is in an unknown state and has to be opened again.
    interruption : str or None
        Why it is ended although no user asked for it, as a sentence; set from outside before `stop_camera`.
    """

    def __init__(
        self,
        run_id: str,
        request: RunRequest,
        *,
        source: RunSource,
        model: AnalysisModel,
        outputs: RunOutputs,
        settings: EnginePart,
        add_event: Callable[[str, str], None],
        ended: Callable[[Run], None],
    ) -> None:
        recording, store, live = source.recording, outputs.store, outputs.live
        self.id = run_id
        self.request = request
        self.model = model
        self.ledger = Ledger(recording=recording is not None)
        self.latencies = Latencies()
        self.state: RunState = "running"
        self.interruption: str | None = None
        self.microscope_failed = False
        self.stage_um: float | None = None
        self._microscope = source.microscope
        self._store = store
        self._epoch = outputs.epoch
        self._ended = ended
        self._recording = recording
        self._failure: str | None = None
        self._remarks: list[str] = []
        self._camera_over = threading.Event()
        self._over = threading.Event()
        self._rate = FrameRate()
        self._gathers = settings.deadline_ms > 0

        self._record_stage: Stage[Frame] = Stage(settings.record_queue)
        self._analysis_stage: Stage[Frame] = Stage(settings.analysis_queue)
        self._localized_stage: Stage[LocalizedFrame] = Stage(settings.analysis_queue)
        self._store_stage: Stage[AnalysisBatch] = Stage(_STORE_BATCHES)
        self._score_stage: Stage[AnalysisBatch] = Stage(_STORE_BATCHES)
        self._track_slot: Slot[FrameResult] = Slot()
        self._preview_slot: Slot[Frame] = Slot()

        self._score = self._score_thread(source.shape)
        self._grabber = Grabber(
            source.microscope, self.ledger, self.latencies.of["grabbed"], self._hand_on, self._sequence_ended
        )
        self._frame_log = FrameLog(store, run_id, self.ledger, self._ends_with("The log of the recording"))
        self._recorder = (
            None
            if recording is None
            else Recorder(
                recording,
                self._record_stage,
                self.ledger,
                settings.free_space_floor_gb,
                written=self._frame_log.add,
                stopped=lambda reason: add_event("recording_stopped", f"{reason} The analysis goes on."),
                failed=self._ends_with("The recorder"),
            )
        )
        tracking = request.tracking
        self._localizer = FrameLocalizer(model.localizer, tracking.candidates_from, request.static_light)
        self._localization = LocalizationThread(
            self._localizer,
            model,
            self._analysis_stage,
            self._localized_stage,
            self.latencies.of["analysed"],
            self.ledger.turn_away,
            settings,
            self._analysis_failed,
        )
        self._tracking = TrackingThread(
            FrameTracker(tracking.tracker(model.localizer.image_model), model.localizer),
            tracking.observer(),
            model,
            self._localized_stage,
            self._backlog,
            self.latencies.of["tracked"],
            AnalysisOutputs(show=self._track_slot.put, keep=self._keep, turn_away=self.ledger.turn_away),
            self._analysis_failed,
        )
        self._publisher = TrackThread(
            self._track_slot,
            live,
            self.latencies.of["published"],
            lambda: {**self._head(), **self._progress()},
            self._ends_with("Publishing the tracks"),
        )
        depth = source.microscope.description.bit_depth
        self._preview = PreviewThread(self._preview_slot, depth, live, self._head, self._ends_with("The preview"))
        self._result_writer = ResultWriter(
            store,
            run_id,
            self._store_stage,
            self.ledger,
            self.figures,
            lag_frames=request.tracking.lag_frames,
            stored=self._score_batch,
            failed=self._ends_with("Storing the results"),
        )
        self._finisher = Worker("finish", self._run_to_the_end, self._finishing_failed)

    def _score_thread(self, shape: tuple[int, int]) -> ScoreThread | None:
        try:
            truth = self._microscope.truth
        except MicroscopeError as error:
            self._remarks.append(f"The accuracy is not known: {error}")
            return None
        return None if truth is None else ScoreThread(LiveScore(truth, shape), self._score_stage, self._scoring_failed)

    # ---- start and stop ----

    def start(self) -> None:
        """Start the stages from the far end, then the camera.

        Raises
        ------
        MicroscopeError
            When the camera does not start; the run is ended then.
        RuntimeError
            When a thread does not start; the run is ended then.
        """
        try:
            for thread in self._threads():
                thread.start()
            self._start_sequence()
            self._grabber.start()
        except Exception as error:
            self._sequence_ended(error)
            if self._finisher.ident is None:  # it could not be started
                self._finisher.run()
            raise

    def _threads(self) -> list[WorkerThread]:
        """All but the grabber, from the far end on."""
        threads: list[WorkerThread] = [self._finisher]
        if self._score is not None:
            threads.append(self._score)
        threads += [self._result_writer, self._publisher, self._preview, self._tracking, self._localization]
        if self._recorder is not None:
            threads += [self._frame_log, self._recorder]
        return threads

    def _start_sequence(self) -> None:
        try:
            self._microscope.start_sequence()
        except MicroscopeError:
            raise
        except Exception as error:
            # A driver may raise anything; whatever it is, the microscope is in an unknown state.
            raise MicroscopeError(
                "start", f"The camera did not start ({type(error).__name__}: {error}).", "See the log of the service."
            ) from error

    def stop_camera(self) -> None:
        """Ask for the end, from any thread; the stages finish their remaining items."""
        self._grabber.stop()

    def swap_model(self, model: AnalysisModel) -> None:
        """Continue with another model, warmed up, from the next batch of frames on; all live tracks end."""
        self._localization.swap(model)
        self.model = model

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is in the database; False after `timeout_s`."""
        return self._over.wait(timeout_s)

    # ---- figures ----

    @property
    def frame_age_s(self) -> float | None:
        """Time since the newest frame, s; None when the camera does not run (any more)."""
        return self._grabber.frame_age_s if self._grabber.is_alive() else None

    @property
    def flows(self) -> bool:
        """Whether a state of the tracks has been published."""
        return self._publisher.sequence > 0

    @property
    def fps(self) -> float | None:
        """Frames analysed per second of capture, stored or not yet; None before the second one."""
        return self._rate.mean(self._tracking.frames)

    def status(self) -> dict[str, Any]:
        """State and figures of the run, for the engine's status."""
        return {
            "run_id": self.id,
            "record": self.request.record,
            "recorder": self.recorder_state,
            "fitted_frames": self._tracking.fit_counts,
            "removes_static_light": self._localizer.removes_static_light,
            "ledger": self.ledger.counts().as_dict(),
            "stages": self.stages(),
            "latency_ms": self.latencies.summary_ms(),
            "latency_buckets": self.latencies.buckets(),
            "fps": self._rate.recent(self._tracking.frames),
            "accuracy": self.accuracy(),
        }

    def figures(self) -> dict[str, Any]:
        """Latencies (ms), reports of the stages, frames analysed per second and by degree of the fit, so far."""
        return {
            "latency_ms": self.latencies.summary_ms(),
            "stages": self.stages(),
            "fps": self.fps,
            "fitted_frames": self._tracking.fit_counts,
        }

    def accuracy(self) -> dict[str, Any] | None:
        """Scores against the truth so far; None where the truth is not known, or scoring failed."""
        return None if self._score is None else self._score.result()

    @property
    def recorder_state(self) -> RecorderState:
        """Whether frames are kept; ``"stopped"`` when writing to the disk failed."""
        if self._recorder is None:
            return "off"
        return "writing" if self._recorder.problem is None else "stopped"

    @property
    def problem(self) -> str | None:
        """Why the run failed or was interrupted, and which data were not kept; None when nothing is wrong."""
        problems = [
            self.interruption,
            self._failure,
            self._result_writer.problem,
            None if self._recorder is None else self._recorder.problem,
            self._frame_log.problem,
            *self._remarks,
        ]
        return " ".join(problem for problem in problems if problem) or None

    def stages(self) -> dict[str, dict[str, Any]]:
        """Report of each stage: depth, capacity, highest, dropped, age_s."""
        stages: dict[str, Stage[Any] | Slot[Any]] = {
            "analyse": self._analysis_stage,
            "track": self._localized_stage,
            "publish": self._track_slot,
            "preview": self._preview_slot,
            "store": self._store_stage,
        }
        if self._recorder is not None:
            stages["record"] = self._record_stage
        if self._score is not None:
            stages["score"] = self._score_stage
        return {name: stage.report() for name, stage in stages.items()}

    def _head(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "run": self.id}

    def _progress(self) -> dict[str, Any]:
        return {"fps": self.fps, "tracked": self._tracking.frames, "ledger": self.ledger.counts().as_dict()}

    # ---- callbacks of the stages ----

    def _hand_on(self, frame: Frame) -> None:
        """On the grab thread: to the recorder first, then to the analysis, then to the view."""
        self._rate.capture(frame.time_s)
        self.stage_um = frame.stage_um
        if self._recorder is not None and not self._record_stage.offer(frame):
            self.ledger.leave_unrecorded([frame.index])
        if not self._analysis_stage.offer(frame):
            self.ledger.turn_away([frame.index])
        self._preview_slot.put(frame)

    def _backlog(self) -> int:
        """Frames that wait for the network, beyond those that are gathered on purpose."""
        return 0 if self._gathers else self._analysis_stage.depth

    def _keep(self, batch: AnalysisBatch) -> None:
        if not self._store_stage.offer(batch):
            self._result_writer.give_up(batch, "The database did not keep up for a minute.")

    def _score_batch(self, batch: AnalysisBatch) -> None:
        # The stage counts refused batches, and the accuracy states its number of frames.
        if self._score is not None:
            self._score_stage.offer(batch)

    def _ends_with(self, what: str) -> Callable[[Exception], None]:
        """A function that fails the run with the exception of one of its threads."""

        def report(error: Exception) -> None:
            self._fail(f"{what} stopped ({type(error).__name__}: {error}).")
            self.stop_camera()

        return report

    def _analysis_failed(self, error: Exception) -> None:
        self._fail(f"The analysis stopped ({type(error).__name__}: {error}).")
        if self._recorder is None:  # with a recording the frames are kept for later
            self.stop_camera()

    def _scoring_failed(self, error: Exception) -> None:
        self._remarks.append(f"The accuracy is not known, because scoring stopped ({type(error).__name__}: {error}).")

    def _sequence_ended(self, failure: Exception | None) -> None:
        """On the grab thread, after the last frame."""
        if failure is not None:
            is_of_driver = isinstance(failure, MicroscopeError)
            unforeseen = f"Taking frames from the camera failed ({type(failure).__name__}: {failure})."
            self._fail(str(failure) if is_of_driver else unforeseen, microscope=is_of_driver)
            self._halt_camera()
        self._camera_over.set()

    def _halt_camera(self) -> None:
        """After a failure: leave the camera idle, or note that it has to be opened again."""
        try:
            self._microscope.stop_sequence()
            idle = not self._microscope.is_running
        except Exception as error:  # noqa: BLE001  a driver that has failed may raise anything
            idle = False
            self._remarks.append(f"The camera did not stop ({type(error).__name__}: {error}).")
        self.microscope_failed = self.microscope_failed or not idle

    def _fail(self, problem: str, *, microscope: bool = False) -> None:
        self._failure = self._failure or problem
        self.microscope_failed = self.microscope_failed or microscope

    # ---- the end ----

    def _run_to_the_end(self) -> None:
        """On the finishing thread, which runs from the start on: at the end a new thread might not be available."""
        if not self._camera_over.wait(self.request.duration_s):
            self.stop_camera()
            self._camera_over.wait()
        self._finish_stages()
        self._withdraw_missing_frames()
        counts = self.ledger.counts()
        if not counts.balances or counts.in_flight:
            self._fail(f"The ledger does not balance: {counts}.")
        self._end()

    def _finishing_failed(self, error: Exception) -> None:
        self._fail(f"The run could not be ended in order ({type(error).__name__}: {error}).")
        if not self._over.is_set():
            self._end()

    def _end(self) -> None:
        """Store how the run ended, then report it to the engine; the run is over even when that fails."""
        self.state = "interrupted" if self.interruption else "failed" if self._failure else "finished"
        self._store_the_end()
        try:
            self._ended(self)
        finally:
            self._over.set()

    def _finish_stages(self) -> None:
        """Close each stage after the one that feeds it, and wait for its thread."""
        for first in (self._record_stage, self._analysis_stage, self._preview_slot):
            first.close()
        self._join(self._recorder)
        self._frame_log.close()
        self._join(self._localization)
        self._localized_stage.close()
        self._join(self._tracking)
        for following in (self._track_slot, self._store_stage):
            following.close()
        self._join(self._publisher)
        self._join(self._preview)
        self._join(self._result_writer)
        self._score_stage.close()
        self._join(self._score)
        self._join(self._frame_log)

    @staticmethod
    def _join(thread: WorkerThread | None) -> None:
        if thread is not None and thread.ident is not None:  # else it was never started
            thread.join()

    def _withdraw_missing_frames(self) -> None:
        """Count frames as unrecorded whose files were moved or deleted during the run."""
        missing = [] if self._recording is None else self._recording.missing()
        if not missing:
            return
        try:
            frames, deferred = self._store.frames.withdraw(self.id, missing)
        except StoreError as error:
            self._remarks.append(f"Files of the recording are gone, which could not be stored: {error}")
            return
        self.ledger.withdraw(frames, deferred)
        self._remarks.append(f"{frames} recorded frames cannot be read any more: their files were moved or deleted.")

    def _store_the_end(self) -> None:
        """Retry for a while; a run whose end is not in the database is marked as interrupted at the next start."""
        deadline_s = time.monotonic() + _END_PATIENCE_S
        while True:
            try:
                self._store.runs.finish(
                    self.id,
                    self.state,
                    problem=self.problem,
                    ledger=self.ledger.counts().as_dict(),
                    accuracy=self.accuracy(),
                    smooth=self.request.tracking.smooths,
                    figures=RunFigures(**self.figures()),
                )
            except Exception as error:  # noqa: BLE001  the run is over all the same; its problem names the error
                is_away = isinstance(error, StoreError) and not isinstance(error, UnknownItem)
                if not is_away or time.monotonic() > deadline_s:
                    self._remarks.append(f"The end could not be stored: {error}")
                    return
                time.sleep(_PAUSE_S)
            else:
                return
