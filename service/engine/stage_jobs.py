"""Jobs that move the focus drive: they take the microscope, and give it back however they end."""

from __future__ import annotations

from collections.abc import Callable

from service.engine.catch_up import CatchUp
from service.engine.event_log import EventLog
from service.engine.lease import Lease, LeaseState
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.sweep.outcomes import StageJobOutcomes
from service.engine.sweep.stage_job import StageJob
from service.files.jobs import Jobs
from service.protocol.errors import EngineRefusal
from service.settings import Settings

__all__ = ["StageJobs"]

_END_PATIENCE_S = 8.0
"""Longest wait for the end of a job when the engine ends; the supervisor waits 10 s for the engine."""


class StageJobs:
    """Begins sweeps and autofocus on the microscope of the lease, and takes it back.

    Parameters
    ----------
    settings : Settings
    lease : Lease
    microscope : MicroscopeSlot
    events : EventLog
    catch_up : CatchUp
        Paused during a job.
    wake : callable
        Wakes the engine's own thread, which tries again to write outcomes.

    Attributes
    ----------
    jobs : Jobs
    outcomes : StageJobOutcomes
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
        self.jobs = Jobs(settings.data_dir)
        self.outcomes = StageJobOutcomes(self.jobs, events)
        self._data_dir = settings.data_dir
        self._lease = lease
        self._microscope = microscope
        self._events = events
        self._catch_up = catch_up
        self._wake = wake

    def require_known(self) -> None:
        """Refuse a new job while those of an earlier engine are not known.

        Raises
        ------
        EngineRefusal
        """
        if not self.outcomes.jobs_are_known:
            raise EngineRefusal(
                "unavailable", f"The jobs in {self._data_dir} cannot be read.", "See the log of the service."
            )

    def begin(self, job: StageJob) -> None:
        """Give the free microscope to a job and start it. To be called with the lock."""
        self._lease.become(LeaseState.SWEEP, sweep=job)
        self._events.add(f"{job.kind}_started", f"{job.noun} {job.id} started.", details={"job": job.id})
        self._catch_up.pause()
        job.start()

    def ended(self, job: StageJob) -> None:
        """Take the microscope back, on the thread of the job."""
        problem = None if job.fault is None else job.fault.problem
        with self._lease.lock:
            self._catch_up.resume()
            is_closing = self._microscope.end_use(failed=job.microscope_failed, problem=problem)
            if not job.microscope_failed:
                with self._microscope.reporting("reading the microscope"):
                    self._microscope.refresh()
        self.outcomes.add(job)
        words = {"cancelled": "cancelled", "interrupted": "interrupted"}
        outcome = job.success if job.state in ("queued", "done") else words.get(job.state, "failed")
        done = {job.success: job.finding, "failed": "failed"}.get(outcome, f"was {outcome}")
        self._events.add(
            f"{job.kind}_{outcome}",
            f"{job.noun} {job.id} {done}{'.' if problem is None else f': {problem}'}",
            details={"job": job.id},
        )
        if is_closing:
            self._microscope.close_failed()
        if not self.outcomes.write():
            self._wake()

    def end(self) -> None:
        """End the job, if there is one, and put everything back, at the end of the engine."""
        job = self._lease.sweep
        if job is not None:
            job.interrupt()
            job.wait(_END_PATIENCE_S)
