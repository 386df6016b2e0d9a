"""Tracking in the frames of one camera with one model: the same code for live and offline use.

`ImageFilter` works with photo-electrons and with positions as they appear in
the image. Here camera counts, static light and candidates at true positions
come in, and tracks and localizations at true positions go out. The map of the
field changes slowly, so velocities and sigmas are given as they appear.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from models.background.frame_light import FrameLight
from models.camera import CameraModel
from models.field import FieldMap
from models.fit.fitted_image import FitOptics
from models.fit.missed import MissedEmitters
from models.tables import Localizations, Tracks
from models.tracking.image_filter import FULL, Effort, ImageFilter
from models.tracking.links import Links
from models.tracking.settings import TrackerSettings
from models.tracking.state import TrackState

__all__ = ["ImageModel", "ImageTracker", "kept", "one_thread"]


@dataclass(frozen=True, slots=True)
class ImageModel:
    """What the image filter needs of a model and its camera; made once.

    Attributes
    ----------
    optics : FitOptics
    camera : CameraModel
    field : FieldMap or None
    depths_um : (low, high)
        Apparent depths that the model reports.
    missed : MissedEmitters
        Its search of the residual.
    """

    optics: FitOptics
    camera: CameraModel
    field: FieldMap | None
    depths_um: tuple[float, float]
    missed: MissedEmitters

    def apparent_px(self, tracks: Tracks) -> NDArray[np.float64]:
        """Apparent places of points at true positions, shape (N, 3): x and y in pixels, z in µm."""
        x_um, y_um, z_um = tracks.x_um, tracks.y_um, tracks.z_um
        if self.field is not None:
            x_um, y_um, z_um = self.field.apparent_places(x_um, y_um, z_um)
        pixel_um = self.optics.psf.pixel_size_um
        return np.column_stack([x_um / pixel_um, y_um / pixel_um, z_um])

    def tracker(self, settings: TrackerSettings | None = None, links: Links | None = None) -> ImageTracker:
        """A new tracker; see `Tracker`."""
        return ImageTracker(self, settings, links)


class ImageTracker:
    """Tracks emitters in camera frames, with a fit of each image or, where time is short, without.

    Parameters
    ----------
    model : ImageModel or None
        None: frames are not fitted until a model is swapped in.
    settings : TrackerSettings, optional
    links : Links, optional
        See `Tracker`.

    Attributes
    ----------
    filter : ImageFilter
        In apparent coordinates.
    """

    def __init__(
        self, model: ImageModel | None, settings: TrackerSettings | None = None, links: Links | None = None
    ) -> None:
        self.filter = ImageFilter(settings, links)
        self.swap(model)

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even an unconfirmed one."""
        return self.filter.idle

    @property
    def fits(self) -> bool:
        """Whether the present model can be fitted."""
        return self._model is not None

    def swap(self, model: ImageModel | None) -> None:
        """Continue with another model, or with one without a PSF: all live tracks end."""
        self._model: ImageModel | None = model
        self.filter.end_all()
        if model is not None:
            self.filter.swap(model.optics, model.depths_um, model.missed)

    def end_all(self) -> None:
        """End every live track; see `TracksLocalizations.end_all`."""
        self.filter.end_all()

    def emitters(self, found: Localizations) -> int:
        """Expected number of emitters in the fit of the next frame, with its candidates."""
        return max(len(self.filter), len(found))

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the candidates of one frame without its image; see `TracksLocalizations.step`."""
        return self._true_state(self.filter.step(t_s, frame, self._apparent(found)))

    def step_image(
        self,
        t_s: float,
        frame: int,
        found: Localizations,
        counts: NDArray[np.uint16],
        light: FrameLight | None = None,
        effort: Effort | None = FULL,
    ) -> tuple[TrackState, Localizations]:
        """Take one frame.

        Parameters
        ----------
        t_s, frame, found
            As those of `step`.
        counts : ndarray of uint16, shape (H, W)
            Camera counts, static light included.
        light : FrameLight, optional
            Static light of the frame.
        effort : Effort or None
            None: without a fit; the localizations are the candidates then.

        Returns
        -------
        state : TrackState
            Its `localization` are rows of the following table.
        localizations : Localizations
            Their background is that of the whole frame: it contains the median of the static light.

        Raises
        ------
        DataError
            As `step`.
        """
        model = self._model
        if effort is None or model is None:
            return self.step(t_s, frame, found), found
        backdrop, doubt_e2 = (None, 0.0) if light is None else (light.backdrop_e, light.light.doubt_e2)
        electrons = model.camera.to_electrons(counts)
        state, table = self.filter.step_image(t_s, frame, self._apparent(found), electrons, backdrop, effort, doubt_e2)
        if light is not None:
            table = replace(table, background=table.background + light.backdrop_level_e)
        return self._true_state(state), table if model.field is None else model.field.true(table)

    def _apparent(self, found: Localizations) -> Localizations:
        field = None if self._model is None else self._model.field
        return found if field is None else field.apparent(found)

    def _true_state(self, state: TrackState) -> TrackState:
        field = None if self._model is None else self._model.field
        if field is None:
            return state
        x_um, y_um, z_um = field.true_places(state.x_um, state.y_um, state.z_um)
        its = state.filtered
        if its is not None:
            shift = np.stack([x_um - state.x_um, y_um - state.y_um, z_um - state.z_um])
            moments, gaussians = its.moments.copy(), its.gaussians.copy()
            moments[0] += shift
            gaussians[0] += shift
            its = replace(its, moments=moments, gaussians=gaussians)
        return replace(state, x_um=x_um, y_um=y_um, z_um=z_um, filtered=its)


def one_thread() -> AbstractContextManager[Any]:
    """Context manager: linear algebra in one thread, which is many times faster for matrices of these sizes."""
    limited: AbstractContextManager[Any] = ThreadpoolController().select(user_api="blas").limit(limits=1)
    return limited


def kept(candidates: Localizations, state: TrackState, threshold: float) -> tuple[Localizations, TrackState]:
    """Localizations from a threshold on and those of shown tracks, and the state with their rows."""
    chosen = candidates.probability >= threshold
    seen = state.localization >= 0
    chosen[state.localization[seen]] = True
    if chosen.all():
        return candidates, state
    rows = np.where(seen, (np.cumsum(chosen) - 1)[state.localization], -1)
    return candidates.select(chosen), replace(state, localization=rows)
