"""The tracks of a tracker while it runs: motion, existence, history and light of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.tracking.motion_models import Gaussians

__all__ = ["Pool"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(slots=True)
class Pool:
    """All tracks, confirmed or not; number 0 is not yet confirmed.

    Few arrays with the tracks along the last axis: choosing and appending tracks costs one operation for each array.
    """

    gaussians: Gaussians
    weights: F64
    existence: F64
    """Shape (2, N): log odds that the track exists; ambiguity of its last assignment."""

    history: I64
    """Shape (6, N): number of the birth, track id, first frame, last frame seen, localizations, row of the last one."""

    light: F64
    """Shape (2, N): photons, and their variance."""

    @classmethod
    def begin(
        cls, gaussians: Gaussians, weights: F64, log_odds: F64, light: F64, births: I64, rows: I64, frame: int
    ) -> Self:
        """Tracks with one localization each, given by its row among those of the frame."""
        history = np.zeros((6, len(births)), np.int64)
        history[0], history[2:4], history[4], history[5] = births, frame, 1, rows
        return cls(gaussians, weights, np.stack([log_odds, np.zeros(len(births))]), history, light)

    @classmethod
    def empty(cls, models: int) -> Self:
        """No tracks."""
        nothing = np.zeros(0, np.int64)
        return cls.begin(
            np.zeros((5, models, 3, 0)), np.zeros((models, 0)), np.zeros(0), np.zeros((2, 0)), nothing, nothing, 0
        )

    @property
    def log_odds(self) -> F64:
        """Log odds of existence, shape (N,); a view."""
        row: F64 = self.existence[0]
        return row

    @property
    def ambiguity(self) -> F64:
        """Ambiguity of the last assignment, shape (N,); a view."""
        row: F64 = self.existence[1]
        return row

    @property
    def birth(self) -> I64:
        """Number of the birth, shape (N,); a view."""
        row: I64 = self.history[0]
        return row

    @property
    def track_id(self) -> I64:
        """Number of the track, 0 when not confirmed, shape (N,); a view."""
        row: I64 = self.history[1]
        return row

    @property
    def first_frame(self) -> I64:
        """Frame of the first localization, shape (N,); a view."""
        row: I64 = self.history[2]
        return row

    @property
    def last_frame(self) -> I64:
        """Frame of the last localization, shape (N,); a view."""
        row: I64 = self.history[3]
        return row

    @property
    def hits(self) -> I64:
        """Number of localizations, shape (N,); a view."""
        row: I64 = self.history[4]
        return row

    @property
    def localization(self) -> I64:
        """Row of the localization in the frame, -1 when unseen, shape (N,); a view."""
        row: I64 = self.history[5]
        return row

    def select(self, rows: NDArray[Any]) -> Pool:
        """The tracks of a mask or an index array."""
        return Pool(
            self.gaussians[..., rows],
            self.weights[:, rows],
            self.existence[:, rows],
            self.history[:, rows],
            self.light[:, rows],
        )

    def append(self, other: Pool) -> Pool:
        """These tracks and the others."""
        return Pool(
            np.concatenate([self.gaussians, other.gaussians], axis=3),
            np.concatenate([self.weights, other.weights], axis=1),
            np.concatenate([self.existence, other.existence], axis=1),
            np.concatenate([self.history, other.history], axis=1),
            np.concatenate([self.light, other.light], axis=1),
        )

    def __len__(self) -> int:
        return len(self.track_id)
