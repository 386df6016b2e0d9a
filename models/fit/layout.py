"""Where an image is compared with its model on fine cells: boxes of the emitters, and the cell size of each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.fit.cell_model import mark_blocks
from models.fit.image_levels import BLOCK, LEVELS, LevelImage
from models.pattern_spline import ENERGY

__all__ = ["Layout", "visible_outside"]

Array = NDArray[np.float64]

_HELD_PX = 2.0
_HELD_OF_DEPTH = 0.05
_HELD_UM = 1.0
"""Emitters that moved by less keep their boxes: pixels, and share of depth or µm."""

_FARTHEST_PX = 5.0
"""Farthest move within given boxes: splines end a few pixels beyond the largest pattern."""

_SPARE_PX = 1.5
"""By so much less than its radius a core may reach, as it is made of whole blocks."""

_WIDE_SIGNIFICANCE = 10.0
"""As in models.fit.joint_fit: a pattern gets the wider crop where the light outside is so many standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Boxes of emitters and cell size of each block.

    Costs compare exactly between evaluations on the same cells only.

    Attributes
    ----------
    shape : (H, W)
        Of the image.
    places : ndarray of float64, shape (N, 3)
        Emitters for which the boxes were made: x, y (pixels), z (µm).
    wide : ndarray of bool, shape (N,)
        Emitters with the wider crop, because their light outside the usual one is visible.
    boxes : ndarray of int64, shape (3, N, 4)
        First row, end row, first column, end column of each emitter's core on cells of 1 pixel, its core on cells of 2
        pixels, and its whole pattern on cells of 4 pixels. A core consists of whole blocks; it may be empty. The first
        is inside the second, with a block around it.
    level : ndarray of int8, shape (h, w)
        Cells of each block: 0, 1 or 2 for a side of 1, 2 or 4 pixels. Blocks partly outside the image have cells of 1.
    """

    shape: tuple[int, int]
    places: Array
    wide: NDArray[np.bool_]
    boxes: NDArray[np.int64]
    level: NDArray[np.int8]

    @classmethod
    def of(
        cls,
        image: LevelImage,
        emitters: Array,
        background: float,
        before: Layout | None = None,
    ) -> Layout:
        """Layout for emitters (N, 4) and a background.

        With the layout of the same emitters and image `before`, those that hardly moved keep their boxes; if all do,
        the result is `before` itself.

        Raises
        ------
        DataError
            When a coordinate of an emitter is not a finite number.
        """
        if not np.isfinite(emitters).all():
            row = int(np.flatnonzero(~np.isfinite(emitters).all(axis=1))[0])
            raise DataError(
                f"Emitter {row} is at {emitters[row].tolist()}; coordinates and photons are finite numbers.",
                "Limit the steps of the fit, or remove the emitter.",
            )
        held = np.zeros(len(emitters), bool)
        if before is not None:
            moved = np.abs(emitters[:, :3] - before.places)
            far = np.maximum(_HELD_UM, _HELD_OF_DEPTH * np.abs(before.places[:, 2]))
            held = (moved[:, 0] <= _HELD_PX) & (moved[:, 1] <= _HELD_PX) & (moved[:, 2] <= far)
            if held.all():
                return before
        wide = visible_outside(image, emitters, background)
        boxes = _boxes(image, emitters, wide)
        places = emitters[:, :3].copy()
        level = np.full(image.blocks, len(LEVELS) - 1, np.int8)
        if before is not None:
            boxes[:, held], places[held], wide[held] = before.boxes[:, held], before.places[held], before.wide[held]
            # Cells that were fine stay fine, so that a step does not lose evidence that earlier ones had.
            level = before.level.copy()
        mark_blocks(boxes, *image.shape, level)
        return cls(image.shape, places, wide, boxes, level)

    def check(self, image: LevelImage, emitters: Array) -> None:
        """Check that an image and emitters (N, 4) fit the layout.

        Raises
        ------
        DataError
            When the size or the number differs, or an emitter is farther than 5 pixels from the place for which its
            boxes were made.
        """
        if self.shape != image.shape:
            raise DataError(
                f"A layout for images of {self.shape} pixels was given with one of {image.shape}.",
                "Make a layout for this image, or leave it out.",
            )
        if len(emitters) != len(self.places):
            raise DataError(
                f"A layout for {len(self.places)} emitters was given with {len(emitters)}.",
                "Make a layout for these emitters, or leave it out.",
            )
        near = (np.abs(emitters[:, :2] - self.places[:, :2]) <= _FARTHEST_PX).all(axis=1) & np.isfinite(emitters[:, 2])
        if not near.all():
            row = int(np.flatnonzero(~near)[0])
            raise DataError(
                f"Emitter {row} is at {emitters[row, :3].tolist()}; the layout was made for "
                f"{self.places[row].tolist()} and at most {_FARTHEST_PX:g} pixels around.",
                "Leave the layout out, so that a new one is made.",
            )

    def refined(self, level: NDArray[np.int8]) -> Layout:
        """Layout with the same boxes and the finer cells of its own and of `level`; itself if they are the same."""
        finer = np.minimum(self.level, level)
        if np.array_equal(finer, self.level):
            return self
        return Layout(self.shape, self.places, self.wide, self.boxes, finer)

    def joined(self, other: Layout) -> Layout:
        """Layout of its emitters and those of another one after them, with the finer cells of both."""
        places, wide = np.concatenate([self.places, other.places]), np.concatenate([self.wide, other.wide])
        boxes, level = np.concatenate([self.boxes, other.boxes], axis=1), np.minimum(self.level, other.level)
        return Layout(self.shape, places, wide, boxes, level)


def visible_outside(image: LevelImage, emitters: Array, background: float) -> NDArray[np.bool_]:
    """Emitters with visible light outside the usual crop: against the noise of an area as large as the crop."""
    radius = image.optics.splines[0].radius_at_px(emitters[:, 2])
    variance = max(background, 0.0) + image.optics.read_variance
    shows: NDArray[np.bool_] = (1 - ENERGY) * emitters[:, 3] > _WIDE_SIGNIFICANCE * radius * np.sqrt(np.pi * variance)
    return shows


def _boxes(image: LevelImage, emitters: Array, wide: NDArray[np.bool_]) -> NDArray[np.int64]:
    optics = image.optics
    x, y, z, _ = emitters.T
    boxes = np.zeros((3, len(emitters), 4), np.int64)
    shift = (BLOCK - 1) / 2
    boxes[2] = optics.splines[-1].boxes((x - shift) / BLOCK, (y - shift) / BLOCK, z, image.blocks, wide)
    planes = np.ceil(optics.splines[0].z_index(z)).astype(np.int64)
    _place_cores(emitters, optics.cores_px[planes], *image.blocks, boxes)
    return boxes


@numba.njit(cache=True, nogil=True)
def _place_cores(emitters: Any, radii: Any, rows: Any, columns: Any, boxes: Any) -> None:
    for e in range(len(emitters)):
        cores = np.zeros((2, 4), np.int64)
        for k in range(2):
            if radii[e, k] > 0:
                reach = radii[e, k] - _SPARE_PX
                for axis in range(2):
                    end = rows if axis == 0 else columns
                    # Pixel i reaches from i - 0.5 to i + 0.5.
                    place = emitters[e, 1 - axis] + 0.5
                    cores[k, 2 * axis] = min(max(np.floor((place - reach) / BLOCK), 0), end)
                    cores[k, 2 * axis + 1] = min(max(np.ceil((place + reach) / BLOCK), 0), end)
            if cores[k, 1] <= cores[k, 0] or cores[k, 3] <= cores[k, 2]:
                cores[k] = 0
        fine, middle = cores[0], cores[1]
        if fine[1] > 0:
            empty = middle[1] == 0
            for axis in range(2):
                end = rows if axis == 0 else columns
                low, high = max(fine[2 * axis] - 1, 0), min(fine[2 * axis + 1] + 1, end)
                middle[2 * axis] = low if empty else min(low, middle[2 * axis])
                middle[2 * axis + 1] = high if empty else max(high, middle[2 * axis + 1])
        boxes[0, e], boxes[1, e] = fine * BLOCK, middle * (BLOCK // 2)
