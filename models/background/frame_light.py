"""The light to remove from one frame, for the network and for the joint fit.

The network gets the frame minus the static light above its median, so its
input looks like a frame with an even background. The noise of bright pixels
remains; in training the noise is that of the even background. Where the static
light is so bright that its noise exceeds three times that of the median, as in
a hot pixel, deviations are scaled down to that.

The joint fit gets the frame as it is, and the static light as a part of the
model that is not fitted, so that the variance of each pixel is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.background.kernels import remove_counts
from models.camera import CameraModel

__all__ = ["FrameLight", "LightMap", "remove_light"]

F32 = NDArray[np.float32]

_MOST_NOISE = 3.0
"""Largest noise of a pixel after removal, in that of a pixel with the median light."""

_DARKEST_PERCENT = 1.0


class LightMap:
    """Static light of a camera's frames.

    Parameters
    ----------
    light_e : ndarray of float32, shape (H, W)
        Photo-electrons.
    camera : CameraModel
    doubt_e2 : float
        Variance of a pixel that stands for the error of the map in a fit, photo-electrons squared; 0 for a map of hot
        pixels alone. See `models.background.map_error`.

    Attributes
    ----------
    light_e, doubt_e2 : as given
    level_e : float
        Its median, which stays in the network's input.
    """

    def __init__(self, light_e: F32, camera: CameraModel, doubt_e2: float = 0.0) -> None:
        self.light_e = light_e
        self.doubt_e2 = doubt_e2
        self.level_e = float(np.median(light_e))
        self._camera = camera
        self._light_adu = light_e / np.float32(camera.electrons_per_adu)
        read_variance = max(camera.read_noise_e, 0.5) ** 2
        usual = max(self.level_e, 0.0) + read_variance
        there = np.maximum(light_e, 0) + np.float32(read_variance)
        self._kept = np.minimum(np.float32(_MOST_NOISE) * np.sqrt(np.float32(usual) / there), np.float32(1))

    def removed_from(self, counts: NDArray[np.uint16], factor: float) -> NDArray[np.uint16]:
        """Counts (H, W) without this light times `factor` above its median."""
        camera = self._camera
        out = np.empty_like(counts)
        level_adu = self.level_e / camera.electrons_per_adu
        remove_counts(
            counts,
            self._light_adu,
            self._kept,
            np.float32(factor),
            np.float32(camera.offset_adu),
            np.float32(level_adu),
            np.float32(camera.saturation_adu),
            out,
        )
        return out

    @cached_property
    def darkest_e(self) -> float:
        """Light of the darkest pixels; the even background that a fit adds reaches down to it."""
        return float(np.percentile(self.light_e, _DARKEST_PERCENT))


@dataclass(frozen=True, slots=True)
class FrameLight:
    """Static light in one frame.

    Attributes
    ----------
    light : LightMap
    factor : float
        Brightness of the lamp in this frame.
    number : int
        Of the frame among those that were followed.
    """

    light: LightMap
    factor: float
    number: int = 0

    def removed_from(self, counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The frame (H, W) of counts without the static light above its median."""
        return self.light.removed_from(counts, self.factor)

    @property
    def backdrop_e(self) -> F32:
        """Light above that of the darkest pixels, not negative, photo-electrons, shape (H, W)."""
        above: F32 = np.maximum(self.light.light_e - np.float32(self.light.darkest_e), 0) * np.float32(self.factor)
        return above

    @property
    def backdrop_level_e(self) -> float:
        """Median of `backdrop_e`: what a fitted background lacks to the background of the frame, photo-electrons."""
        return max(self.light.level_e - self.light.darkest_e, 0.0) * self.factor


def remove_light(frames: NDArray[np.uint16], lights: Sequence[FrameLight | None]) -> NDArray[np.uint16]:
    """Frames (B, H, W) of counts without their light above its median; the frames themselves when there is none."""
    if not any(lights):
        return frames
    return np.stack(
        [counts if light is None else light.removed_from(counts) for counts, light in zip(frames, lights, strict=True)]
    )
