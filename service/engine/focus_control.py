"""Autofocus by software, as a job: checks the request and starts it."""

from __future__ import annotations

from typing import Any

from models.quantities import EXPOSURE_S, SETTLE_S
from service.engine.lease import Lease
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.stage_jobs import StageJobs
from service.engine.sweep.autofocus import AutofocusRun
from service.engine.sweep.focus import FocusSearch
from service.protocol.errors import EngineRefusal

__all__ = ["FocusControl"]


class FocusControl:
    """Starts autofocus on the microscope of the lease.

    Parameters
    ----------
    lease : Lease
    microscope : MicroscopeSlot
    stage_jobs : StageJobs
    """

    def __init__(self, lease: Lease, microscope: MicroscopeSlot, stage_jobs: StageJobs) -> None:
        self._lease = lease
        self._microscope = microscope
        self._stage_jobs = stage_jobs

    def start(
        self,
        name: str = "",
        range_um: float = 60.0,
        step_um: float = 4.0,
        settle_s: float = 0.05,
        exposure_s: float | None = None,
    ) -> dict[str, Any]:
        """Start an autofocus, after all checks.

        Raises
        ------
        EngineRefusal
            When the microscope is not free or has no focus drive, when a device holds focus by itself, or when the jobs
            cannot be read.
        DataError
            For a request that is out of range.
        """
        search = FocusSearch(range_um, step_um)
        search.check()
        SETTLE_S.check(settle_s)
        if exposure_s is not None:
            EXPOSURE_S.check(exposure_s)
        asked = {"range_um": range_um, "step_um": step_um, "settle_s": settle_s, "exposure_s": exposure_s}
        self._stage_jobs.require_known()
        with self._lease.held():
            self._lease.require_not_controlled()
            microscope = self._microscope.free_microscope()
            description = microscope.description
            if description.focus_stage is None:
                raise EngineRefusal(
                    "invalid",
                    f"The microscope ({description.driver}) has no focus drive, so it cannot focus.",
                    "Connect one in the hardware configuration.",
                )
            if microscope.continuous_focus:
                raise EngineRefusal(
                    "conflict",
                    "Continuous focus is on, which moves the focus drive by itself.",
                    "Switch it off at the microscope first.",
                )
            jobs = self._stage_jobs.jobs
            job = jobs.create("focus", name, asked, step="sweep", state="running")
            self._stage_jobs.begin(
                AutofocusRun(job, jobs, microscope, search, settle_s, exposure_s, self._stage_jobs.ended)
            )
        return {"id": job.id}
