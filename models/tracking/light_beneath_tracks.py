"""Static light beneath the tracks of a movie that goes on: a better map every few seconds.

The estimate from the frames alone keeps light of emitters that never leave a
place (`models.background.static_light`). Here the tracks take part: every 256
frames the static light and the tracks that moved in them are fitted together
(`models.background.moving_light`). The next frames are tracked with the better
map, so the next map is better again.

A map takes effect 64 frames after its last frame. Localization is fewer frames
ahead of tracking, so the results do not depend on how fast both are.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.background.frame_light import FrameLight, LightMap
from models.background.map_error import BENEATH_TRACKS, error_variance_e2
from models.background.moving_light import MovingLight
from models.fit.image_levels import BLOCK
from models.movie_light import moving_tracks
from models.tables import Tracks
from models.tracking.image_tracker import ImageModel
from models.tracking.state import TrackState

__all__ = ["LightBeneathTracks", "TakesLight"]

_FRAMES = 256
"""From one map to the next."""
_EVERY = 4
"""One frame of so many is used: the others are like it."""
_DELAY = 64
"""Frames until a map takes effect."""
_OTHER = 1.05
"""A map whose change from the one before exceeds its least error by this factor ends all tracks."""
_MOST_TRACKS = 100
"""With more tracks than this in a frame, the oldest take part: the time grows with their square."""


class TakesLight(Protocol):
    """What uses the maps: `models.background.static_light.StaticLight`."""

    def use(self, light: LightMap, number: int) -> None:
        """Remove another map, from the frame of a number on."""


class LightBeneathTracks:
    """Follows the tracked frames of one run, and improves their static light.

    Parameters
    ----------
    images : ImageModel
    static : TakesLight
        Receives the maps.
    """

    def __init__(self, images: ImageModel, static: TakesLight) -> None:
        self._images = images
        self._static = static
        self._sums: MovingLight | None = None
        self._points: list[Tracks] = []
        self._begun = 0
        self._lit = False
        self._other: LightMap | None = None

    def add(self, counts: NDArray[np.uint16], light: FrameLight | None, state: TrackState) -> bool:
        """Take a frame (H, W) with its static light and the tracks after it.

        Without light, or with hot pixels alone, the sums over frames start again.

        Returns
        -------
        bool
            Whether all tracks are to end, because the static light is known from this frame on, or much better known:
            those until now may have followed what stands still, and would keep its light out of the next map.
        """
        if light is None or light.light.doubt_e2 == 0:
            self._sums, self._lit = None, False
            return False
        ends = not self._lit or light.light is self._other
        self._lit, self._other = True, None if ends else self._other
        self._take(counts, light, state)
        return ends

    def _take(self, counts: NDArray[np.uint16], light: FrameLight, state: TrackState) -> None:
        if self._sums is not None and light.number - self._begun >= _FRAMES:
            self._improve(self._sums, light)
            self._sums = None
        if light.number % _EVERY:
            return
        images = self._images
        electrons = images.camera.to_electrons(counts) / np.float32(light.factor)
        if self._sums is None:
            self._sums, self._points = MovingLight(images.optics.splines[-1], BLOCK, electrons), []
            self._begun = light.number
        rows = state.rows()
        if len(rows) > _MOST_TRACKS:
            rows = rows.select(np.argsort(rows.track_id)[:_MOST_TRACKS])
        self._points.append(rows)
        self._sums.add(electrons, rows.track_id, images.apparent_px(rows))

    def _improve(self, sums: MovingLight, light: FrameLight) -> None:
        moving = moving_tracks(Tracks.concatenate(self._points), self._images.optics.psf.pixel_size_um)
        light_e, _ = sums.light(np.unique(moving.track_id))
        least_e2 = error_variance_e2(light_e, BENEATH_TRACKS)
        doubt_e2 = error_variance_e2(light_e, BENEATH_TRACKS, light.light.light_e)
        better = LightMap(light_e, self._images.camera, doubt_e2)
        self._static.use(better, light.number + _DELAY)
        if doubt_e2 > _OTHER * least_e2:
            self._other = better
