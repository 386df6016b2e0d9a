"""A sweep on the live microscope, as the first step of a calibration job.

It runs in the engine, because the engine owns the microscope, on a thread of
its own. What it takes goes into files of the job at once, not into the memory
of the real-time process; a worker computes the calibration from them.

However it ends, the microscope is left as it was found, with one exception:
after a stop the stage stays where it is, and the job says where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import structlog

from hardware.microscope import Microscope, MicroscopeError
from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from service.engine.controls import is_refusal
from service.jobs.folders import Fault, Job, Jobs, JobState
from service.outputs import write_json
from service.sweeping import StageHalted, StageSweep, SweepRequest, left_as_found, sweep_around_focus

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SweepRun"]

_LOOK_S = 0.1
"""How often the file that cancels is looked for."""

_log = structlog.get_logger(__name__)


class _Cancelled(RuntimeError):
    """Somebody has cancelled the job, or the engine ends."""


class SweepRun:
    """One sweep, from the search for focus until the microscope is as it was.

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
    ended : callable
        Is called once, on the sweep's thread, when the microscope is free again and before the job says so.

    Attributes
    ----------
    state : JobState
        What becomes of the job: ``"queued"`` for the worker when the sweep succeeded.
    fault : Fault or None
        Why it failed, or what was not put back.
    microscope_failed : bool
        The microscope does not answer as it should and has to be opened again.
    """

    def __init__(
        self,
        job: Job,
        jobs: Jobs,
        microscope: Microscope,
        axis: DepthAxis,
        request: SweepRequest,
        pixel_size_um: float,
        ended: Callable[[SweepRun], None],
    ) -> None:
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
        self._told_s = time.monotonic()
        self._looked_s = 0.0
        self._thread = threading.Thread(target=self._work, name="sweep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def halt(self) -> None:
        """Nothing is moved any more, from now on; the sweep ends."""
        self._halted.set()

    def interrupt(self) -> None:
        """End the sweep, and put everything back, because the engine ends."""
        self._interrupted.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the microscope is as it was; False after `timeout_s`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def age_s(self) -> float:
        """Time since the microscope last did something, s."""
        return time.monotonic() - self._told_s

    @property
    def longest_step_s(self) -> float:
        """What one exposure and one wait may take beside the driver's own time, s."""
        return self._request.settle_s + 3 * (self._request.exposure_s or 0.0)

    # ---- on the sweep's thread ----

    def _work(self) -> None:
        stage_um: float | None = None
        try:
            stage_um = self._microscope.stage_um
            with left_as_found(self._microscope, self._check_halt):
                taken, focus_um = sweep_around_focus(
                    self._microscope, self._axis, self._request, self._tell, self._allocate
                )
            self._keep(taken)
            self._log(f"{len(taken.stage_um)} planes taken, focus near {focus_um:.1f} µm (stage).")
            self.state = "queued"
        except StageHalted:
            self.state = "cancelled"
            was = "" if stage_um is None else f" Before the sweep it was at {stage_um:.2f} µm."
            self.fault = Fault(
                f"The microscope was stopped, so the stage was left where it stood.{was}",
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
        except Exception as error:  # noqa: BLE001  a driver or the disk may raise anything; the engine stays and tells
            self.state = "failed"
            self.fault = Fault(f"{type(error).__name__}: {error}.", "See the log of the service.")
        self._ended(self)
        self._write_down()

    def _write_down(self) -> None:
        """Let the job say what became of the sweep; on a full disk the next start does."""
        with suppress(DataError, OSError):
            if self.state != "queued":
                for name in ("sweep.npy", "sweep.json"):
                    (self._jobs.folder(self.id) / name).unlink(missing_ok=True)
            if self.fault is not None:
                self._jobs.log(self.id, f"{self.fault.problem} {self.fault.remedy}")
            self._jobs.move(
                self.id, self.state, step="compute" if self.state == "queued" else "sweep", error=self.fault
            )

    def _check_halt(self) -> None:
        self._told_s = time.monotonic()
        if self._halted.is_set():
            raise StageHalted("stopped")

    def _tell(self, done: float, what: str) -> None:
        self._check_halt()
        if self._interrupted.is_set():
            raise _Cancelled("interrupted")
        if self._told_s - self._looked_s >= _LOOK_S:
            self._looked_s = self._told_s
            if self._jobs.is_to_end(self.id):
                raise _Cancelled("cancelled")
        self._jobs.tell(self.id, 100 * done, 100, "%")

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        path = self._jobs.folder(self.id) / "sweep.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)

    def _keep(self, taken: StageSweep) -> None:
        if isinstance(taken.planes, np.memmap):
            taken.planes.flush()
        write_json(
            self._jobs.folder(self.id) / "sweep.json",
            {
                "stage_um": [float(position) for position in taken.stage_um],
                "pixel_size_um": self._pixel_size_um,
                "bit_depth": self._microscope.description.bit_depth,
                "sign": self._axis.sign,
                "axial_scale": self._axis.axial_scale,
            },
        )

    def _log(self, text: str) -> None:
        with suppress(OSError):
            self._jobs.log(self.id, text)
