"""A job that moves the focus drive and takes images, on a thread of the engine, because the engine owns the microscope.

However it ends, the microscope is left as it was found, with two exceptions:
after a stop the stage stays where it is, and the job states the former
position; and an autofocus that succeeds leaves it in focus.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal

from hardware.microscope import Microscope, MicroscopeError
from models.errors import DataError
from service.engine.controls import is_refusal
from service.engine.sweep.restore import StageHalted
from service.files.job import Fault, Job, JobState
from service.files.jobs import Jobs
from service.worker_thread import WorkerThread

__all__ = ["StageJob"]

_LOOK_S = 0.1
"""Time between two checks whether the job was cancelled, s."""


class _Cancelled(RuntimeError):
    """The job was cancelled, or the engine ends."""


class StageJob(WorkerThread):
    """One job, from its first move until the microscope is put back.

    Parameters
    ----------
    name : str
        Of the thread.
    job : Job
        Running, at its step ``"sweep"``.
    jobs : Jobs
    microscope : Microscope
        Idle.
    longest_step_s : float
        Longest time of one exposure and one wait, in addition to the driver's own time, s.
    ended : callable
        Is called once, on the job's thread, when the microscope is put back; it has `write_down` called.

    Attributes
    ----------
    kind, noun, success : str
        Owner of the microscope and first part of the names of its events; subject of their texts; the event of success.
    finding : str
        What was found, as the end of a sentence.
    longest_step_s : float
    state : JobState
        Next state of the job when it has ended.
    fault : Fault or None
        Why it failed, or which part was not put back.
    microscope_failed : bool
        The microscope is in an unknown state and has to be opened again.
    """

    kind: ClassVar[Literal["calibration", "focus"]]
    noun: ClassVar[str]
    success: ClassVar[str]

    def __init__(
        self,
        name: str,
        job: Job,
        jobs: Jobs,
        microscope: Microscope,
        longest_step_s: float,
        ended: Callable[[Any], None],
    ) -> None:
        super().__init__(name, self._failed_unexpectedly)
        self.id = job.id
        self.state: JobState = "running"
        self.fault: Fault | None = None
        self.finding = ""
        self.microscope_failed = False
        self.longest_step_s = longest_step_s
        self._jobs = jobs
        self._microscope = microscope
        self._ended = ended
        self._halted = threading.Event()
        self._interrupted = threading.Event()
        self._active_s = time.monotonic()
        self._looked_s = 0.0

    def halt(self) -> None:
        """Move nothing any more, and end the job."""
        self._halted.set()

    def interrupt(self) -> None:
        """End the job, and put everything back, because the engine ends."""
        self._interrupted.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the microscope is put back; False after `timeout_s`."""
        self.join(timeout_s)
        return not self.is_alive()

    @property
    def age_s(self) -> float:
        """Time since the last move or exposure, s."""
        return time.monotonic() - self._active_s

    @abstractmethod
    def acquire(self) -> None:
        """Move and expose, with `check_halt` or `report` called before each step; set `state` and `finding`."""

    @abstractmethod
    def write_down(self) -> None:
        """Write the outcome into the job.

        Raises
        ------
        DataError, OSError
            When the disk is full; to be called again then.
        """

    # ---- on the job's thread ----

    def work(self) -> None:
        """Acquire, and sort out how that ends."""
        stage_um: float | None = None
        try:
            stage_um = self._microscope.stage_um
            self.acquire()
        except StageHalted as halted:
            self.state = "cancelled"
            was = "" if stage_um is None else f" Before the {self.name} it was at {stage_um:.2f} µm."
            self.fault = Fault(
                f"The microscope was stopped, so the stage was left where it stood.{was} {halted}".rstrip(),
                "Move it back yourself: POST /api/v1/microscope/stage.",
            )
        except _Cancelled:
            self.state = "interrupted" if self._interrupted.is_set() else "cancelled"
            if self._interrupted.is_set():
                self.fault = Fault(
                    f"The service ended during the {self.name}; the stage was put back.", "Start it again."
                )
        except MicroscopeError as error:
            self.state, self.fault = "failed", Fault(error.problem, error.remedy)
            self.microscope_failed = not is_refusal(error)
        except DataError as error:
            self.state, self.fault = "failed", Fault(error.problem, error.remedy)
        self._ended(self)

    def _failed_unexpectedly(self, error: Exception) -> None:
        """A driver or the disk may raise anything: the job fails with it."""
        if self.state != "running":
            return  # it had ended and was reported before
        self.state = "failed"
        self.fault = Fault(f"{type(error).__name__}: {error}.", "See the log of the service.")
        self._ended(self)

    def check_halt(self) -> None:
        """Note that the job works; end it when the microscope was stopped.

        Raises
        ------
        StageHalted
        """
        self._active_s = time.monotonic()
        if self._halted.is_set():
            raise StageHalted

    def report(self, done: float, step: str) -> None:
        """Report the fraction that is done; end the job when it was stopped, cancelled or interrupted.

        Raises
        ------
        Exception
            One that `work` takes for this end.
        """
        self.check_halt()
        if self._interrupted.is_set():
            raise _Cancelled("interrupted")
        if self._active_s - self._looked_s >= _LOOK_S:
            self._looked_s = self._active_s
            if self._jobs.is_cancel_requested(self.id):
                raise _Cancelled("cancelled")
        self._jobs.report_progress(self.id, 100 * done, 100, "%")

    def log(self, text: str) -> None:
        """Add a line to the log of the job; it repeats the state of the job, so an error of the disk is ignored."""
        with suppress(OSError):
            self._jobs.log(self.id, text)

    def log_fault(self) -> None:
        """Add the reason of a failure to the log."""
        if self.fault is not None:
            self.log(f"{self.fault.problem} {self.fault.remedy}")
