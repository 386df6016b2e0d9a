"""One run: the stages between the camera and the database, started together and ended in order.

    microscope ─ grab ─┬─ record ── shards
                       ├─ analyse ─┬─ publish
                       │           └─ store ── score
                       └─ preview

A run ends in the direction of the data: the camera stops, the grabber empties
the driver's buffer, then each stage finishes what is in it. So a stopped run
has nothing in flight, and its ledger is final when the database says so.

Each stage has a thread, and an exception that ends one of them ends the run as
failed, with the reason; the camera is stopped, and the stage goes on counting
what it does not do any more. Two go their own way: an analysis that fails in a
recorded run leaves the frames to be analysed after it, and scoring that fails
leaves the accuracy unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from hardware.microscope import Frame, Microscope, MicroscopeError
from models.model_card import ModelCard
from models.tracking import Tracker
from service.engine.accuracy import LiveScore, ScoreThread, truth_source
from service.engine.analyzer import AnalysisBatch, AnalysisThread, Analyzer, FrameResult, LocalizesFrames
from service.engine.frame_log import FrameLog
from service.engine.grabber import Grabber
from service.engine.ledger import Ledger
from service.engine.polish import SparePolish
from service.engine.publisher import PreviewThread, TrackThread
from service.engine.recorder import Recorder, Recording
from service.engine.stages import Slot, Stage
from service.engine.storekeeper import Storekeeper
from service.protocol.latency import Latencies
from service.protocol.link import LivePublisher
from service.settings import EnginePart
from service.store.errors import StoreError, UnknownItem
from service.store.runs import RunState
from service.store.store import Store
from service.worker_thread import Worker, WorkerThread

__all__ = ["NO_RUN", "Run", "RunRequest"]

RecorderState = Literal["off", "writing", "stopped"]

NO_RUN: Mapping[str, Any] = MappingProxyType(
    {
        "run_id": None,
        "record": False,
        "recorder": "off",
        "refined_frames": None,
        "ledger": None,
        "stages": {},
        "latency_ms": {},
        "latency_buckets": {},
        "fps": None,
        "accuracy": None,
    }
)
"""What `Run.status` tells, while there is none."""

_RECENT_S = 2.0
"""Time over which the present rate is counted."""

_STORE_BATCHES = 600
"""Batches that may wait for the database: those of the minute for which one of them is tried."""

_END_PATIENCE_S = 30.0
"""How long the end of a run is tried to be stored."""

_PAUSE_S = 1.0
"""Between these tries; each waits for the database's busy timeout besides."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked of a run.

    Attributes
    ----------
    record : whether frames are kept
    duration_s : how long it lasts; None: until it is stopped
    name, notes : for the user
    """

    record: bool = False
    duration_s: float | None = None
    name: str = ""
    notes: str = ""


class Run:
    """A run from its first exposure to its last row in the database.

    Parameters
    ----------
    run_id : str
        Already in the store.
    request : RunRequest
    microscope : Microscope
        Idle.
    localizer : LocalizesFrames
        Warmed up.
    model : ModelCard
        What it localizes with.
    shape : (int, int)
        Rows and columns of a frame.
    recording : Recording or None
        Where frames are kept.
    store : Store
    live : LivePublisher
    settings : EnginePart
    epoch : str
        Of the engine.
    polish : SparePolish or None
        Refines while there is time; None: never.
    tell : callable
        Gets the kind and the message of what happens on the way.
    ended : callable
        Is called once, on a thread of the run, when everything is in the database.

    Attributes
    ----------
    state : RunState
        How it ended; ``"running"`` until then.
    microscope_failed : bool
        The microscope does not answer as it should and has to be opened again.
    interruption : str or None
        Why it is ended although nobody wanted that, as a sentence; set from outside before `stop_camera`.
    """

    def __init__(
        self,
        run_id: str,
        request: RunRequest,
        *,
        microscope: Microscope,
        localizer: LocalizesFrames,
        model: ModelCard,
        shape: tuple[int, int],
        recording: Recording | None,
        store: Store,
        live: LivePublisher,
        settings: EnginePart,
        epoch: str,
        polish: SparePolish | None,
        tell: Callable[[str, str], None],
        ended: Callable[[Run], None],
    ) -> None:
        self.id = run_id
        self.request = request
        self.model_id = model.id
        self.ledger = Ledger(recording=recording is not None)
        self.latencies = Latencies()
        self.state: RunState = "running"
        self.interruption: str | None = None
        self.microscope_failed = False
        self.stage_um: float | None = None
        self._microscope = microscope
        self._store = store
        self._epoch = epoch
        self._ended = ended
        self._recording = recording
        self._polish = polish
        self._failure: str | None = None
        self._remarks: list[str] = []
        self._camera_over = threading.Event()
        self._over = threading.Event()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._recent: tuple[float, int, float | None] = (time.monotonic(), 0, None)

        self._record_stage: Stage[Frame] = Stage(settings.record_queue)
        self._analysis_stage: Stage[Frame] = Stage(settings.analysis_queue)
        self._store_stage: Stage[AnalysisBatch] = Stage(_STORE_BATCHES)
        self._score_stage: Stage[AnalysisBatch] = Stage(_STORE_BATCHES)
        self._track_slot: Slot[FrameResult] = Slot()
        self._preview_slot: Slot[Frame] = Slot()

        self._score = self._score_thread(shape)
        self._grabber = Grabber(
            microscope, self.ledger, self.latencies.of["grabbed"], self._hand_on, self._sequence_ended
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
                stopped=lambda reason: tell("recording_stopped", f"{reason} The analysis goes on."),
                failed=self._ends_with("The recorder"),
            )
        )
        self._analysis = AnalysisThread(
            Analyzer(localizer, Tracker()),
            self._analysis_stage,
            self.latencies,
            model=model,
            batch=settings.batch,
            deadline_s=settings.deadline_ms / 1000,
            show=self._track_slot.put,
            keep=self._keep,
            failed=self._analysis_failed,
            turn_away=self.ledger.turn_away,
            polish=polish,
        )
        self._publisher = TrackThread(
            self._track_slot,
            live,
            self.latencies.of["published"],
            lambda: {**self._head(), **self._progress()},
            self._ends_with("Publishing the tracks"),
        )
        self._preview = PreviewThread(self._preview_slot, live, self._head, self._ends_with("The preview"))
        self._storekeeper = Storekeeper(
            store,
            run_id,
            self._store_stage,
            self.ledger,
            self.figures,
            stored=self._score_batch,
            failed=self._ends_with("Storing the results"),
        )
        self._finisher = Worker("finish", self._run_to_the_end, self._finishing_failed)

    def _score_thread(self, shape: tuple[int, int]) -> ScoreThread | None:
        try:
            truth = truth_source(self._microscope)
        except MicroscopeError as error:
            self._remarks.append(f"The accuracy is not known: {error}")
            return None
        return None if truth is None else ScoreThread(LiveScore(truth, shape), self._score_stage, self._scoring_failed)

    # ---- the life of a run ----

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
        threads += [self._storekeeper, self._publisher, self._preview, self._analysis]
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
        """Ask for the end, from any thread; the stages finish what is in them."""
        self._grabber.stop()

    def swap_model(self, localizer: LocalizesFrames, model: ModelCard, polish: SparePolish | None = None) -> None:
        """Go on with another model, warmed up, from the next batch of frames on; all live tracks end."""
        self._analysis.swap(localizer, model, polish)
        self._polish = polish
        self.model_id = model.id

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
    def refined(self) -> int | None:
        """Frames whose localizations the live refinement had time for; None where it is off."""
        return None if self._polish is None else self._polish.frames

    @property
    def fps(self) -> float | None:
        """Frames analysed per second of capture, stored or not yet; None before the second one."""
        analysed = self._analysis.frames
        if self._first_s is None or analysed < 2 or self._last_s <= self._first_s:
            return None
        # n frames span n - 1 periods
        return round((analysed - 1) / (self._last_s - self._first_s), 3)

    def _recent_fps(self) -> float | None:
        """Frames analysed per second over about the last two seconds; since the beginning until these are over."""
        since_s, before, last = self._recent
        now_s, analysed = time.monotonic(), self._analysis.frames
        if now_s - since_s >= _RECENT_S:
            last = round((analysed - before) / (now_s - since_s), 2)
            self._recent = (now_s, analysed, last)
        return last if last is not None else self.fps

    def status(self) -> dict[str, Any]:
        """Where the run stands, as the engine's status tells it."""
        return {
            "run_id": self.id,
            "record": self.request.record,
            "recorder": self.recorder_state,
            "refined_frames": self.refined,
            "ledger": self.ledger.counts().as_dict(),
            "stages": self.stages(),
            "latency_ms": self.latencies.summary_ms(),
            "latency_buckets": self.latencies.buckets(),
            "fps": self._recent_fps(),
            "accuracy": self.accuracy(),
        }

    def figures(self) -> dict[str, Any]:
        """Latencies (ms), how the stages are doing, and frames analysed per second, so far."""
        return {"latency_ms": self.latencies.summary_ms(), "stages": self.stages(), "fps": self.fps}

    def accuracy(self) -> dict[str, Any] | None:
        """Scores against the truth so far; None where it is not known, or scoring failed."""
        return None if self._score is None else self._score.result()

    @property
    def recorder_state(self) -> RecorderState:
        """Whether frames are kept; ``"stopped"`` when they should be and the disk did not take them."""
        if self._recorder is None:
            return "off"
        return "writing" if self._recorder.problem is None else "stopped"

    @property
    def problem(self) -> str | None:
        """Why it failed or was interrupted, and what of it was not kept; None when nothing is wrong."""
        problems = [
            self.interruption,
            self._failure,
            self._storekeeper.problem,
            None if self._recorder is None else self._recorder.problem,
            self._frame_log.problem,
            *self._remarks,
        ]
        return " ".join(problem for problem in problems if problem) or None

    def stages(self) -> dict[str, dict[str, Any]]:
        """How each stage is doing: depth, capacity, highest, dropped, age_s."""
        stages: dict[str, Stage[Any] | Slot[Any]] = {
            "analyse": self._analysis_stage,
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
        return {"fps": self.fps, "tracked": self._analysis.frames, "ledger": self.ledger.counts().as_dict()}

    # ---- what the stages call ----

    def _hand_on(self, frame: Frame) -> None:
        """On the grab thread: to the recorder first, then to the analysis, then to the view."""
        if self._first_s is None:
            self._first_s = frame.time_s
        self._last_s = frame.time_s
        self.stage_um = frame.stage_um
        if self._recorder is not None and not self._record_stage.offer(frame):
            self.ledger.leave_unrecorded([frame.index])
        if not self._analysis_stage.offer(frame):
            self.ledger.turn_away([frame.index])
        self._preview_slot.put(frame)

    def _keep(self, batch: AnalysisBatch) -> None:
        if not self._store_stage.offer(batch):
            self._storekeeper.give_up(batch, "The database did not keep up for a minute.")

    def _score_batch(self, batch: AnalysisBatch) -> None:
        # What is refused is counted by the stage, and the frames that the accuracy comes from are told with it.
        if self._score is not None:
            self._score_stage.offer(batch)

    def _ends_with(self, what: str) -> Callable[[Exception], None]:
        """What a thread reports to that the run cannot do without."""

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
        """On the grab thread, when no frame will come any more."""
        if failure is not None:
            told = isinstance(failure, MicroscopeError)
            unforeseen = f"Taking frames from the camera failed ({type(failure).__name__}: {failure})."
            self._fail(str(failure) if told else unforeseen, microscope=told)
            self._halt_camera()
        self._camera_over.set()

    def _halt_camera(self) -> None:
        """After a failure: leave the camera idle, or say that it has to be opened again."""
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
        """On the finishing thread, from the start on, so that the end needs no thread that may not be had then."""
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
        """Say in the database how it ended, then to the owner; the run is over even when that fails."""
        self.state = "interrupted" if self.interruption else "failed" if self._failure else "finished"
        self._store_the_end()
        try:
            self._ended(self)
        finally:
            self._over.set()

    def _finish_stages(self) -> None:
        """Close each stage behind what feeds it, and wait for its thread."""
        for first in (self._record_stage, self._analysis_stage, self._preview_slot):
            first.close()
        self._join(self._recorder)
        self._frame_log.close()
        self._join(self._analysis)
        for following in (self._track_slot, self._store_stage):
            following.close()
        self._join(self._publisher)
        self._join(self._preview)
        self._join(self._storekeeper)
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
            self._remarks.append(f"Files of the recording are gone, which the database could not be told: {error}")
            return
        self.ledger.withdraw(frames, deferred)
        self._remarks.append(f"{frames} recorded frames cannot be read any more: their files were moved or deleted.")

    def _store_the_end(self) -> None:
        """Try for a while; a run that does not say in the database that it has ended is marked at the next start."""
        deadline_s = time.monotonic() + _END_PATIENCE_S
        while True:
            try:
                self._store.runs.finish(
                    self.id,
                    self.state,
                    problem=self.problem,
                    ledger=self.ledger.counts().as_dict(),
                    accuracy=self.accuracy(),
                    **self.figures(),
                )
            except Exception as error:  # noqa: BLE001  the run is over all the same, and says what was missed
                is_away = isinstance(error, StoreError) and not isinstance(error, UnknownItem)
                if not is_away or time.monotonic() > deadline_s:
                    self._remarks.append(f"The end could not be stored: {error}")
                    return
                time.sleep(_PAUSE_S)
            else:
                return

    @property
    def recording_path(self) -> Path | None:
        """Where the frames are; None without a recording."""
        return None if self._recording is None else self._recording.path
