"""One run: the stages between the camera and the database, started together and ended in order.

    microscope ─ grab ─┬─ record ── shards
                       ├─ analyse ─┬─ publish
                       │           └─ store ── score
                       └─ preview

A run ends in the direction of the data: the camera stops, the grabber empties
the driver's buffer, then each stage finishes what is in it. So a stopped run
has nothing in flight, and its ledger is final when the database says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from hardware.microscope import Frame, Microscope, MicroscopeError
from models.model import Model
from models.tracking import Tracker
from service.engine.accuracy import LiveScore, truth_source
from service.engine.analyzer import AnalysisBatch, AnalysisThread, Analyzer, FrameResult, LocalizesFrames
from service.engine.frame_log import FrameLog
from service.engine.grabber import Grabber
from service.engine.latency import Latencies
from service.engine.ledger import Ledger
from service.engine.polish import SparePolish
from service.engine.publisher import PreviewThread, TrackThread
from service.engine.recorder import Recorder, Recording
from service.engine.stages import Slot, Stage
from service.engine.storekeeper import Storekeeper
from service.link import LivePublisher
from service.settings import EnginePart
from service.store.store import Store

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
"""Batches that may wait for the database: a minute, longer than it is retried for one of them."""


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
    model : Model
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
    """

    def __init__(
        self,
        run_id: str,
        request: RunRequest,
        *,
        microscope: Microscope,
        localizer: LocalizesFrames,
        model: Model,
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
        self.ledger = Ledger()
        self.latencies = Latencies()
        self.problem: str | None = None
        self.interruption: str | None = None
        self.microscope_failed = False
        self.stage_um: float | None = None
        self._microscope = microscope
        self._store = store
        self._epoch = epoch
        self._ended = ended
        self._recording = recording
        self._polish = polish
        self._over = threading.Event()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._timer: threading.Timer | None = None
        self._recent: tuple[float, int, float | None] = (time.monotonic(), 0, None)

        self._record_stage: Stage[Frame] = Stage(settings.record_queue)
        self._analysis_stage: Stage[Frame] = Stage(settings.analysis_queue)
        self._store_stage: Stage[AnalysisBatch] = Stage(_STORE_BATCHES)
        self._track_slot: Slot[FrameResult] = Slot()
        self._preview_slot: Slot[Frame] = Slot()

        truth = truth_source(microscope)
        self._score = None if truth is None else LiveScore(truth, shape, model.pixel_size_um, model.z_range_um)
        self._grabber = Grabber(
            microscope, self.ledger, self.latencies.of["grabbed"], self._hand_on, self._sequence_ended
        )
        self._frame_log = FrameLog(store, run_id, self.ledger)
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
            )
        )
        self._analysis = AnalysisThread(
            Analyzer(localizer, Tracker()),
            self._analysis_stage,
            self.ledger,
            self.latencies,
            model_id=model.id,
            batch=settings.batch,
            deadline_s=settings.deadline_ms / 1000,
            show=self._track_slot.put,
            keep=self._keep,
            failed=self._analysis_failed,
            turn_away=self._turn_away,
            polish=polish,
        )
        self._publisher = TrackThread(
            self._track_slot, live, self.latencies.of["published"], lambda: {**self._head(), **self._progress()}
        )
        self._preview = PreviewThread(self._preview_slot, live, self._head)
        self._storekeeper = Storekeeper(
            store, run_id, self._store_stage, self.figures, () if self._score is None else (self._score.add,)
        )

    # ---- the life of a run ----

    def start(self) -> None:
        """Start the stages from the far end, then the camera.

        Raises
        ------
        MicroscopeError
            When the camera does not start; the run is ended then.
        """
        self._storekeeper.start()
        self._publisher.start()
        self._preview.start()
        self._analysis.start()
        if self._recorder is not None:
            self._frame_log.start()
            self._recorder.start()
        try:
            self._microscope.start_sequence()
        except MicroscopeError as error:
            self._sequence_ended(error)
            raise
        self._grabber.start()
        if self.request.duration_s is not None:
            self._timer = threading.Timer(self.request.duration_s, self.stop_camera)
            self._timer.daemon = True
            self._timer.start()

    def stop_camera(self) -> None:
        """Ask for the end; the stages finish what is in them."""
        try:
            self._microscope.stop_sequence()
        except MicroscopeError as error:
            self._fail(str(error), microscope=True)

    def swap_model(self, localizer: LocalizesFrames, model: Model, polish: SparePolish | None = None) -> None:
        """Go on with another model, warmed up, from the next batch of frames on; all live tracks end."""
        self._analysis.swap(localizer, model.id, polish)
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
        """Frames analysed per second of capture; None before the second one."""
        analysed = self.ledger.counts().analysed
        if self._first_s is None or analysed < 2 or self._last_s <= self._first_s:
            return None
        # n frames span n - 1 periods
        return round((analysed - 1) / (self._last_s - self._first_s), 3)

    def _recent_fps(self) -> float | None:
        """Frames analysed per second over about the last two seconds; since the beginning until these are over."""
        since_s, before, last = self._recent
        now_s, analysed = time.monotonic(), self.ledger.counts().analysed
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
        """Scores against the truth so far; None where it is not known."""
        return None if self._score is None else self._score.result()

    @property
    def recorder_state(self) -> RecorderState:
        """Whether frames are kept; ``"stopped"`` when they should be and the disk did not take them."""
        if self._recorder is None:
            return "off"
        return "writing" if self._recorder.problem is None else "stopped"

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
        return {name: stage.report() for name, stage in stages.items()}

    def _head(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "run": self.id}

    def _progress(self) -> dict[str, Any]:
        return {"fps": self.fps, "ledger": self.ledger.counts().as_dict()}

    # ---- what the stages call ----

    def _hand_on(self, frame: Frame) -> None:
        """On the grab thread: to the recorder first, then to the analysis, then to the view."""
        if self._first_s is None:
            self._first_s = frame.time_s
        self._last_s = frame.time_s
        self.stage_um = frame.stage_um
        recording = self._recorder is not None
        self.ledger.admit(frame.index, recording=recording)
        if recording and not self._record_stage.offer(frame):
            self.ledger.leave_unrecorded([frame.index])
        if not self._analysis_stage.offer(frame):
            self._turn_away([frame])
        self._preview_slot.put(frame)

    def _turn_away(self, frames: Sequence[Frame]) -> None:
        self.ledger.turn_away(frame.index for frame in frames)

    def _keep(self, batch: AnalysisBatch) -> None:
        if not self._store_stage.offer(batch):
            self._storekeeper.give_up(batch, "the database did not keep up for a minute")

    def _analysis_failed(self, error: Exception) -> None:
        self._fail(f"The analysis stopped ({type(error).__name__}: {error})")
        if self._recorder is None:  # with a recording the frames are kept for later
            self.stop_camera()

    def _sequence_ended(self, failure: Exception | None) -> None:
        """On the grab thread, when no frame will come any more."""
        if failure is not None:
            self._fail(str(failure), microscope=isinstance(failure, MicroscopeError))
        threading.Thread(target=self._finish, name="finish", daemon=True).start()

    def _fail(self, problem: str, *, microscope: bool = False) -> None:
        self.problem = self.problem or problem
        self.microscope_failed = self.microscope_failed or microscope

    # ---- the end ----

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for stage in (self._record_stage, self._analysis_stage, self._preview_slot):
            stage.close()
        if self._recorder is not None:
            self._recorder.join()
            self._frame_log.close()
        self._analysis.join()
        for ending in (self._track_slot, self._store_stage):
            ending.close()
        self._publisher.join()
        self._preview.join()
        self._storekeeper.join()
        if self._recorder is not None:
            self._frame_log.join()
        failed = self.problem is not None
        problems = [
            self.interruption,
            self.problem,
            self._storekeeper.problem,
            self._recorder and self._recorder.problem,
            self._frame_log.problem,
        ]
        counts = self.ledger.counts()
        if not counts.balances or counts.in_flight:
            problems.append(f"The ledger does not balance: {counts}")
        self.problem = " ".join(problem for problem in problems if problem) or None
        self._store_the_end("interrupted" if self.interruption else "failed" if failed else "finished")
        try:
            self._ended(self)
        finally:
            self._over.set()

    def _store_the_end(self, state: Any) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._store.runs.finish(
                    self.id,
                    state,
                    problem=self.problem,
                    ledger=self.ledger.counts().as_dict(),
                    accuracy=self.accuracy(),
                    **self.figures(),
                )
            except Exception as error:  # noqa: BLE001  the run is over all the same; the next start marks it
                self.problem = f"{self.problem or ''} The end could not be stored: {error}".strip()
                if time.monotonic() > deadline:
                    return
                time.sleep(1)
            else:
                return

    @property
    def recording_path(self) -> Path | None:
        """Where the frames are; None without a recording."""
        return None if self._recording is None else self._recording.path
