"""Light and exposure for the images of a sweep. To be used within `left_as_found`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["prepare_exposures"]


def prepare_exposures(microscope: Microscope, exposure_s: float | None) -> None:
    """Open a shutter that does not follow the camera, and set the exposure; None leaves it as it is.

    Raises
    ------
    MicroscopeError
        Whatever the microscope refuses.
    """
    light = microscope.light
    if light.shutter_open is False and not light.automatic:
        microscope.set_light(shutter_open=True)
    if exposure_s is not None:
        microscope.apply_camera(replace(microscope.camera_settings, exposure_s=exposure_s))
