"""The lower envelope over time of the light of each pixel.

Emitters only add light, and most of them leave a pixel again, so the light that
stands still is near the lowest that a pixel shows. The lowest frame would be
far too dark because of noise, so noise is averaged first, in two ways:

- over time: a low quantile of means over blocks of 16 or 32 frames, for each
  pixel;
- over the place: the lowest frame of each square of 8 pixels. Moments in which
  no emitter shines on a place may be shorter than a block, and out of focus an
  emitter is wider than a square. Where the quantile exceeds this level, the
  excess is light of emitters and is taken off.

What noise takes off a low order statistic on average is known and added again.

The first estimate comes early: blocks are of 16 frames until there are 16 of
them, then pairs are joined, and blocks are of 32 frames from then on. Each new
block replaces the oldest one, so the estimate follows bleaching and a drifting
lamp within the last 512 frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.background.kernels import add_frame, low_order_statistic
from models.camera import CameraModel

__all__ = ["BLOCK_FRAMES", "LightEstimator"]

F32 = NDArray[np.float32]

BLOCK_FRAMES = 16
"""Frames of a block at the start."""

_BLOCKS = 16
"""Blocks in memory, 64 bytes for each pixel."""

_LONGEST_BLOCK = 32
"""Frames of a block later: the longer the time, the more often an emitter has left a pixel."""

_QUANTILE = 0.1
"""Of the blocks: higher ones contain more light of emitters (see docs/static-light.md)."""

_SIDE = 8
"""Side of a square, pixels."""


_STATE = {
    name: f"_{name}" for name in ("block_frames", "next", "total", "weight", "in_block", "means", "lows", "low")
} | {"frames": "frames", "blocks": "blocks"}
"""Name of each value of an estimator's state, and the attribute that has it."""


