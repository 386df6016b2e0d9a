"""Compile the kernels of the tracker and of the image filter before the first frame comes.

numba compiles a kernel when it is first called, which takes up to 2 s for each,
and loads it from its cache in later processes. Neither may happen while frames
wait.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from models.tables import Localizations
from models.tracking.image_filter import Effort
from models.tracking.image_tracker import ImageModel, one_thread
from models.tracking.tracker import Tracker

__all__ = ["compile_tracker", "rehearse"]

_FRAMES = 12
_POINTS = 6
"""Enough that the tracks are sure of their velocity, and that a new track takes it from its neighbours."""

_REHEARSED_FRAMES = 6
_PHOTONS, _BACKGROUND_E = 5000.0, 20.0


def rehearse(images: ImageModel, shape: tuple[int, int], effort: Effort, emitters: int) -> float:
    """Fit frames of a size, so that everything is compiled and computed; median time of a frame, s.

    The frames have candidates in a grid, in noise.
    """
    camera, rng = images.camera, np.random.default_rng(1)
    electrons = rng.poisson(_BACKGROUND_E, (_REHEARSED_FRAMES, *shape))
    counts = np.rint(electrons / camera.electrons_per_adu + camera.offset_adu).astype(np.uint16)
    side = math.ceil(math.sqrt(emitters))
    grid = (np.indices((side, side)).reshape(2, -1)[:, :emitters] + 0.5) / side
    pixel_um = images.optics.psf.pixel_size_um
    depths_um = np.linspace(*images.depths_um, emitters + 2)[1:-1]
    places = np.column_stack([grid[1] * shape[1] * pixel_um, grid[0] * shape[0] * pixel_um, depths_um])
    taken_s = []
    with one_thread():
        tracker = images.tracker()
        for frame in range(_REHEARSED_FRAMES):
            found = _table(frame, places)
            begin_s = time.perf_counter()
            tracker.step_image(frame / 100, frame, found, counts[frame], None, effort)
            taken_s.append(time.perf_counter() - begin_s)
    return float(np.median(taken_s))


def compile_tracker() -> None:
    """Track a few points that move together, and one that appears beside them, so that every kernel is called."""
    tracker = Tracker()
    for frame in range(_FRAMES):
        places = np.column_stack([np.arange(_POINTS) * 5.0 + 0.5 * frame, np.zeros(_POINTS), np.full(_POINTS, 20.0)])
        if frame == _FRAMES - 1:
            places = np.vstack([places, [2.5, 8.0, 20.0]])
        tracker.step(frame / 100, frame, _table(frame, places))


def _table(frame: int, places: NDArray[np.float64]) -> Localizations:
    columns = {name: np.ones(len(places)) for name in Localizations.names()}
    columns |= dict(zip(("x_um", "y_um", "z_um"), places.T, strict=True))
    columns |= {f"sigma_{axis}_um": np.full(len(places), 0.2) for axis in "xyz"}
    columns |= {"frame": np.full(len(places), frame), "photons": np.full(len(places), _PHOTONS)}
    return Localizations.from_columns(columns)
