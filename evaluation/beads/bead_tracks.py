"""A sweep of beads as a movie of slowly changing depth, tracked in its images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.localization import Localizer
from models.tables import Localizations
from models.tracking.image_tracker import one_thread

__all__ = ["SweepTracker"]

_FPS = 100.0
"""The planes are taken as frames at this rate: steps of 1 µm are a velocity of 100 µm/s."""


class SweepTracker:
    """Stands in for `Localizer.localize`: the tracks after each plane, of a filter that knows the planes before.

    Planes come in order, each once.

    Raises
    ------
    DataError
        When the model has no PSF.
    """

    def __init__(self, localizer: Localizer) -> None:
        if localizer.image_model is None:
            raise DataError(f"The model {localizer.card.id} has no PSF.", "Restore its folder from a copy.")
        self._localizer = localizer
        self._tracker = localizer.image_model.tracker()

    def __call__(self, frames: NDArray[np.uint16], numbers: NDArray[np.int64]) -> Localizations:
        """Shown tracks in frames (B, H, W), as a table of localizations."""
        candidates = self._localizer.localize(frames, numbers, 0.05)
        with one_thread():
            return Localizations.concatenate(
                self._shown(int(number), counts, candidates.select(candidates.frame == number))
                for number, counts in zip(numbers, frames, strict=True)
            )

    def _shown(self, number: int, counts: NDArray[np.uint16], candidates: Localizations) -> Localizations:
        state, _ = self._tracker.step_image(number / _FPS, number, candidates, counts)
        columns = {name: getattr(state, name, np.full(len(state), np.nan)) for name in Localizations.names()}
        return Localizations.from_columns(columns | {"frame": np.full(len(state), number)})