class LightEstimator:
    """The static light of a movie, from its frames one by one.

    Parameters
    ----------
    shape : (H, W)
    camera : CameraModel
    block_frames : int
        Frames of a block at the start; fewer for a movie that is shorter than 8 blocks.

    Attributes
    ----------
    frames : int
        Number of frames that were added.
    blocks : int
        Number of complete blocks in memory.
    """

    def __init__(self, shape: tuple[int, int], camera: CameraModel, block_frames: int = BLOCK_FRAMES) -> None:
        self.frames = 0
        self.blocks = 0
        self._camera = camera
        self._block_frames = block_frames
        self._longest = block_frames * _LONGEST_BLOCK // BLOCK_FRAMES
        self._next = 0
        self._total = np.zeros(shape, np.uint32)
        self._weight = 0.0
        self._in_block = 0
        self._means = np.empty((_BLOCKS, *shape), np.float32)
        squares = (-(-shape[0] // _SIDE), -(-shape[1] // _SIDE))
        self._sums = np.zeros(squares, np.uint32)
        self._lows = np.empty((_BLOCKS, *squares), np.float32)
        self._low = np.full(squares, np.inf, np.float32)
        heights, widths = (
            np.minimum(_SIDE, length - _SIDE * np.arange(count)) for length, count in zip(shape, squares, strict=True)
        )
        self._areas = np.outer(heights, widths).astype(np.float32)
        self._to_rows, self._to_columns = (
            _interpolation(length, count) for length, count in zip(shape, squares, strict=True)
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next frames depend on, as copies; see `resume`."""
        return {name: np.array(getattr(self, place)) for name, place in _STATE.items()}

    def resume(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue after the frames after which `state` was taken, of an estimator with the same parameters."""
        for name, place in _STATE.items():
            value = state[name]
            setattr(self, place, value.item() if value.ndim == 0 else value.copy())

    def add(self, counts: NDArray[np.uint16]) -> float:
        """Add a frame (H, W), and return its mean light, photo-electrons per pixel; `weigh` it next."""
        add_frame(counts, self._total, _SIDE, self._sums)
        self.frames += 1
        mean_adu = float(self._sums.sum(dtype=np.int64)) / counts.size
        return (mean_adu - self._camera.offset_adu) * self._camera.electrons_per_adu

    def weigh(self, factor: float) -> bool:
        """State how brightly the lamp lit the added frame, 1 being usual; True when the frame completes a block."""
        camera = self._camera
        squares = self._sums / self._areas
        squares -= np.float32(camera.offset_adu)
        squares *= np.float32(camera.electrons_per_adu / factor)
        np.minimum(self._low, squares, out=self._low)
        self._weight += factor
        self._in_block += 1
        if self._in_block < self._block_frames:
            return False
        if self.blocks == _BLOCKS and self._block_frames < self._longest:
            self._join_pairs()
            return False
        self._end_block()
        return True

    def _end_block(self) -> None:
        camera, mean, scale = self._camera, self._means[self._next], self._camera.electrons_per_adu / self._weight
        np.multiply(self._total, np.float32(scale), out=mean)
        mean -= np.float32(scale * camera.offset_adu * self._in_block)
        self._lows[self._next] = self._low
        self._total[:] = 0
        self._low[:] = np.inf
        self._weight, self._in_block = 0.0, 0
        self._next = (self._next + 1) % _BLOCKS
        self.blocks = min(self.blocks + 1, _BLOCKS)

    def _join_pairs(self) -> None:
        """Make 8 blocks of twice the length of the 16 that are there; the block that is open goes on."""
        self.blocks = self._next = _BLOCKS // 2
        self._means[: self.blocks] = (self._means[0::2] + self._means[1::2]) / 2
        self._lows[: self.blocks] = np.minimum(self._lows[0::2], self._lows[1::2])
        self._block_frames *= 2

    def lowest_of_newest(self) -> F32:
        """Light of each square of 8 pixels in the newest block, where it was lowest, photo-electrons per pixel."""
        return self._without_noise(self._lows[self._next - 1], 1, self._block_frames, self._areas)

    def squares(self, light: F32) -> F32:
        """Means of a map (H, W) over the same squares."""
        rows = np.add.reduceat(light, np.arange(0, len(light), _SIDE), axis=0)
        sums: F32 = np.add.reduceat(rows, np.arange(0, len(light[0]), _SIDE), axis=1)
        means: F32 = np.divide(sums, self._areas, dtype=np.float32)
        return means

    def light(self) -> F32:
        """Static light of each pixel from all blocks, photo-electrons, shape (H, W)."""
        return self._of(self._means[: self.blocks], self._lows[: self.blocks])

    def halves(self) -> tuple[F32, F32]:
        """The same from the older and from the newer half of the blocks; their noise is independent."""
        order = (self._next - self.blocks + np.arange(self.blocks)) % _BLOCKS
        half = self.blocks // 2
        older, newer = order[:half], order[-half:]
        return self._of(self._means[older], self._lows[older]), self._of(self._means[newer], self._lows[newer])

    def _of(self, means: F32, lows: F32) -> F32:
        count = len(means)
        rank = max(math.ceil(_QUANTILE * count), 1)
        light = np.empty(means.shape[1:], np.float32)
        low_order_statistic(means, rank, light)
        light = self._without_noise(light, rank, count, np.float32(self._block_frames))
        level = self._without_noise(lows.min(axis=0), 1, count * self._block_frames, self._areas)
        excess = np.maximum(self.squares(light) - level, 0)
        light -= self._to_rows @ excess @ self._to_columns.T
        return light

    def _without_noise(self, light: F32, rank: int, count: int, averaged: np.float32 | F32) -> F32:
        """Expected value of values of which this is the one of `rank` among `count`, each a mean of so many pixels.

        Expected order statistic of normal noise: Blom, Statistical estimates and transformed beta-variables (1958).
        """
        below = np.float32(-NormalDist().inv_cdf((rank - 0.375) / (count + 0.25)))
        read_variance = np.float32(self._camera.read_noise_e**2)
        corrected = light
        for _ in range(2):  # the noise depends on the light, which the first round makes right to a few per cent
            corrected = light + below * np.sqrt((np.maximum(corrected, np.float32(0)) + read_variance) / averaged)
        return corrected


def _interpolation(length: int, count: int) -> F32:
    """Linear interpolation from the centres of `count` squares to `length` pixels, shape (length, count)."""
    place = np.clip((np.arange(length) + 0.5) / _SIDE - 0.5, 0, count - 1)
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(count)), 0)
    rows: F32 = weights.astype(np.float32)
    return rows
