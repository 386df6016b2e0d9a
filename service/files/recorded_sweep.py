"""A sweep in a file, with the lengths that file and user state, as the calibration takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hardware.agreement import agreed_pixel_size, agreed_step
from hardware.sweeps import open_sweep
from models.calibration.sweep import Sweep

__all__ = ["open_recorded_sweep"]


def open_recorded_sweep(
    path: Path,
    note: Callable[[str], None],
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    z_start_um: float | None = None,
) -> Sweep:
    """Read a sweep from a file.

    Parameters
    ----------
    path : Path
        TIFF, OME-Zarr, NDTiff, ND2, CZI, LIF, or a folder of images.
    note : callable
        Called with each remark for the user, one line each.
    pixel_size_um, z_step_um : float, optional
        Camera pixel at the sample and step of the sweep, µm; those of the file by default.
    z_start_um : float, optional
        Sweep coordinate of the first plane, µm; 0 by default.

    Raises
    ------
    MicroscopeError
        When the file cannot be read, or states another pixel size or step than the arguments, or none.
    DataError
        When planes or lengths are not those of a sweep.
    """
    recorded = open_sweep(path)
    for text in recorded.notes:
        note(text)
    pixel, of_pixel = agreed_pixel_size(recorded.pixel_size_um, pixel_size_um, None)
    step, of_step = agreed_step(recorded, z_step_um)
    for remark in (of_pixel, of_step):
        if remark:
            note(remark)
    return Sweep.from_steps(
        recorded.planes, pixel_size_um=pixel, z_step_um=step, z_start_um=z_start_um, bit_depth=recorded.bit_depth
    )
