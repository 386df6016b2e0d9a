"""Calibrations on the live microscope: checks the request, starts the sweep, and takes the microscope back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.engine.catch_up import CatchUp
from service.engine.event_log import EventLog
from service.engine.lease import Lease, LeaseState
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.sweep.geometry import axis_of, pixel_size_of
from service.engine.sweep.outcomes import SweepOutcomes
from service.engine.sweep.request import SweepRequest
from service.engine.sweep.run import SweepRun
from service.files.camera_choice import camera_of
from service.files.jobs import Jobs
from service.protocol.errors import EngineRefusal
from service.settings import Settings

__all__ = ["CalibrationControl"]

_END_PATIENCE_S = 8.0
"""Longest wait for the end of a sweep when the engine ends; the supervisor waits 10 s for the engine."""


class CalibrationControl:
    """Starts sweeps on the microscope of the lease.

    Parameters
    ----------
    settings : Settings
    lease : Lease
    microscope : MicroscopeSlot
    events : EventLog
    catch_up : CatchUp
        Paused during a sweep.
    wake : callable
        Wakes the engine's own thread, which tries again to write outcomes.

    Attributes
    ----------
    outcomes : SweepOutcomes
        What is still to be written into jobs.
    """

    def __init__(
        self,
        settings: Settings,
        lease: Lease,
        microscope: MicroscopeSlot,
        events: EventLog,
        catch_up: CatchUp,
        wake: Callable[[], None],
    ) -> None:
        self._jobs = Jobs(settings.data_dir)
        self.outcomes = SweepOutcomes(self._jobs, events)
        self._settings = settings
        self._lease = lease
        self._microscope = microscope
        self._events = events
        self._catch_up = catch_up
        self._wake = wake

    def start(
        self,
        name: str,
        z_range_um: list[float],
        z_step_um: float,
        repeats: int = 2,
        settle_s: float = 0.05,
        exposure_s: float | None = None,
        pixel_size_um: float | None = None,
        camera: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Start the sweep of a calibration, after all checks; a job worker computes the calibration from it.

        Raises
        ------
        EngineRefusal
            When the microscope is not free or has no focus drive, or the jobs cannot be read.
        DataError
            For a request that is out of range, or too large for memory or disk.
        """
        low, high = z_range_um
        request = SweepRequest((float(low), float(high)), z_step_um, repeats, settle_s, pixel_size_um, exposure_s)
        request.check()
        asked: dict[str, Any] = {
            "z_range_um": [low, high],
            "z_step_um": z_step_um,
            "repeats": repeats,
            "settle_s": settle_s,
            "exposure_s": exposure_s,
            "pixel_size_um": pixel_size_um,
            "camera": None if camera is None else camera_of(camera).as_dict(),
        }
        if not self.outcomes.jobs_are_known:
            raise EngineRefusal(
                "unavailable", f"The jobs in {self._settings.data_dir} cannot be read.", "See the log of the service."
            )
        with self._lease.held():
            return {"id": self._begin(name, request, asked)}

    def _begin(self, name: str, request: SweepRequest, asked: dict[str, Any]) -> str:
        microscope, settings = self._microscope.free_microscope(), self._settings
        self._lease.require_not_controlled()
        description = microscope.description
        if description.focus_stage is None:
            raise EngineRefusal(
                "invalid",
                f"The microscope ({description.driver}) has no focus drive, so it cannot sweep.",
                "Calibrate from a sweep file: bathyscope calibrate.",
            )
        floor_gb = settings.engine.free_space_floor_gb
        axis = axis_of(settings.microscope, description)
        pixel_um = pixel_size_of(microscope, request.pixel_size_um)
        size = request.size(axis, description.frame_shape(microscope.camera_settings))
        size.check_memory(exposures_too=False)
        size.check_disk(settings.data_dir, floor_gb)
        job = self._jobs.create("calibrate", name, asked, step="sweep", state="running")
        sweep = SweepRun(job, self._jobs, microscope, axis, request, pixel_um, floor_gb, self.ended)
        self._lease.become(LeaseState.SWEEP, sweep=sweep)
        self._events.add("calibration_started", f"Calibration {job.id} started.", details={"job": job.id})
        self._catch_up.pause()
        sweep.start()
        return job.id

    def ended(self, sweep: SweepRun) -> None:
        """Take the microscope back from a sweep, on the thread of the sweep."""
        problem = None if sweep.fault is None else sweep.fault.problem
        with self._lease.lock:
            self._catch_up.resume()
            is_closing = self._microscope.end_use(failed=sweep.microscope_failed, problem=problem)
            if not sweep.microscope_failed:
                with self._microscope.reporting("reading the microscope"):
                    self._microscope.refresh()
        self.outcomes.add(sweep)
        outcome = {"queued": "swept", "cancelled": "cancelled", "interrupted": "interrupted"}.get(sweep.state, "failed")
        done = {"swept": "has its sweep and is computed", "failed": "failed"}.get(outcome, f"was {outcome}")
        self._events.add(
            f"calibration_{outcome}",
            f"Calibration {sweep.id} {done}{'.' if problem is None else f': {problem}'}",
            details={"job": sweep.id},
        )
        if is_closing:
            self._microscope.close_failed()
        if not self.outcomes.write():
            self._wake()

    def end(self) -> None:
        """End the sweep, if there is one, and put everything back, at the end of the engine."""
        sweep = self._lease.sweep
        if sweep is not None:
            sweep.interrupt()
            sweep.wait(_END_PATIENCE_S)
