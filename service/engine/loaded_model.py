"""A model in memory: loading, warming up, and the check that it fits the microscope."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hardware.microscope import CameraSettings, MicroscopeDescription
from models.localization import Localizer
from models.model_card import ModelCard
from models.tracking.compilation import rehearse
from models.weights import reference_model
from service.engine.fit_time import MEASURED_DEGREES
from service.model_fit import ModelOptics, PresentOptics, misfits
from service.settings import Settings

__all__ = ["LoadedModel", "check_fit", "load_model", "rehearse_fit", "warm_up"]


@dataclass(slots=True)
class LoadedModel:
    """Localizer of a model and what the engine derives from it.

    Attributes
    ----------
    localizer : Localizer
    fit_cost_s : dict of str to float or None
        Time of a fit by degree, measured by `warm_up`; None before that, and where the model has no PSF.
    """

    localizer: Localizer
    fit_cost_s: dict[str, float] | None = None

    @property
    def model(self) -> ModelCard:
        """Card of the model."""
        return self.localizer.card


def warm_up(
    loaded: LoadedModel, shape: tuple[int, int], period_s: float, settings: Settings, *, fits: bool = True
) -> None:
    """Make a model ready for frames (H, W) that come every `period_s`: kernels, memory, threads, fit."""
    localizer, engine = loaded.localizer, settings.engine
    localizer.warm_up(shape, engine.batch)
    if engine.torch_threads is None and localizer.device.type == "cpu":
        localizer.choose_threads(shape, period_s, os.cpu_count() or 1)
    if fits:
        rehearse_fit(loaded, shape)


def rehearse_fit(loaded: LoadedModel, shape: tuple[int, int]) -> None:
    """Compile the fit of frames (H, W) and measure its time, where the model has a PSF."""
    images = loaded.localizer.image_model
    if images is not None:
        loaded.fit_cost_s = rehearse(images, shape, MEASURED_DEGREES)


def load_model(folder: Path | None, settings: Settings) -> LoadedModel:
    """Load a model's weights.

    Parameters
    ----------
    folder : Path or None
        Of the model; None: that of the settings, or else the shipped live model.

    Raises
    ------
    DataError
        When it is missing or damaged.
    """
    folder = folder or settings.model or reference_model("live")
    engine = settings.engine
    return LoadedModel(Localizer.load(folder, device=engine.device, precision=engine.precision))


def check_fit(localizer: Localizer, description: MicroscopeDescription, camera: CameraSettings) -> None:
    """Refuse to track with a model that was made for other optics.

    Raises
    ------
    DataError
        When the pixel at the sample differs by more than 2 %, or the counts are not those of the model's camera.
    """
    card, pixel_um = localizer.card, description.pixel_size_um
    present = PresentOptics(None if pixel_um is None else pixel_um * camera.binning, description.bit_depth)
    for misfit in misfits(ModelOptics(card.id, card.pixel_size_um, localizer.camera.bit_depth), present):
        raise misfit
