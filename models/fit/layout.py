"""Where an image is compared with its model on fine cells: boxes of the emitters, and the cell size of each block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.image_levels import BLOCK, LEVELS, LevelImage
from models.fit.level_equations import mark_blocks
from models.pattern_spline import ENERGY

__all__ = ["Layout"]

Array = NDArray[np.float64]

_HELD_PX = 2.0
_HELD_OF_DEPTH = 0.05
_HELD_UM = 1.0
"""Emitters that moved by less keep their boxes: pixels, and share of depth or µm."""

_SPARE_PX = 1.5
"""By so much less than its radius a core may reach, as it is made of whole blocks."""

_WIDE_SIGNIFICANCE = 10.0
"""As in models.fit.joint_fit: a pattern gets the wider crop where the light outside is so many standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Boxes of emitters and cell size of each block.

    Costs compare exactly between evaluations with the same layout only.

    Attributes
    ----------
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
    constant : float
        Part of the cost that depends on the cells alone.
    """

    places: Array
    wide: NDArray[np.bool_]
    boxes: NDArray[np.int64]
    level: NDArray[np.int8]
    constant: float

    @classmethod
    def of(
        cls,
        image: LevelImage,
        emitters: Array,
        background: float,
        before: Layout | None = None,
    ) -> Layout:
        """Layout for emitters (N, 4) and a background.

        With the layout of the same emitters `before`, those that hardly moved keep their boxes; if all do, the result
        is `before` itself.
        """
        held = np.zeros(len(emitters), bool)
        if before is not None:
            moved = np.abs(emitters[:, :3] - before.places)
            far = np.maximum(_HELD_UM, _HELD_OF_DEPTH * np.abs(before.places[:, 2]))
            held = (moved[:, 0] <= _HELD_PX) & (moved[:, 1] <= _HELD_PX) & (moved[:, 2] <= far)
            if held.all():
                return before
        wide = _visible_outside(image, emitters, background)
        boxes = _boxes(image, emitters, wide)
        places = emitters[:, :3].copy()
        level = np.full(image.blocks, len(LEVELS) - 1, np.int8)
        if before is not None:
            boxes[:, held], places[held], wide[held] = before.boxes[:, held], before.places[held], before.wide[held]
            # Cells that were fine stay fine, so that a step does not lose evidence that earlier ones had.
            level = before.level.copy()
        constant = mark_blocks(boxes, *image.shape, level, *image.constants)
        return cls(places, wide, boxes, level, constant)

    def joined(self, image: LevelImage, other: Layout) -> Layout:
        """Layout of its emitters and those of another one after them, with the finer cells of both."""
        boxes = np.concatenate([self.boxes, other.boxes], axis=1)
        level = np.minimum(self.level, other.level)
        constant = mark_blocks(boxes, *image.shape, level, *image.constants)
        return Layout(
            np.concatenate([self.places, other.places]),
            np.concatenate([self.wide, other.wide]),
            boxes,
            level,
            constant,
        )


def _visible_outside(image: LevelImage, emitters: Array, background: float) -> NDArray[np.bool_]:
    """Emitters with visible light outside the usual crop: against the noise of an area as large as the crop."""
    radius = image.optics.splines[0].radius_at_px(emitters[:, 2])
    variance = max(background, 0.0) + image.optics.read_variance
    shows: NDArray[np.bool_] = (1 - ENERGY) * emitters[:, 3] > _WIDE_SIGNIFICANCE * radius * np.sqrt(np.pi * variance)
    return shows


def _boxes(image: LevelImage, emitters: Array, wide: NDArray[np.bool_]) -> NDArray[np.int64]:
    optics, (rows, columns) = image.optics, image.blocks
    x, y, z, _ = emitters.T
    boxes = np.zeros((3, len(emitters), 4), np.int64)
    spline = optics.splines[-1]
    shift = (BLOCK - 1) / 2
    boxes[2] = spline.boxes((x - shift) / BLOCK, (y - shift) / BLOCK, z, (rows, columns), wide)
    index = np.ceil(optics.splines[0].z_index(z)).astype(np.int64)
    radii = optics.cores_px[index]
    ends = np.array([rows, rows, columns, columns])
    ring = np.array([-1, 1, -1, 1])
    cores = []
    for radius in radii.T:
        reach = radius - _SPARE_PX
        # Pixel i reaches from i - 0.5 to i + 0.5.
        core = np.stack([y + 0.5 - reach, y + 0.5 + reach, x + 0.5 - reach, x + 0.5 + reach], axis=1) / BLOCK
        core[:, ::2], core[:, 1::2] = np.floor(core[:, ::2]), np.ceil(core[:, 1::2])
        core = np.clip(core, 0, ends).astype(np.int64)
        core[(radius <= 0) | (core[:, 1] <= core[:, 0]) | (core[:, 3] <= core[:, 2])] = 0
        cores.append(core)
    fine, middle = cores
    around = np.clip(fine + ring, 0, ends)
    has_fine, has_middle = fine[:, 1] > 0, middle[:, 1] > 0
    both = np.stack(
        [
            np.minimum(around[:, 0], middle[:, 0]),
            np.maximum(around[:, 1], middle[:, 1]),
            np.minimum(around[:, 2], middle[:, 2]),
            np.maximum(around[:, 3], middle[:, 3]),
        ],
        axis=1,
    )
    middle = np.where((has_fine & has_middle)[:, None], both, np.where(has_fine[:, None], around, middle))
    boxes[0], boxes[1] = fine * BLOCK, middle * (BLOCK // LEVELS[1])
    return boxes
