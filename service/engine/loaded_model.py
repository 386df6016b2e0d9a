"""A model in memory: loading, warming up, and the check that it fits the microscope."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hardware.microscope import CameraSettings, MicroscopeDescription
from models.localization import Localizer
from models.model_card import ModelCard
from models.tracking.compilation import rehearse
from models.weights import reference_model
from service.analysis.frame_localizer import LocalizesFrames
from service.engine.fit_time import EFFORTS, FitCost
from service.engine.localizer_process import LocalizerProcess
from service.model_fit import ModelOptics, PresentOptics, misfits
from service.settings import Settings

__all__ = ["LoadedModel", "check_fit", "load_model", "prepare", "warm_up"]

_REHEARSED_EMITTERS = 16


@dataclass(slots=True)
class LoadedModel:
    """Localizer of a model and what the engine derives from it.

    Attributes
    ----------
    localizer : Localizer
    folder : Path
        Of the model.
    fit_cost : FitCost or None
        Time of a fit, measured by `prepare`; None before that, and where the model has no PSF.
    process : LocalizerProcess or None
        Localizes in a process of its own; None where it is not used.
    """

    localizer: Localizer
    folder: Path
    fit_cost: FitCost | None = None
    process: LocalizerProcess | None = None

    @property
    def model(self) -> ModelCard:
        """Card of the model."""
        return self.localizer.card

    @property
    def for_run(self) -> LocalizesFrames:
        """What localizes the frames of a run."""
        return self.process or self.localizer


def prepare(loaded: LoadedModel, shape: tuple[int, int], settings: Settings, *, fits: bool) -> None:
    """Make a model ready for frames (H, W): process, kernels, memory, fit.

    Raises
    ------
    EngineRefusal
        When the process of the network does not start.
    """
    localizer, engine = loaded.localizer, settings.engine
    if engine.network_process and localizer.device.type == "cpu" and localizer.finds_candidates:
        process = loaded.process
        if process is None or not process.is_alive or (process.shape, process.batch) != (shape, engine.batch):
            load = partial(Localizer.load, loaded.folder, device="cpu", precision=engine.precision)
            loaded.process = LocalizerProcess(localizer, load, shape, engine.batch)
        localizer.prepare_light(shape)
    else:
        localizer.warm_up(shape, engine.batch)
    if fits:
        _rehearse_fit(loaded, shape)


def warm_up(
    loaded: LoadedModel, shape: tuple[int, int], period_s: float, settings: Settings, *, fits: bool = True
) -> None:
    """Make a model ready for frames (H, W) that come every `period_s`: as `prepare`, and the threads of the network.

    A core is left to the fit, which has a thread of its own, where the network keeps up without.

    Raises
    ------
    EngineRefusal
        As `prepare`.
    """
    prepare(loaded, shape, settings, fits=fits)
    localizer, count = loaded.localizer, settings.engine.torch_threads
    if localizer.device.type != "cpu":
        return
    cores = os.cpu_count() or 1
    fitting = int(cores > 1 and fits and localizer.image_model is not None)
    if loaded.process is not None:
        if count is None:
            loaded.process.choose_threads(period_s, cores, fitting)
        else:
            loaded.process.use_threads(count)
    elif count is None:
        localizer.choose_threads(shape, period_s, cores, fitting)


def _rehearse_fit(loaded: LoadedModel, shape: tuple[int, int]) -> None:
    """Compile the fit of frames (H, W) and measure its time, where the model has a PSF."""
    images = loaded.localizer.image_model
    if images is not None:
        measured_s = {
            degree: rehearse(images, shape, effort, _REHEARSED_EMITTERS) for degree, effort in EFFORTS.items()
        }
        alone_s = rehearse(images, shape, EFFORTS["steps"], 1)
        loaded.fit_cost = FitCost.of(measured_s, _REHEARSED_EMITTERS, alone_s)


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
    return LoadedModel(Localizer.load(folder, device=engine.device, precision=engine.precision), folder)


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
