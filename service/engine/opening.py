"""Opens the microscope of the settings and sets its camera: for the engine, and for a sweep from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog
from numpy.typing import NDArray

from hardware.driver import ComputedInputs
from hardware.microscope import CameraSettings, Roi, StageLimits, XYLimits
from hardware.opening import open_microscope

if TYPE_CHECKING:
    from hardware.limits import LimitedMicroscope
    from hardware.simulated_settings import SimulatedSettings
    from service.settings import MicroscopePart, Settings

__all__ = ["open_instrument"]

_log = structlog.get_logger(__name__)


def open_instrument(settings: Settings) -> LimitedMicroscope:
    """Open the microscope of the settings and set its camera.

    Raises
    ------
    MicroscopeError
        Whatever the driver refuses.
    DataError
        When the table of truth of a replayed movie cannot be read.
    """
    part, camera = settings.microscope, settings.camera
    limits = StageLimits(part.stage_low_um, part.stage_high_um, part.stage_max_step_um)
    inputs = ComputedInputs()
    if part.driver == "simulated":
        inputs = _simulated(part.simulated)
    elif part.driver == "replay" and part.replay.truth is not None:
        inputs = ComputedInputs(truth=_truth_by_frame(part.replay.truth))
    further = {
        label: StageLimits(drive.low_um, drive.high_um, drive.max_step_um) for label, drive in part.focus_drives.items()
    }
    microscope = open_microscope(
        part.driver,
        part.driver_settings,
        limits=limits,
        xy_limits=_xy_limits(part),
        further_limits=further,
        inputs=inputs,
    )
    for text in microscope.description.notes:
        _log.warning("microscope_note", text=text)
    if part.driver != "replay":  # a movie has the settings that it was taken with
        roi = None if camera.roi is None else Roi(*camera.roi)
        try:
            microscope.apply_camera(CameraSettings(camera.exposure_s, roi, camera.binning))
        except BaseException:
            microscope.close()
            raise
    return microscope


def _xy_limits(part: MicroscopePart) -> XYLimits | None:
    if part.xy_low_um is None or part.xy_high_um is None:
        return None
    x, y = (StageLimits(*ends, part.xy_max_step_um) for ends in zip(part.xy_low_um, part.xy_high_um, strict=True))
    return XYLimits(x, y)


def _simulated(part: SimulatedSettings) -> ComputedInputs:
    # Imported here, because a real microscope needs no computed optics.
    from models.scene import reference_camera, reference_scene, slide_scene

    scene = slide_scene if part.sample == "slide" else reference_scene
    return ComputedInputs(scene((part.height, part.width), part.emitters, part.seed), reference_camera())


def _truth_by_frame(path: Path) -> dict[int, NDArray[np.float64]]:
    """A table of truth in the form for the replay: frame to rows of id, x_um, y_um, z_um."""
    from models.table_files import read_table
    from models.tables import Truth

    table = read_table(path, Truth, lambda remark: _log.warning("truth_table", remark=remark))
    rows = np.column_stack([table.track_id, table.x_um, table.y_um, table.z_um])
    order = np.argsort(table.frame, kind="stable")
    frames, starts = np.unique(table.frame[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(rows[order], starts[1:]), strict=True))
