"""Compile the kernels of the tracker before the first frame comes.

numba compiles a kernel when it is first called, which takes up to 2 s for each,
and loads it from its cache in later processes. Neither may happen while frames
wait.
"""

from __future__ import annotations

import numpy as np

from models.tables import Localizations
from models.tracking.tracker import Tracker

__all__ = ["compile_tracker"]

_FRAMES = 12
_POINTS = 6
"""Enough that the tracks are sure of their velocity, and that a new track takes it from its neighbours."""


def compile_tracker() -> None:
    """Track a few points that move together, and one that appears beside them, so that every kernel is called."""
    tracker = Tracker()
    for frame in range(_FRAMES):
        places = np.column_stack([np.arange(_POINTS) * 5.0 + 0.5 * frame, np.zeros(_POINTS), np.full(_POINTS, 20.0)])
        if frame == _FRAMES - 1:
            places = np.vstack([places, [2.5, 8.0, 20.0]])
        columns = {name: np.ones(len(places)) for name in Localizations.names()}
        columns |= dict(zip(("x_um", "y_um", "z_um"), places.T, strict=True))
        columns |= {f"sigma_{axis}_um": np.full(len(places), 0.2) for axis in "xyz"}
        tracker.step(frame / 100, frame, Localizations.from_columns(columns))
