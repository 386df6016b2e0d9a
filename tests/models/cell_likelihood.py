"""The likelihood of `models.fit.evaluation` written out plainly: full images of each emitter, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.image_levels import LevelImage
from models.fit.layout import Layout
from models.pattern_spline import render_pattern

Array = NDArray[np.float64]

SIDES = (1, 2, 4)


@dataclass(frozen=True)
class Plain:
    """Cost, matrix and gradient as in `Evaluation`, and model and data of each cell."""

    cost: float
    matrix: Array
    gradient: Array
    expected: Array
    data: Array
    light: Array


def plain_evaluation(
    image: LevelImage, emitters: Array, background: float, layout: Layout, known: NDArray[np.float32] | None = None
) -> Plain:
    """The same as `evaluate` with a layout, for comparison; `known`: backdrop (H, W)."""
    variance = image.optics.read_variance
    height, width = image.shape
    rows, columns = image.blocks
    inside = np.zeros((4 * rows, 4 * columns))
    inside[:height, :width] = 1
    fixed = inside * variance
    if known is not None:
        fixed[:height, :width] += known
    data = image.data[0].astype(np.float64)
    chosen = [_upscaled(layout.level, 4) == 0, _upscaled(layout.level, 2) == 1, layout.level == 2]
    chosen[0] = chosen[0] & (inside > 0)
    smooth, even = (
        [_emitter(image, emitters, e, layout, spread) for e in range(len(emitters))]
        for spread in (_interpolated, _even)
    )
    photons = emitters[:, 3]
    cost, size = 0.0, 4 * len(emitters) + 1
    matrix, gradient = np.zeros((size, size)), np.zeros(size)
    everything = []
    for level, side in enumerate(SIDES):
        cells, seen = chosen[level], _summed(data, side)[chosen[level]]
        light = np.array([images[level][0][cells] for images in smooth]).reshape(len(emitters), -1)
        model = photons @ light + background * side**2 + _summed(fixed, side)[cells]
        model = np.maximum(model, variance * side**2 / 2)
        best = np.maximum(seen, variance * side**2)
        cost += float((model - best - seen * np.log(model / best)).sum())
        slopes, rough = (
            np.array(
                [
                    photons[e] * images[level][a][cells] if a else images[level][0][cells]
                    for e, images in enumerate(many)
                    for a in (1, 2, 3, 0)
                ]
                + [np.full(int(cells.sum()), float(side**2))]
            )
            for many in (smooth, even)
        )
        gradient += slopes @ (seen / model - 1)
        matrix += rough / model @ rough.T
        everything.append((model, seen, light))
        # An even model inside, as bright as the cell.
        for i, j in np.argwhere(cells):
            pixels = data[side * i : side * (i + 1), side * j : side * (j + 1)]
            mean = max(pixels.sum(), variance * side**2) / side**2
            best = np.maximum(pixels, variance)
            cost += float((mean - best - pixels * np.log(mean / best)).sum()) if side > 1 else 0.0
    expected, seen, light = (np.concatenate(parts, axis=-1) for parts in zip(*everything, strict=True))
    return Plain(cost, matrix, gradient, expected, seen, light)


def _emitter(image: LevelImage, emitters: Array, e: int, layout: Layout, spread: object) -> list[Array]:
    """Light, d/dx, d/dy, d/dz of a photon on each level, finest first, each of shape (4, rows, columns)."""
    levels: list[Array] = []
    for level in (2, 1, 0):
        side, spline, box = SIDES[level], image.optics.splines[level], layout.boxes[level, e]
        shape = image.data[level].shape
        values = np.zeros((4, *shape)) if level == 2 else np.array([spread(each) for each in levels[0]])  # type: ignore[operator]
        part = np.zeros((4, box[1] - box[0], box[3] - box[2]), np.float32)
        x, y = (emitters[e, :2] - (side - 1) / 2) / side
        index = float(spline.z_index(emitters[e : e + 1, 2])[0])
        render_pattern(spline.coefficients, x, y, index, spline.psf.z_step_um, spline.psf.oversampling, box, part)
        part[:, part[0] < 0] = 0
        part[1:3] /= side
        values[:, box[0] : box[1], box[2] : box[3]] = part
        levels.insert(0, values)
    return levels


def _interpolated(coarse: Array) -> Array:
    padded = np.pad(coarse, 1, "edge")
    slope_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 32
    slope_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 32
    fine = np.empty((2 * coarse.shape[0], 2 * coarse.shape[1]))
    for i, y in enumerate((-1, 1)):
        for j, x in enumerate((-1, 1)):
            fine[i::2, j::2] = coarse / 4 + y * slope_y + x * slope_x
    return fine


def _even(coarse: Array) -> Array:
    return _upscaled(coarse, 2) / 4


def _upscaled(image: NDArray[np.generic], times: int) -> Array:
    return np.repeat(np.repeat(image, times, axis=0), times, axis=1)


def _summed(image: Array, side: int) -> Array:
    rows, columns = image.shape[0] // side, image.shape[1] // side
    sums: Array = image.reshape(rows, side, columns, side).sum(axis=(1, 3))
    return sums
