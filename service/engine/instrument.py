"""What the settings name, as objects: the microscope and the model in front of which the engine works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, Microscope, Roi
from hardware.opening import open_microscope
from models.errors import DataError
from models.localization import Localizer
from models.model import Model
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.settings import Settings

__all__ = ["LoadedModel", "check_fit", "frame_shape", "load_model", "open_instrument"]

_PIXEL_TOLERANCE = 0.02
"""A pixel size that differs by two percent shifts depth by as much: more is another microscope, less is rounding."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory and where it came from."""

    localizer: Localizer
    folder: Path

    @property
    def model(self) -> Model:
        """What it is."""
        return self.localizer.model


def load_model(folder: Path | None, settings: Settings) -> LoadedModel:
    """Load a model's weights.

    Parameters
    ----------
    folder : Path or None
        Where it is; None: that of the settings, or else the shipped one.

    Raises
    ------
    DataError
        When it is missing or damaged.
    """
    folder = folder or settings.model or reference_model()
    engine = settings.engine
    return LoadedModel(Localizer.load(folder, device=engine.device, precision=engine.precision), folder)


def open_instrument(settings: Settings) -> LimitedMicroscope:
    """Open the microscope of the settings and set its camera.

    Raises
    ------
    MicroscopeError
        Whatever the driver refuses.
    """
    scene = detector = None
    simulated = settings.microscope.simulated
    if settings.microscope.driver == "simulated":
        scene = reference_scene((simulated.height, simulated.width), simulated.emitters, simulated.seed)
        detector = reference_camera()
    microscope = open_microscope(settings.microscope.model_dump(), scene=scene, detector=detector)
    camera = settings.camera
    if settings.microscope.driver != "replay":  # a movie has the settings that it was taken with
        roi = None if camera.roi is None else Roi(*camera.roi)
        microscope.apply_camera(CameraSettings(camera.exposure_s, roi, camera.binning))
    return microscope


def frame_shape(microscope: Microscope) -> tuple[int, int]:
    """Rows and columns of the frames as the camera is set."""
    camera = microscope.camera_settings
    if camera.roi is not None:
        return camera.roi.height, camera.roi.width
    rows, columns = microscope.description.sensor_shape
    return rows // camera.binning, columns // camera.binning


def check_fit(localizer: Localizer, microscope: Microscope) -> None:
    """Refuse to track with a model that was made for other optics.

    Raises
    ------
    DataError
        When the pixel at the sample differs by more than 2 %, or the counts are not those of the model's camera.
    """
    description, model = microscope.description, localizer.model
    if description.pixel_size_um is not None:
        pixel_um = description.pixel_size_um * microscope.camera_settings.binning
        if abs(pixel_um / model.pixel_size_um - 1) > _PIXEL_TOLERANCE:
            raise DataError(
                f"The camera has {pixel_um:g} µm per pixel at the sample; the model {model.id} "
                f"was made for {model.pixel_size_um:g} µm.",
                "Calibrate and train at this objective and binning, or choose another model.",
            )
    localizer.check_bit_depth(description.bit_depth)
