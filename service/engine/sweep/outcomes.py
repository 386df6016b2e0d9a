"""How sweeps and autofocus ended, written into their jobs as soon as the disk takes it.

A job may end on a full disk. Its outcome then waits here, and writing is
tried again. The same holds for the jobs of an earlier engine that was killed
while they moved the stage: they are marked as interrupted.
"""

from __future__ import annotations

import threading

import structlog

from models.errors import DataError
from service.engine.event_log import EventLog
from service.engine.sweep.stage_job import StageJob
from service.files.job import Fault
from service.files.jobs import Jobs
from service.files.sweep import clear_sweep

__all__ = ["StageJobOutcomes"]

_log = structlog.get_logger(__name__)


class StageJobOutcomes:
    """Outcomes that are still to be written.

    Parameters
    ----------
    jobs : Jobs
    events : EventLog
    """

    def __init__(self, jobs: Jobs, events: EventLog) -> None:
        self._jobs = jobs
        self._events = events
        self._writing = threading.Lock()
        self._ended: list[StageJob] = []
        self._cut_off: list[str] | None = None  # jobs of an earlier engine; None: the folder has not been read yet

    @property
    def jobs_are_known(self) -> bool:
        """Whether the jobs that an earlier engine left have been read; only then a new job is not one of them."""
        return self._cut_off is not None

    def add(self, job: StageJob) -> None:
        """Note a job that has ended."""
        self._ended.append(job)

    def write(self) -> bool:
        """Write all outcomes; False when the disk does not take them yet, and this has to be called again.

        The files of a sweep that did not succeed are removed first: on a full disk that makes the room.
        """
        with self._writing:
            try:
                if self._cut_off is None:
                    self._cut_off = [job.id for job in self._jobs.open_jobs() if job.step == "sweep"]
                while self._cut_off:
                    self._mark_cut_off(self._cut_off[0])
                    del self._cut_off[0]
                while self._ended:
                    self._ended[0].write_down()
                    del self._ended[0]
            except (DataError, OSError) as error:
                _log.warning("sweep_not_written_down", error=str(error))
                return False
        return True

    def _mark_cut_off(self, job_id: str) -> None:
        is_focus = self._jobs.get(job_id).kind == "focus"
        noun, doing = ("Autofocus", "the autofocus") if is_focus else ("Calibration", "the sweep")
        fault = Fault(
            f"The engine was ended during {doing}, so the stage was not put back; a restart moves nothing.",
            "Look at the position of the stage, then start it again.",
        )
        clear_sweep(self._jobs.folder(job_id))
        self._jobs.move(job_id, "interrupted", error=fault)
        kind = "focus" if is_focus else "calibration"
        self._events.add(f"{kind}_interrupted", f"{noun} {job_id} was interrupted: {fault.problem}")
