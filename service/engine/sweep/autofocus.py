"""Autofocus by software: images along the focus drive, and the position of the sharpest one, as a job."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hardware.microscope import Microscope
from service.engine.sweep.drive import approach, go
from service.engine.sweep.exposing import prepare_exposures
from service.engine.sweep.focus import FocusCurve, FocusSearch, search_focus
from service.engine.sweep.restore import left_as_found
from service.engine.sweep.stage_job import StageJob
from service.files.job import Job
from service.files.jobs import Jobs
from service.files.outputs import write_json

__all__ = ["AutofocusRun"]

_SEARCH_SHARE = 0.95
"""Approximate part of the whole time that the search takes; the rest is the way to the focus."""


class AutofocusRun(StageJob):
    """One autofocus; after success the drive stays in focus, and the state is ``"done"``.

    Light and camera settings are put back in every case, and the drive in every other case.

    Parameters
    ----------
    job, jobs, microscope, ended
        As of `StageJob`.
    search : FocusSearch
    settle_s : float
        Wait after each move, s.
    exposure_s : float or None
        Exposure of the images; None: as the camera is set.
    """

    kind = "focus"
    noun = "Autofocus"
    success = "found"

    def __init__(
        self,
        job: Job,
        jobs: Jobs,
        microscope: Microscope,
        search: FocusSearch,
        settle_s: float,
        exposure_s: float | None,
        ended: Callable[[AutofocusRun], None],
    ) -> None:
        super().__init__("autofocus", job, jobs, microscope, settle_s + 3 * (exposure_s or 0.0), ended)
        self._search = search
        self._settle_s = settle_s
        self._exposure_s = exposure_s
        self._start_um = 0.0
        self._curve: FocusCurve | None = None

    def acquire(self) -> None:
        """Search, and move to the focus."""
        microscope = self._microscope
        self._start_um = microscope.stage_um
        with left_as_found(microscope, self.check_halt) as place:
            prepare_exposures(microscope, self._exposure_s)
            curve = search_focus(
                microscope,
                self._settle_s,
                self._search,
                lambda done, step: self.report(_SEARCH_SHARE * done, step),
            )
            check = partial(self.report, _SEARCH_SHARE, "going to the focus")
            approach(microscope, curve.focus_um, check)
            go(microscope, curve.focus_um, check)
            place.stage_um = curve.focus_um
        self._curve = curve
        self.finding = f"found the focus at {curve.focus_um:.2f} µm"
        self.log(f"Focus at {curve.focus_um:.2f} µm (stage); it was at {self._start_um:.2f} µm.")
        self.state = "done"

    def write_down(self) -> None:
        """Write the outcome, and the curve of a search that succeeded, into the job."""
        result = None
        if self._curve is not None:
            result = f"jobs/{self.id}/result"
            write_json(
                self._jobs.folder(self.id) / "result" / "focus.json",
                {
                    "focus_um": self._curve.focus_um,
                    "start_um": self._start_um,
                    "focus_drive": self._microscope.description.focus_stage,
                    "contrast": self._curve.contrast,
                    "stage_um": self._curve.stage_um.tolist(),
                    "sharpness": self._curve.sharpness.tolist(),
                },
            )
        self.log_fault()
        self._jobs.move(self.id, self.state, step="sweep", result=result, error=self.fault)
