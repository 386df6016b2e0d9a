"""A sweep on the live microscope, as the first step of a calibration job.

It runs on a thread of the engine, because the engine owns the microscope. Its
exposures are written to a file of the job at once, not kept in the memory of
the real-time process; a job worker computes the calibration from the file.

However it ends, the microscope is left as it was found, with one exception:
after a stop the stage stays where it is, and the job states the former
position.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hardware.microscope import Microscope, MicroscopeError
from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.engine.controls import is_refusal
from service.engine.sweep.acquisition import sweep_around_focus
from service.engine.sweep.exposure_file import SweepFile
from service.engine.sweep.request import SweepRequest
from service.engine.sweep.restore import StageHalted, left_as_found
from service.files.job import Fault, Job, JobState
from service.files.jobs import Jobs
from service.files.outputs import write_json
from service.files.sweep import SWEEP_FILES, clear_sweep
from service.worker_thread import WorkerThread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SweepRun"]

_LOOK_S = 0.1
"""Time between two checks whether the job was cancelled, s."""


class _Cancelled(RuntimeError):
    """The job was cancelled, or the engine ends."""


class SweepRun(WorkerThread):
    """One sweep, from the search for focus until the microscope is put back.

    Parameters
    ----------
    job : Job
        Running, at its step ``"sweep"``.
    jobs : Jobs
    microscope : Microscope
        Idle.
    axis : DepthAxis
    request : SweepRequest
    pixel_size_um : float
        Camera pixel at the sample.
    free_space_floor_gb : float
        Disk space that the sweep leaves free.
    ended : callable
        Is called once, on the sweep's thread, when the microscope is put back; it has `write_down` called.

    Attributes
    ----------
    state : JobState
        Next state of the job: ``"queued"`` for the worker when the sweep succeeded.
    fault : Fault or None
        Why it failed, or which part was not put back.
    microscope_failed : bool
        The microscope is in an unknown state and has to be opened again.
    """

    def __init__(
        self,
        job: Job,
        jobs: Jobs,
        microscope: Microscope,
        axis: DepthAxis,
        request: SweepRequest,
        pixel_size_um: float,
        free_space_floor_gb: float,
        ended: Callable[[SweepRun], None],
    ) -> None:
        super().__init__("sweep", self._failed_unexpectedly)
        self.id = job.id
        self.state: JobState = "running"
        self.fault: Fault | None = None
        self.microscope_failed = False
        self._jobs = jobs
        self._microscope = microscope
        self._axis = axis
        self._request = request
        self._pixel_size_um = pixel_size_um
        self._ended = ended
        self._halted = threading.Event()
        self._interrupted = threading.Event()
        self._active_s = time.monotonic()
        self._looked_s = 0.0
        self._exposures = SweepFile(jobs.folder(job.id) / SWEEP_FILES[0], free_space_floor_gb)

    def halt(self) -> None:
        """Move nothing any more, and end the sweep."""
        self._halted.set()

    def interrupt(self) -> None:
        """End the sweep, and put everything back, because the engine ends."""
        self._interrupted.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the microscope is put back; False after `timeout_s`."""
        self.join(timeout_s)
        return not self.is_alive()

    @property
    def age_s(self) -> float:
        """Time since the last move or exposure, s."""
        return time.monotonic() - self._active_s

    @property
    def longest_step_s(self) -> float:
        """Longest time of one exposure and one wait, in addition to the driver's own time, s."""
        return self._request.settle_s + 3 * (self._request.exposure_s or 0.0)

    # ---- on the sweep's thread ----

    def work(self) -> None:
        """Sweep, and describe the exposures for the worker."""
        stage_um: float | None = None
        try:
            stage_um = self._microscope.stage_um
            with left_as_found(self._microscope, self._check_halt), self._exposures:
                reached_um, focus_um = sweep_around_focus(
                    self._microscope, self._axis, self._request, self._exposures, self._report
                )
            self._describe(reached_um)
            self._log(f"{len(reached_um)} planes taken, focus near {focus_um:.1f} µm (stage).")
            self.state = "queued"
        except StageHalted as halted:
            self.state = "cancelled"
            was = "" if stage_um is None else f" Before the sweep it was at {stage_um:.2f} µm."
            self.fault = Fault(
                f"The microscope was stopped, so the stage was left where it stood.{was} {halted}".rstrip(),
                "Move it back yourself: POST /api/v1/microscope/stage.",
            )
        except _Cancelled:
            self.state = "interrupted" if self._interrupted.is_set() else "cancelled"
            if self._interrupted.is_set():
                self.fault = Fault("The service ended during the sweep; the stage was put back.", "Start it again.")
        except MicroscopeError as error:
            self.state, self.fault = "failed", Fault(error.problem, error.remedy)
            self.microscope_failed = not is_refusal(error)
        except DataError as error:
            self.state, self.fault = "failed", Fault(error.problem, error.remedy)
        self._ended(self)

    def _failed_unexpectedly(self, error: Exception) -> None:
        """A driver or the disk may raise anything: the job fails with it."""
        if self.state != "running":
            return  # the sweep had ended and was reported before
        self.state = "failed"
        self.fault = Fault(f"{type(error).__name__}: {error}.", "See the log of the service.")
        self._ended(self)

    def write_down(self) -> None:
        """Write the outcome into the job; the files of a failed sweep are removed first, which makes room.

        Raises
        ------
        DataError, OSError
            When the disk is full; to be called again then.
        """
        if self.state != "queued":
            clear_sweep(self._jobs.folder(self.id))
        if self.fault is not None:
            self._log(f"{self.fault.problem} {self.fault.remedy}")
        self._jobs.move(self.id, self.state, step="compute" if self.state == "queued" else "sweep", error=self.fault)

    def _check_halt(self) -> None:
        self._active_s = time.monotonic()
        if self._halted.is_set():
            raise StageHalted

    def _report(self, done: float, step: str) -> None:
        self._check_halt()
        if self._interrupted.is_set():
            raise _Cancelled("interrupted")
        if self._active_s - self._looked_s >= _LOOK_S:
            self._looked_s = self._active_s
            if self._jobs.is_cancel_requested(self.id):
                raise _Cancelled("cancelled")
        self._jobs.report_progress(self.id, 100 * done, 100, "%")

    def _describe(self, reached_um: NDArray[np.float64]) -> None:
        write_json(
            self._jobs.folder(self.id) / "sweep.json",
            {
                "stage_um": [float(position) for position in reached_um],
                "pixel_size_um": self._pixel_size_um,
                "bit_depth": self._microscope.description.bit_depth,
                "sign": self._axis.sign,
                "axial_scale": self._axis.axial_scale,
            },
        )

    def _log(self, text: str) -> None:
        """Add a line to the log of the job; it repeats the state of the job, so an error of the disk is ignored."""
        with suppress(OSError):
            self._jobs.log(self.id, text)
