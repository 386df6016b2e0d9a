"""A batch of results, which the engine writes to the store in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.errors import DataError
from models.tables import Localizations, TrackEvents, Tracks
from service.store.frames import FrameTimes

__all__ = ["ResultBatch"]


@dataclass(frozen=True, slots=True)
class ResultBatch:
    """Localizations of consecutive analysed frames, and track points that were ready with them.

    Attributes
    ----------
    localizations, tracks : Localizations, Tracks
        Either may be empty. Track points may be of earlier frames.
    t_s : (float, float)
        Times of the first and last frame, s from the start of the run.
    frames : (int, int) or None
        Numbers of the first and last frame; None: those of `analysed`, or else of the rows.
    analysed : FrameTimes or None
        All frames of the batch, in their order; needed where frames may be analysed later.
    model_id : str or None
        The model that localized; None: the run's.
    events : TrackEvents
        Merges and splits that are certain with these frames.
    """

    localizations: Localizations
    tracks: Tracks
    t_s: tuple[float, float]
    frames: tuple[int, int] | None = None
    analysed: FrameTimes | None = None
    model_id: str | None = None
    events: TrackEvents = field(default_factory=TrackEvents.empty)

    def frame_range(self) -> tuple[int, int]:
        """Numbers of the first and last frame.

        Raises
        ------
        DataError
            When the batch is empty and has neither `frames` nor `analysed`.
        """
        if self.frames is not None:
            return self.frames
        if self.analysed is not None:
            return int(self.analysed.numbers[0]), int(self.analysed.numbers[-1])
        numbers = np.concatenate([self.localizations.frame, self.tracks.frame])
        if not len(numbers):
            raise DataError("A batch without rows does not state its frames.", "Give frames=(first, last).")
        return int(numbers.min()), int(numbers.max())
