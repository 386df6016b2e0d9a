"""Static light of a movie that moving emitters cross, from the movie and its tracks in turns.

The estimate frame by frame (`models.background.static_light`) keeps light of
emitters that never leave a place. Offline the whole movie is known: with a
first map it is tracked, the tracks that move and the static light are fitted
together (`models.background.moving_light`), and the movie is tracked again with
the better map. Two rounds use the candidates of the network alone, which errors
of the map disturb least; one more uses the fit of the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.background.frame_light import FrameLight, LightMap
from models.background.map_error import BENEATH_TRACKS, error_variance_e2
from models.background.moving_light import MovingLight
from models.fit.image_levels import BLOCK
from models.tables import Tracks

if TYPE_CHECKING:
    from models.movie_localization import Lights, Movie
    from models.tracking.image_tracker import ImageModel

__all__ = ["light_beneath", "moving_tracks"]

_PART_FRAMES = 512
"""Most frames with one map: bleaching and drift of the lamp change little in them."""
_SAMPLES = 128
"""Frames of a part that are used; its other frames are like them."""

_LEAST_POINTS = 8
_LEAST_SIGMAS = 3.0
_LEAST_PX = 4.0
"""A track moves if it has so many points, and its ends are so far apart: in their sigmas, and in pixels."""


def moving_tracks(tracks: Tracks, pixel_size_um: float) -> Tracks:
    """The points of the tracks that move across the field."""
    order = np.lexsort((tracks.frame, tracks.track_id))
    by_track = tracks.select(order)
    _, starts, counts = np.unique(by_track.track_id, return_index=True, return_counts=True)
    first, last = by_track.select(starts), by_track.select(starts + counts - 1)
    away_um = np.hypot(last.x_um - first.x_um, last.y_um - first.y_um)
    sigma_um = np.sqrt((first.sigma_x_um**2 + first.sigma_y_um**2 + last.sigma_x_um**2 + last.sigma_y_um**2) / 2)
    moves = (counts >= _LEAST_POINTS) & (away_um > np.maximum(_LEAST_SIGMAS * sigma_um, _LEAST_PX * pixel_size_um))
    return by_track.select(np.repeat(moves, counts))


def light_beneath(
    movie: Movie,
    tracks: Tracks,
    images: ImageModel,
    before: Lights,
) -> list[FrameLight | None]:
    """Static light of each frame, from the frames and the tracks that move in them.

    Parameters
    ----------
    movie : Movie
    tracks : Tracks
        Of the movie, at true positions.
    images : ImageModel
        PSF, camera and field map.
    before : sequence of FrameLight or None
        Present estimate of each frame; frames without one stay without.

    Returns
    -------
    list of FrameLight or None
    """
    lights = list(before)
    moving = moving_tracks(tracks, images.optics.psf.pixel_size_um)
    for start, stop in _parts(before):
        mine = moving.select((moving.frame >= start) & (moving.frame < stop))
        light_e = _light_of(movie, start, stop, mine, images, before)
        earlier = before[start]
        before_e = None if earlier is None else earlier.light.light_e
        part = LightMap(light_e, images.camera, error_variance_e2(light_e, BENEATH_TRACKS, before_e))
        for number in range(start, stop):
            light = before[number]
            lights[number] = None if light is None else FrameLight(part, light.factor)
    return lights


def _light_of(
    movie: Movie, start: int, stop: int, tracks: Tracks, images: ImageModel, before: Lights
) -> NDArray[np.float32]:
    """Static light of a part of a movie; every few frames are used."""
    sums = MovingLight(images.optics.splines[-1], BLOCK, _electrons(movie, start, images, before))
    step = max(1, (stop - start) // _SAMPLES)
    for number in range(start + (stop - start - 1) % step // 2, stop, step):
        its = tracks.select(tracks.frame == number)
        sums.add(_electrons(movie, number, images, before), its.track_id, images.apparent_px(its))
    return sums.light(np.unique(tracks.track_id))[0]


def _electrons(movie: Movie, number: int, images: ImageModel, before: Lights) -> NDArray[np.float32]:
    """A frame in photo-electrons, at the usual brightness of the lamp."""
    light = before[number]
    electrons = images.camera.to_electrons(movie.read(number, number + 1)[0])
    return electrons if light is None else electrons / np.float32(light.factor)


def _parts(lights: Lights) -> Iterator[tuple[int, int]]:
    """First and end frame of the parts of a movie that have light, each of nearly equal length."""
    lit = np.array([light is not None for light in lights], np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lit, [0]])))
    for start, stop in edges.reshape(-1, 2).tolist():
        count = -(-(stop - start) // _PART_FRAMES)
        cuts = np.linspace(start, stop, count + 1).astype(int).tolist()
        yield from pairwise(cuts)
