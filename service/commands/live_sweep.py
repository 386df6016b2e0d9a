"""`bathyscope calibrate --live`: open the microscope of the settings, take a z-sweep, and close it."""

from __future__ import annotations

from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from models.calibration.depth_axis import DepthAxis
from models.calibration.sweep import Sweep
from models.errors import DataError
from service.commands.console import note, progress
from service.engine.opening import open_instrument
from service.engine.sweep.acquisition import sweep_around_focus
from service.engine.sweep.geometry import axis_of, pixel_size_of
from service.engine.sweep.request import SweepRequest, SweepSize
from service.engine.sweep.restore import left_as_found
from service.settings import load_settings

__all__ = ["take_sweep"]


def take_sweep(config: Path | None, data: Path | None, request: SweepRequest) -> tuple[Sweep, DepthAxis]:
    """Open the microscope of the settings, take a sweep, and restore the state of the microscope.

    Parameters
    ----------
    config, data : Path or None
        Settings file, and a data directory that replaces the one of the settings.
    request : SweepRequest

    Returns
    -------
    sweep : Sweep
        In stage coordinates.
    axis : DepthAxis
        How stage coordinates become depth.

    Raises
    ------
    DataError
        When a service uses the data directory, or a needed setting is missing.
    MicroscopeError
        When the microscope refuses a command.
    """
    request.check()
    settings = load_settings(config, {"data_dir": data})
    if settings.microscope.driver == "replay":
        raise DataError(
            "The driver is replay, and a movie has no focus drive.", "Calibrate from its sweep file instead."
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DataError(
            f"A running service uses the data directory {settings.data_dir}, and with it the microscope.",
            "Stop the service, or let it calibrate: POST /api/v1/calibrations.",
        ) from None
    try:
        microscope = open_instrument(settings)
        try:
            description = microscope.description
            axis = axis_of(settings.microscope, description)
            pixel = pixel_size_of(microscope, request.pixel_size_um)
            request.size(axis, description.frame_shape(microscope.camera_settings)).check_memory(exposures_too=True)
            exposures = _InMemory()
            with left_as_found(microscope), progress("Sweeping", 1.0) as advance:
                stage_um, focus = sweep_around_focus(microscope, axis, request, exposures, advance)
            note(f"Focus near {focus:.1f} µm (stage).")
            return Sweep(exposures.planes, stage_um, pixel, description.bit_depth), axis
        finally:
            microscope.close()
    finally:
        lock.release()


class _InMemory:
    """Exposures of a sweep in memory, shape (Z, R, H, W)."""

    def begin(self, size: SweepSize) -> None:
        self.planes = np.empty((size.planes, size.repeats, *size.shape), np.uint16)
        self._flat = self.planes.reshape(-1, *size.shape)
        self._next = 0

    def add(self, pixels: NDArray[np.uint16]) -> None:
        self._flat[self._next] = pixels
        self._next += 1
