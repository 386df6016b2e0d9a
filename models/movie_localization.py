"""Localizations of a whole movie, batch by batch, with the same code as live.

A movie is anything with a length, a shape and frames that are read by number:
a file, or an array in memory. Its beginning is read twice when static light is
removed: the first 128 frames make the map that is used for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from models.background.frame_light import FrameLight, remove_light
from models.background.mode import StaticLightMode
from models.errors import DataError
from models.tables import Localizations

if TYPE_CHECKING:
    from models.background.static_light import StaticLight
    from models.camera import CameraModel
    from models.fit.refiner import Refiner
    from models.localization import Localizer

__all__ = ["ArrayMovie", "Lights", "Movie", "begun_light", "dark_level_note", "lit_frames", "localize_movie"]

Lights = Sequence[FrameLight | None]
"""Static light of each frame of a movie; None where nothing is removed."""

_PIXELS_PER_BATCH = 16 * 256 * 256
"""Pixels of a batch. Larger batches do not run faster on a CPU, and need more memory."""


_LEVEL_FRAMES = 8
_DARK_PERCENT = 1
_BELOW_OFFSET_SIGMAS = 3.0
_ABOVE_OFFSET_E = 500.0
"""Photo-electrons above the offset. In fluorescence, dark pixels rarely exceed it; a wrong offset is more frequent."""


class Movie(Protocol):
    """Camera frames in order of time."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Frames `start` to `stop` - 1, camera counts, shape (N, H, W); fewer at the end of the movie."""


class ArrayMovie:
    """Frames in memory as a movie.

    Parameters
    ----------
    counts : ndarray of uint16, shape (N, H, W)
    """

    def __init__(self, counts: NDArray[np.uint16]) -> None:
        self._counts = counts

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        count, height, width = self._counts.shape
        return (count, height, width)

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Frames `start` to `stop` - 1."""
        return self._counts[start:stop]


def dark_level_note(movie: Movie, camera: CameraModel) -> str | None:
    """A warning when the darkest pixels of a movie do not fit the offset of `camera`; None when they fit.

    A pixel without light has the offset as its count. A movie whose darkest pixels are below the offset was taken with
    another camera or another setting. Darkest pixels far above the offset mean a bright background or another offset.
    """
    chosen = np.unique(np.linspace(0, movie.shape[0] - 1, _LEVEL_FRAMES).astype(int)).tolist()
    level = float(np.median([np.percentile(movie.read(index, index + 1), _DARK_PERCENT) for index in chosen]))
    # The first percentile of Gaussian noise lies 2.3 standard deviations below its mean.
    noise_adu = camera.read_noise_e / camera.electrons_per_adu
    low = camera.offset_adu - (2.3 + _BELOW_OFFSET_SIGMAS) * noise_adu - 2
    high = camera.offset_adu + _ABOVE_OFFSET_E / camera.electrons_per_adu
    if low <= level <= high:
        return None
    side = "below" if level < low else "above"
    return (
        f"The darkest pixels of the movie have {level:.0f} ADU, far {side} the camera's offset of "
        f"{camera.offset_adu:.4g} ADU ({low:.0f} to {high:.0f} are plausible): if it was taken with another camera or "
        "setting, photons and depths are wrong. Give its camera with --camera."
    )


def localize_movie(
    movie: Movie,
    localizer: Localizer,
    refiner: Refiner | None,
    advance: Callable[[float], None],
    least: float | None = None,
    static_light: StaticLightMode = "auto",
) -> Localizations:
    """Localizations of all frames of a movie, refined when there is a refiner.

    Parameters
    ----------
    movie : Movie
    localizer : Localizer
    refiner : Refiner or None
    advance : callable
        Called with the number of frames done.
    least : float, optional
        Least probability, without a refiner; the model's decision threshold when not given.
    static_light : {"auto", "on", "off"}
        Whether light that stands still over time is removed; see `models.background`.

    Raises
    ------
    DataError
        When a frame has a count above the range of the camera, or the model has no network and there is no refiner.
    """
    localizer.check_finds(fits=refiner is not None)
    parts = []
    for frames, numbers, lights in lit_frames(movie, localizer, static_light, 1 if refiner else None):
        if refiner is None:
            parts.append(localizer.localize(remove_light(frames, lights), numbers, least))
        else:
            parts.append(localizer.localize_finely(frames, numbers, refiner, lights))
        advance(int(numbers[-1]) + 1)
    return Localizations.concatenate(parts)


def lit_frames(
    movie: Movie, localizer: Localizer, static_light: StaticLightMode | Lights, batch: int | None = None
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int64], list[FrameLight | None]]]:
    """Frames of a movie in batches, with their numbers and their static light; see `localize_movie`.

    `static_light` may be the light of each frame, where it is known. Without `batch` as many frames are read at once as
    localization is fastest with.
    """
    top = localizer.camera.saturation_adu
    batch = batch or _batch(movie)
    known = None if isinstance(static_light, str) else static_light
    light = begun_light(movie, localizer, static_light) if isinstance(static_light, str) else None
    for start in range(0, movie.shape[0], batch):
        frames = movie.read(start, start + batch)
        numbers = np.arange(start, start + len(frames))
        if frames.max() > top:
            raise DataError(
                f"Frames {start} to {start + len(frames) - 1} reach a count of {frames.max()}, but a camera of "
                f"{localizer.camera.bit_depth} bits ends at {top}: its offset and gain do not "
                "carry over.",
                "Give the camera of this movie with --camera, or use a model that was calibrated with it.",
            )
        if known is not None:
            yield frames, numbers, list(known[start : start + len(frames)])
        else:
            yield frames, numbers, [None] * len(frames) if light is None else light.follow(frames)


def begun_light(movie: Movie, localizer: Localizer, mode: StaticLightMode) -> StaticLight | None:
    """What follows the static light of a movie, with the map of its beginning; None for ``"off"``."""
    light = localizer.static_light(mode)
    if light is not None:
        light.begin_with(_frames(movie), movie.shape[0])
    return light


def _batch(movie: Movie) -> int:
    return max(1, _PIXELS_PER_BATCH // (movie.shape[1] * movie.shape[2]))


def _frames(movie: Movie) -> Iterator[NDArray[np.uint16]]:
    """Frames of a movie one by one, read in batches."""
    batch = _batch(movie)
    for start in range(0, movie.shape[0], batch):
        yield from movie.read(start, start + batch)
