"""The active model of the engine: loading, warming up, and swapping beside a run.

Another model is loaded and warmed up beside the active one, which can take
seconds; only the swap itself holds the lock of the lease. A run continues with
the new model from its next batch of frames on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hardware.microscope import CameraSettings, Microscope
from models.errors import DataError
from service.analysis.frame_localizer import LocalizesFrames
from service.engine.analysis_batch import AnalysisModel
from service.engine.event_log import EventLog
from service.engine.lease import Lease
from service.engine.microscope_slot import MicroscopeSlot
from service.files.library import Library
from service.protocol.errors import EngineRefusal
from service.settings import Settings
from service.store.errors import UnknownItem

if TYPE_CHECKING:
    from service.engine.loaded_model import LoadedModel

__all__ = ["ModelSlot"]


class ModelSlot:
    """Holds the active model.

    The modules of the network take seconds to import, so they are imported by the methods that need them: the command
    sockets of the engine are open meanwhile.

    Parameters
    ----------
    settings : Settings
    library : Library
    lease : Lease
    microscope : MicroscopeSlot
    events : EventLog

    Attributes
    ----------
    active : LoadedModel or None
        None before the first one is loaded.
    """

    def __init__(
        self, settings: Settings, library: Library, lease: Lease, microscope: MicroscopeSlot, events: EventLog
    ) -> None:
        self.active: LoadedModel | None = None
        self._settings = settings
        self._library = library
        self._lease = lease
        self._microscope = microscope
        self._events = events
        self._activation = threading.Lock()  # held by the one activation that is on, while it loads its model

    # ---- loading ----

    def load(self) -> LoadedModel:
        """Load the active model, or else that of the settings; return the one in memory when it is there.

        Raises
        ------
        DataError
            When it is missing or damaged.
        """
        if self.active is None:
            self.active = self._load_active()
        return self.active

    def _load_active(self) -> LoadedModel:
        from service.engine import loaded_model

        try:
            folder = self._library.active_folder()
            if folder is not None:
                return loaded_model.load_model(folder, self._settings)
        except (DataError, UnknownItem) as error:
            self._events.add(
                "model_lost", f"The active model cannot be loaded, so that of the settings is used: {error}"
            )
        return loaded_model.load_model(None, self._settings)

    def load_beside(self, model_id: str) -> LoadedModel:
        """Load a model of the library and warm it up for the microscope as it is set.

        Raises
        ------
        UnknownItem
            When there is no such model.
        DataError
            When it is damaged, or made for other optics.
        EngineRefusal
            While another command holds the microscope.
        """
        from service.engine import loaded_model

        loaded = loaded_model.load_model(self._library.models.folder(model_id), self._settings)
        with self._lease.held():
            microscope, camera = self._microscope.microscope, self._microscope.camera
        if microscope is not None and camera is not None:
            self.prepare(loaded, microscope, camera)
        return loaded

    def prepare(
        self, loaded: LoadedModel, microscope: Microscope, camera: CameraSettings, *, fits: bool | None = None
    ) -> None:
        """Warm a model up for the microscope.

        Parameters
        ----------
        loaded, microscope, camera
        fits : bool, optional
            Whether images are to be fitted; absent: as in the settings, or in the run that is on.

        Raises
        ------
        DataError
            When it is made for other optics, or has no network and images are not fitted.
        """
        from service.engine import loaded_model

        description = microscope.description
        loaded_model.check_fit(loaded.localizer, description, camera)
        shape, period_s = description.frame_shape(camera), self._microscope.frame_period_s
        if fits is None:
            run = self._lease.run
            fits = (self._settings.tracking if run is None else run.request.tracking).fits
        loaded.localizer.check_finds(fits=fits and loaded.localizer.image_model is not None)
        loaded_model.warm_up(loaded, shape, period_s, self._settings, fits=fits)

    def warm_up(self, microscope: Microscope) -> None:
        """Warm the active model up for a microscope that has just been opened; it may be made for other optics.

        Tracker and fit are compiled too, so that no run waits for them.
        """
        from models.tracking.compilation import compile_tracker
        from service.engine import loaded_model

        shape = microscope.description.frame_shape(microscope.camera_settings)
        loaded = self.load()
        loaded_model.prepare(loaded, shape, self._settings, fits=self._settings.tracking.fits)
        compile_tracker()

    # ---- use ----

    def for_analysis(self, loaded: LoadedModel) -> AnalysisModel:
        """A loaded model as a run uses it."""
        return AnalysisModel(loaded.for_run, loaded.model, loaded.fit_cost)

    def localizer_of(self, model_id: str) -> LocalizesFrames:
        """The localizer of the active model or of another one of the library.

        Raises
        ------
        UnknownItem, DataError
            When there is no such model, or it is damaged.
        """
        from service.engine import loaded_model

        loaded = self.active
        if loaded is None or loaded.model.id != model_id:
            loaded = loaded_model.load_model(self._library.models.folder(model_id), self._settings)
        return loaded.localizer

    def activate(self, model_id: str) -> None:
        """Load a model, warm it up, and make it the active one; a run continues with it.

        Raises
        ------
        EngineRefusal
            ``conflict`` while another model is being made active; ``unavailable`` while the microscope is opened.
        UnknownItem, DataError
            As `load_beside`, or when the choice cannot be written to disk; the active model stays then.
        """
        if not self._activation.acquire(blocking=False):
            raise EngineRefusal("conflict", "Another model is being made active.", "Wait a few seconds.")
        try:
            loaded = self.load_beside(model_id)
            with self._lease.held():
                run = self._lease.run
                # The steps that can fail come first: a model that is active in memory but not on disk would be lost
                # after a restart.
                for_run = None if run is None else self.for_analysis(loaded)
                self._library.activate(model_id)
                self.active = loaded
                if run is not None and for_run is not None:
                    run.swap_model(for_run)
            self._events.add("model_activated", f"Model {model_id} is active.", run_id=None if run is None else run.id)
        finally:
            self._activation.release()
