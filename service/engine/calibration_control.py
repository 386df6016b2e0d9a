"""Calibrations on the live microscope: checks the request and starts the sweep."""

from __future__ import annotations

from typing import Any

from service.engine.lease import Lease
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.stage_jobs import StageJobs
from service.engine.sweep.geometry import axis_of, pixel_size_of
from service.engine.sweep.request import SweepRequest
from service.engine.sweep.run import SweepRun
from service.files.camera_choice import camera_of
from service.protocol.errors import EngineRefusal
from service.settings import Settings

__all__ = ["CalibrationControl"]


class CalibrationControl:
    """Starts sweeps on the microscope of the lease.

    Parameters
    ----------
    settings : Settings
    lease : Lease
    microscope : MicroscopeSlot
    stage_jobs : StageJobs
    """

    def __init__(self, settings: Settings, lease: Lease, microscope: MicroscopeSlot, stage_jobs: StageJobs) -> None:
        self._settings = settings
        self._lease = lease
        self._microscope = microscope
        self._stage_jobs = stage_jobs

    def start(
        self,
        name: str,
        z_range_um: list[float],
        z_step_um: float,
        repeats: int = 2,
        settle_s: float = 0.05,
        exposure_s: float | None = None,
        pixel_size_um: float | None = None,
        camera: dict[str, Any] | str | None = None,
        object_diameter_um: float | None = None,
        bead_diameter_um: float | None = None,
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
            "object_diameter_um": object_diameter_um,
            "bead_diameter_um": bead_diameter_um,
        }
        self._stage_jobs.require_known()
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
        jobs, ended = self._stage_jobs.jobs, self._stage_jobs.ended
        job = jobs.create("calibrate", name, asked, step="sweep", state="running")
        self._stage_jobs.begin(SweepRun(job, jobs, microscope, axis, request, pixel_um, floor_gb, ended))
        return job.id
