"""The real-time process: puts its parts together, and keeps model and microscope ready.

    lease             who has the microscope: a run, a sweep, or none
    microscope_slot   the open microscope, or the reason why it is away
    model_slot        the active model
    run_control       starting and ending runs
    calibration_control, focus_control   starting sweeps and autofocus
    stage_jobs        the microscope during these, and their ends
    live_control      the camera view without a run
    steering          control of stages and light by a client, also during a run
    unattended_run    the run at start
    command_table, stop_command   commands of clients
    status, event_log   what clients and supervisor read

A microscope that cannot be opened, or that fails during a run, is opened again
after pauses that grow; meanwhile the engine replies to commands with the
reason.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import structlog

from hardware.microscope import MicroscopeError
from models.errors import DataError
from service.engine.calibration_control import CalibrationControl
from service.engine.catch_up import CatchUp
from service.engine.command_table import CommandTable
from service.engine.controls import sets_camera
from service.engine.event_log import EventLog
from service.engine.focus_control import FocusControl
from service.engine.lease import Absence, Lease, LeaseState
from service.engine.live_control import LiveControl
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.model_slot import ModelSlot
from service.engine.run import RunOutputs
from service.engine.run_control import RunControl
from service.engine.stage_jobs import StageJobs
from service.engine.status import StatusReport, StatusThread
from service.engine.steering import Steering
from service.engine.stop_command import StopCommand
from service.files.library import Library
from service.protocol.addresses import LinkAddress
from service.protocol.command_server import CommandServer
from service.protocol.live import LivePublisher
from service.settings import Settings
from service.store.store import Store

__all__ = ["Engine"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0

_log = structlog.get_logger(__name__)


class Engine:
    """Microscope, model, runs and sweeps, and the sockets through which clients reach them.

    Parameters
    ----------
    settings : Settings
    address : LinkAddress
        Of the sockets.
    beat : callable
        Receives the heartbeat; see `StatusReport`.

    Attributes
    ----------
    epoch : str
        Differs for each start of an engine.
    """

    def __init__(self, settings: Settings, address: LinkAddress, beat: Callable[[dict[str, Any]], None]) -> None:
        self.epoch = f"{int(time.time()):x}-{secrets.token_hex(4)}"
        self._address = address
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._outputs = outputs = RunOutputs(Store.open(settings.database), LivePublisher(address), self.epoch)
        self.events = EventLog(outputs.store, outputs.live, self.epoch)
        self.lease = Lease()
        self.microscope = MicroscopeSlot(settings, self.lease, self.events, self._ending, self._wake.set)
        self.steering = Steering(self.lease, self.microscope, self.events, self._wake.set)
        self.live = LiveControl(self.lease, self.microscope, outputs, self.events)
        library = Library(settings.data_dir, settings.model)
        self.models = ModelSlot(settings, library, self.lease, self.microscope, self.events)
        self._catch_up = CatchUp(
            outputs.store,
            settings.data_dir,
            self.models.localizer_of,
            batch=settings.engine.batch,
            add_event=lambda kind, message, run_id: self.events.add(kind, message, run_id=run_id),
        )
        self.runs = RunControl(settings, self.lease, self.microscope, self.models, outputs, self.events, self._catch_up)
        self.stage_jobs = StageJobs(settings, self.lease, self.microscope, self.events, self._catch_up, self._wake.set)
        self.calibrations = CalibrationControl(settings, self.lease, self.microscope, self.stage_jobs)
        self.focus = FocusControl(self.lease, self.microscope, self.stage_jobs)
        self.status = StatusReport(
            settings.engine,
            self.lease,
            self.microscope,
            self.models,
            self.runs.unattended,
            self._catch_up,
            outputs,
            self.events,
            beat,
        )
        self.commands = CommandTable(
            {
                "status": self.status.last,
                "microscope": self._refresh_microscope,
                "microscope.set": self._set_microscope,
                "microscope.properties": self.microscope.properties,
                "microscope.property": self._set_property,
                "microscope.snap": self._snap,
                "microscope.live": self._switch_live,
                "stage.move": self._move_stages,
                "control.begin": self.steering.begin,
                "control.renew": self.steering.renew,
                "control.change": self.steering.change,
                "control.end": self.steering.end,
                "calibration.start": self.calibrations.start,
                "focus.start": self.focus.start,
                "model.activate": self._activate_model,
                "run.start": self.runs.start,
                "run.stop": self.runs.stop,
            }
        )

    # ---- life ----

    def serve(self) -> None:
        """Work until `end` is called, then end run or sweep and release the microscope."""
        self.stage_jobs.outcomes.write()
        commands = CommandServer(self._address, self._address.commands, self.commands, self._end_after_failure)
        stop = CommandServer(
            self._address,
            self._address.stop,
            StopCommand(self.lease, self.microscope, self.steering, self.live),
            self._end_after_failure,
            workers=2,
        )
        status = StatusThread(self.status, self._ending, self._end_after_failure)
        status.start()
        self._catch_up.start()
        self._keep_ready()
        commands.close()
        stop.close()
        self._catch_up.close()
        self.runs.end()
        self.stage_jobs.end()
        self.live.end()
        self.microscope.close()
        status.join()
        self.close()

    def close(self) -> None:
        """Close publisher and database of an engine that has ended, or never served."""
        self._outputs.live.close()
        self._outputs.store.close()

    def end(self, interruption: str | None = None) -> None:
        """Ask for the end; `interruption` is the reason, as a sentence, when no user asked for it."""
        run = self.lease.run
        if run is not None:
            run.interruption = run.interruption or interruption
        self._ending.set()
        self._wake.set()

    def _end_after_failure(self, error: Exception) -> None:
        """End an engine that receives no commands or sends no heartbeat any more; the supervisor starts another one."""
        reason = f"The engine ends, because a part of it failed ({type(error).__name__}: {error})."
        self.events.add("engine_failed", reason)
        self.end(reason)

    def _keep_ready(self) -> None:
        """Open, load and begin whatever is missing, until the end."""
        pause_s = _FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                self._make_ready()
                if not self.runs.unattended.pending:
                    pause_s = _FIRST_PAUSE_S
            except (MicroscopeError, DataError) as error:
                is_driver = isinstance(error, MicroscopeError)
                self._lose("microscope away" if is_driver else "model away", error.problem, error.remedy)
            except Exception as error:  # noqa: BLE001  a driver may raise anything; the engine goes on and reports it
                _log.exception("not_ready")
                self._lose("microscope away", f"{type(error).__name__}: {error}.", "See the log of the service.")
            self.steering.report()
            is_written = self.stage_jobs.outcomes.write()
            self._catch_up.wake()
            is_ready = self.lease.tenure.is_open and not self.runs.unattended.pending
            self._wake.wait(None if is_ready and is_written else pause_s)
            self._wake.clear()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _make_ready(self) -> None:
        """Load the model, open the microscope, begin the run at start. Imports take seconds; the sockets are open."""
        with self.lease.lock:
            self.models.load()
            if self.lease.state is LeaseState.AWAY:
                self.microscope.open(self.models.warm_up)
            self.runs.begin_unattended()

    def _lose(self, state: Literal["model away", "microscope away"], problem: str, remedy: str) -> None:
        """Report why model or microscope is away, once for each reason."""
        absence = Absence(state, problem, remedy)
        if self.lease.absence != absence:
            self.events.add(state.replace(" ", "_"), f"{problem} {remedy}")
        self.lease.absence = absence

    # ---- commands ----

    def _refresh_microscope(self) -> dict[str, Any]:
        """State of the microscope, read from the driver unless a run or sweep has it."""
        self.microscope.refresh()
        return self.status.microscope()

    def _set_microscope(self, **wanted: Any) -> dict[str, Any]:
        """Set camera and light; the camera view is paused for the camera."""
        with self.live.paused() if sets_camera(wanted) else nullcontext():
            self.microscope.set(wanted)
        return self.status.microscope()

    def _set_property(self, device: str, name: str, value: str) -> dict[str, Any]:
        """Set a property of a device; the camera view is paused."""
        with self.live.paused():
            return self.microscope.set_property(device, name, value)

    def _move_stages(
        self,
        stage_um: float | None = None,
        by_um: float | None = None,
        x_um: float | None = None,
        x_by_um: float | None = None,
        y_um: float | None = None,
        y_by_um: float | None = None,
    ) -> dict[str, Any]:
        """Move focus drive and XY stage, within their limits."""
        wanted = {
            "stage_um": stage_um, "by_um": by_um, "x_um": x_um, "x_by_um": x_by_um, "y_um": y_um, "y_by_um": y_by_um,
        }  # fmt: skip
        self.microscope.move({name: value for name, value in wanted.items() if value is not None})
        return self.status.microscope()

    def _snap(self) -> dict[str, Any]:
        """Expose one frame; its pixels are little-endian uint16, row by row."""
        with self.live.paused():
            frame = self.microscope.snap()
        rows, columns = frame.pixels.shape
        return {
            "pixels": frame.pixels.astype("<u2", copy=False).tobytes(),
            "shape": [rows, columns],
            "stage_um": frame.stage_um,
        }

    def _switch_live(self, on: bool, duration_s: float | None = None) -> dict[str, Any]:
        """Switch the camera view without a run on or off."""
        self.live.switch(on, duration_s)
        return self.status.microscope()

    def _activate_model(self, id: str) -> dict[str, Any]:
        """Make a model of the library the active one."""
        self.models.activate(id)
        return {"id": id}
