"""Opening the microscope that the settings name, with its camera set: for the engine, and for a sweep without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hardware.microscope import CameraSettings, Roi
from hardware.opening import open_microscope

if TYPE_CHECKING:
    from hardware.limits import LimitedMicroscope
    from hardware.simulated import Detector, Scene
    from service.settings import Settings, SimulatedPart

__all__ = ["open_instrument"]


def open_instrument(settings: Settings) -> LimitedMicroscope:
    """Open the microscope of the settings and set its camera.

    Raises
    ------
    MicroscopeError
        Whatever the driver refuses.
    """
    part, camera = settings.microscope, settings.camera
    scene, detector = _simulated(part.simulated) if part.driver == "simulated" else (None, None)
    microscope = open_microscope(part.model_dump(), scene=scene, detector=detector)
    if part.driver != "replay":  # a movie has the settings that it was taken with
        roi = None if camera.roi is None else Roi(*camera.roi)
        try:
            microscope.apply_camera(CameraSettings(camera.exposure_s, roi, camera.binning))
        except BaseException:
            microscope.close()
            raise
    return microscope


def _simulated(part: SimulatedPart) -> tuple[Scene, Detector]:
    # Only here: a real microscope needs no optics to be computed.
    from models.scene import reference_camera, reference_scene, slide_scene

    scene = slide_scene if part.sample == "slide" else reference_scene
    return scene((part.height, part.width), part.emitters, part.seed), reference_camera()
