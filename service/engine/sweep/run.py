"""A sweep on the live microscope, as the first step of a calibration job.

Its exposures are written to a file of the job at once, not kept in the memory of
the real-time process; a job worker computes the calibration from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hardware.microscope import Microscope
from models.calibration.depth_axis import DepthAxis
from service.engine.sweep.acquisition import sweep_around_focus
from service.engine.sweep.exposure_file import SweepFile
from service.engine.sweep.request import SweepRequest
from service.engine.sweep.restore import left_as_found
from service.engine.sweep.stage_job import StageJob
from service.files.job import Job
from service.files.jobs import Jobs
from service.files.outputs import write_json
from service.files.sweep import SWEEP_FILES, clear_sweep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SweepRun"]


class SweepRun(StageJob):
    """One sweep, from the search for focus until the microscope is put back; the state is ``"queued"`` after success.

    Parameters
    ----------
    job, jobs, microscope, ended
        As of `StageJob`.
    axis : DepthAxis
    request : SweepRequest
    pixel_size_um : float
        Camera pixel at the sample.
    free_space_floor_gb : float
        Disk space that the sweep leaves free.
    """

    kind = "calibration"
    noun = "Calibration"
    success = "swept"

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
        longest_step_s = request.settle_s + 3 * (request.exposure_s or 0.0)
        super().__init__("sweep", job, jobs, microscope, longest_step_s, ended)
        self._axis = axis
        self._request = request
        self._pixel_size_um = pixel_size_um
        self._exposures = SweepFile(jobs.folder(job.id) / SWEEP_FILES[0], free_space_floor_gb)

    def acquire(self) -> None:
        """Sweep, and describe the exposures for the worker."""
        with left_as_found(self._microscope, self.check_halt), self._exposures:
            reached_um, focus_um = sweep_around_focus(
                self._microscope, self._axis, self._request, self._exposures, self.report
            )
        self._describe(reached_um)
        self.log(f"{len(reached_um)} planes taken, focus near {focus_um:.1f} µm (stage).")
        self.finding = "has its sweep and is computed"
        self.state = "queued"

    def write_down(self) -> None:
        """Write the outcome into the job; the files of a failed sweep are removed first, which makes room."""
        if self.state != "queued":
            clear_sweep(self._jobs.folder(self.id))
        self.log_fault()
        self._jobs.move(self.id, self.state, step="compute" if self.state == "queued" else "sweep", error=self.fault)

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
