"""Status and heartbeat of the engine.

Neither asks the driver or takes the lock of the lease, so a driver that hangs
does not stop them. The published states are ``starting``, ``model away``,
``microscope away``, ``run waits``, ``ready``, ``running``, ``calibrating``
and ``focusing``; they follow from the lease of the microscope and from the run at start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import psutil
import structlog

from service.engine.catch_up import CatchUp
from service.engine.event_log import EventLog
from service.engine.lease import Lease, Tenure
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.model_slot import ModelSlot
from service.engine.run import NO_RUN, RunOutputs
from service.engine.sweep.stage_job import StageJob
from service.engine.unattended_run import UnattendedRun
from service.settings import EnginePart
from service.worker_thread import WorkerThread

__all__ = ["EngineState", "StatusReport", "StatusThread"]

EngineState = Literal[
    "starting", "model away", "microscope away", "run waits", "ready", "running", "calibrating", "focusing"
]

_DOING: dict[str, EngineState] = {"calibration": "calibrating", "focus": "focusing"}

_PERIOD_S = 0.25

_SWEEP_PATIENCE_S = 30.0
"""Longest time of one move of a focus drive; a sweep without progress for longer hangs."""

_log = structlog.get_logger(__name__)


class StatusReport:
    """Collects the status, publishes it, and sends the heartbeat to the supervisor.

    Parameters
    ----------
    settings : EnginePart
    lease : Lease
    microscope : MicroscopeSlot
    models : ModelSlot
    unattended : UnattendedRun
    catch_up : CatchUp
    outputs : RunOutputs
        Publisher and epoch are used.
    events : EventLog
    beat : callable
        Receives the heartbeat: ``{"state", "problem", "run_id", "frame_age_s", "frame_age_limit_s", "driver_call"}``.
    """

    def __init__(
        self,
        settings: EnginePart,
        lease: Lease,
        microscope: MicroscopeSlot,
        models: ModelSlot,
        unattended: UnattendedRun,
        catch_up: CatchUp,
        outputs: RunOutputs,
        events: EventLog,
        beat: Callable[[dict[str, Any]], None],
    ) -> None:
        self._settings = settings
        self._lease = lease
        self._microscope = microscope
        self._models = models
        self._unattended = unattended
        self._catch_up = catch_up
        self._outputs = outputs
        self._events = events
        self._beat = beat
        self._starts_first_run = unattended.pending
        self._process = psutil.Process()
        self._last: dict[str, Any] = {}
        self._trouble: str | None = None

    def last(self) -> dict[str, Any]:
        """The status that was published last, or the first one."""
        return self._last or self._take()

    def microscope(self) -> dict[str, Any]:
        """State, owner and facts of the microscope."""
        tenure = self._lease.tenure
        facts = dict(self._microscope.facts)
        if tenure.run is not None and tenure.run.stage_um is not None and facts:
            facts["stage"] = {**facts["stage"], "stage_um": tenure.run.stage_um}
        absence = self._lease.absence
        return {
            "state": _state_of_microscope(tenure),
            "owner": tenure.owner,
            "controller": self._lease.controller(),
            "problem": None if tenure.is_open else absence.problem,
            "remedy": None if tenure.is_open else absence.remedy,
            **facts,
        }

    def tick(self) -> None:
        """Publish the status and send the heartbeat, once.

        The heartbeat does not depend on the status: a status that cannot be taken or sent is reported as a problem, and
        the supervisor does not take the engine for dead.
        """
        try:
            status = self._last = self._take()
            self._outputs.live.send_values("status", status)
            state, problem = status["state"], status["problem"]
            self._trouble = None
        except Exception as error:  # noqa: BLE001  see above
            state, problem = self._state()[0], f"The status cannot be sent ({type(error).__name__}: {error})."
            self._last = {**self._last, "problem": problem, "remedy": "See the log of the service."}
            if self._trouble != problem:
                self._trouble = problem
                _log.exception("status_failed")
                self._events.add("status_failed", problem)
        tenure = self._lease.tenure
        run, sweep = tenure.run, tenure.sweep
        self._beat(
            {
                "state": state,
                "problem": problem,
                "run_id": None if run is None else run.id,
                "frame_age_s": _frame_age_s(tenure),
                "frame_age_limit_s": self._frame_age_limit_s(sweep),
                "driver_call": self._microscope.driver_call(),
            }
        )

    def _frame_age_limit_s(self, sweep: StageJob | None) -> float:
        camera = self._microscope.camera
        exposure_s = 0.0 if camera is None else camera.exposure_s
        limit_s = self._settings.frame_age_limit_s + 3 * exposure_s
        return limit_s if sweep is None else limit_s + sweep.longest_step_s + _SWEEP_PATIENCE_S

    def _take(self) -> dict[str, Any]:
        run, active = self._lease.run, self._models.active
        active_model = None if active is None else active.model
        model = active_model if run is None else run.model.description
        state, problem, remedy = self._state()
        with self._process.oneshot():
            process = {
                "pid": self._process.pid,
                "cpu_percent": self._process.cpu_percent(),
                "rss_mb": round(self._process.memory_info().rss / 1e6, 1),
                "threads": self._process.num_threads(),
            }
        return {
            "epoch": self._outputs.epoch,
            "time_s": time.time(),
            "state": state,
            "ready": state in ("ready", "running", "calibrating", "focusing"),
            "problem": problem,
            "remedy": remedy,
            "microscope": self.microscope(),
            "owner": self._lease.tenure.owner,
            "model_id": None if model is None else model.id,
            "active_model_id": None if active_model is None else active_model.id,
            "pixel_size_um": None if model is None else model.pixel_size_um,
            "z_range_um": None if model is None else list(model.z_range_um),
            "catching_up": self._catch_up.run_id,
            **(NO_RUN if run is None else run.status()),
            "process": process,
        }

    def _state(self) -> tuple[EngineState, str | None, str | None]:
        """State, problem and remedy."""
        tenure = self._lease.tenure
        if not tenure.is_open:
            absence = self._lease.absence
            return absence.state, absence.problem, absence.remedy
        run = tenure.run
        if self._unattended.pending and run is None:
            return self._unattended.report()
        # An engine that begins with a run is starting until the tracks of that run flow.
        if self._starts_first_run and run is not None and not run.flows:
            return "starting", None, None
        self._starts_first_run = False
        if run is None:
            return _DOING[tenure.sweep.kind] if tenure.sweep is not None else "ready", None, None
        return "running", run.problem, None


def _frame_age_s(tenure: Tenure) -> float | None:
    """Time since the newest frame, or the last move or exposure of a sweep, s; None: nothing is expected."""
    if tenure.sweep is not None:
        return tenure.sweep.age_s
    exposing = tenure.run or tenure.live
    return None if exposing is None else exposing.frame_age_s


def _state_of_microscope(tenure: Tenure) -> str:
    if not tenure.is_open:
        return "away"
    if tenure.run is not None:
        return "running"
    if tenure.live is not None:
        return "live"
    return "ready" if tenure.sweep is None else _DOING[tenure.sweep.kind]


class StatusThread(WorkerThread):
    """Calls `StatusReport.tick` four times a second until the end of the engine.

    Parameters
    ----------
    report : StatusReport
    ending : Event
    failed : callable
        Receives an exception that ends the thread; the engine must end then, because it sends no heartbeat any more.
    """

    def __init__(self, report: StatusReport, ending: threading.Event, failed: Callable[[Exception], None]) -> None:
        super().__init__("status", failed)
        self._report = report
        self._ending = ending

    def work(self) -> None:
        """Tick until the end."""
        while not self._ending.wait(_PERIOD_S):
            self._report.tick()
