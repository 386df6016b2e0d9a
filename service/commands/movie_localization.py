"""A whole movie through a localizer, as fast as it is read: offline, but the code path is the live one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from models.errors import DataError
from models.tables import Localizations

if TYPE_CHECKING:
    from hardware.movies import Movie
    from models.fit.refiner import Refiner
    from models.localization import Localizer

__all__ = ["localize_movie"]

_PIXELS_PER_BATCH = 16 * 256 * 256
"""Frames of a batch together: more does not run faster on a CPU and needs more memory."""


def localize_movie(
    movie: Movie, localizer: Localizer, refiner: Refiner | None, advance: Callable[[float], None]
) -> Localizations:
    """Localizations of every frame of a movie, refined when there is a refiner.

    Parameters
    ----------
    movie : Movie
    localizer : Localizer
    refiner : Refiner or None
    advance : callable
        Called with the number of frames done.

    Raises
    ------
    DataError
        When a frame has a count that the camera cannot give.
    """
    top = localizer.camera.saturation_adu
    batch = 1 if refiner else max(1, _PIXELS_PER_BATCH // (movie.shape[1] * movie.shape[2]))
    parts = []
    for start in range(0, len(movie), batch):
        frames = movie.read(start, start + batch)
        numbers = np.arange(start, start + len(frames))
        if frames.max() > top:
            raise DataError(
                f"Frames {start} to {start + len(frames) - 1} reach a count of {frames.max()}, but a camera of "
                f"{localizer.camera.bit_depth} bits ends at {top}: its offset and gain do not "
                "carry over.",
                "Give the camera of this movie with --camera, or use a model that was calibrated with it.",
            )
        if refiner is None:
            parts.append(localizer.localize(frames, numbers))
        else:
            parts.append(localizer.localize_finely(frames, numbers, refiner))
        advance(start + len(frames))
    return Localizations.concatenate(parts)
