"""Compiled sums over the cells of a model: residuals, misfit of each pattern, and evidence for each emitter."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from models.fit.cell_model import model_light

__all__ = ["block_residual", "misfit", "removal_losses"]

_LUCK = 2.0
"""As in models.fit.normal_equations: standard deviations of chi2 that are attributed to noise."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def block_residual(
    data1: Any,
    data2: Any,
    data4: Any,
    level: Any,
    height: Any,
    width: Any,
    model1: Any,
    model2: Any,
    model4: Any,
    residual: Any,
    variance: Any,
) -> None:
    """Fill data minus model, and its variance, of each block (h, w), from its cells inside the image."""
    rows, columns = level.shape
    for row in range(rows):
        for column in range(columns):
            k = level[row, column]
            if k == 2:
                variance[row, column] = model4[row, column]
                residual[row, column] = data4[row, column] - model4[row, column]
                continue
            side = 4 >> k
            seen = np.float32(0.0)
            expected = np.float32(0.0)
            for r in range(side * row, side * (row + 1)):
                for c in range(side * column, side * (column + 1)):
                    if k == 1:
                        seen += data2[r, c]
                        expected += model2[r, c]
                    elif r < height and c < width:
                        seen += data1[r, c]
                        expected += model1[r, c]
            variance[row, column] = expected
            residual[row, column] = seen - expected


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _cell_misfits(data: Any, model: Any, maps: Any) -> None:
    # Of each cell of one size: chi2, 1, 1, 1 / variance; see `_misfit_maps`.
    for r in range(len(data)):
        seen, expected, squares, inverse = data[r], model[r], maps[0, r], maps[3, r]
        for c in range(len(seen)):
            off = seen[c] - expected[c]
            over = np.float32(1.0) / expected[c]
            squares[c] = off * off * over
            inverse[c] = over
    maps[1:3] = np.float32(1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _halve(fine: Any, coarse: Any, row: Any, column: Any) -> None:
    # A coarse cell from its four parts, each with a quarter of the light.
    r, c = 2 * row, 2 * column
    for m in range(4):
        share = np.float32(1.0 / 4.0 if m < 2 else (1.0 / 16.0 if m == 2 else 1.0 / 64.0))
        coarse[m, row, column] = share * (fine[m, r, c] + fine[m, r, c + 1] + fine[m, r + 1, c] + fine[m, r + 1, c + 1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _misfit_maps(data: Any, model: Any, maps: Any, level: Any, height: Any, width: Any) -> None:
    # Fill maps (4, rows, columns) for each size of cells: light x chi2, light, its square, and its cube / variance, for
    # one unit of light of a cell that is spread evenly over the cells in use. Pixels outside the image have no part.
    for k in range(3):
        _cell_misfits(data[k], model[k], maps[k])
    maps[0][:, height:] = 0.0
    maps[0][:, :, width:] = 0.0
    rows, columns = level.shape
    for row in range(rows):
        for column in range(columns):
            if level[row, column] == 2:
                continue
            if level[row, column] == 0:
                for r in range(2 * row, 2 * row + 2):
                    for c in range(2 * column, 2 * column + 2):
                        _halve(maps[0], maps[1], r, c)
            _halve(maps[1], maps[2], row, column)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _add_row(light: Any, maps: Any, row: Any, first: Any, sums: Any) -> None:
    last = first + len(light)
    squares, inside = maps[0, row, first:last], maps[1, row, first:last]
    square, inverse = maps[2, row, first:last], maps[3, row, first:last]
    s0 = s1 = s2 = s3 = np.float32(0.0)
    for c in range(len(light)):
        p = light[c]
        s0 += p * squares[c]
        s1 += p * inside[c]
        s2 += p * p * square[c]
        s3 += p * p * p * inverse[c]
    sums[0] += s0
    sums[1] += s1
    sums[2] += s2
    sums[3] += s3


@numba.njit(cache=True, nogil=True, error_model="numpy")
def misfit(
    data1: Any,
    data2: Any,
    data4: Any,
    level: Any,
    height: Any,
    width: Any,
    model1: Any,
    model2: Any,
    model4: Any,
    boxes: Any,
    offsets: Any,
    share: Any,
    photons: Any,
) -> Any:
    """Chi2 of each pattern, weighted by its light, and the PSF model error that would explain it.

    The same as `models.fit.normal_equations.misfit` on cells; returns two arrays of shape (N,).
    """
    rows, columns = level.shape
    count = len(photons)
    maps = (
        np.empty((4, 4 * rows, 4 * columns), np.float32),
        np.empty((4, 2 * rows, 2 * columns), np.float32),
        np.empty((4, rows, columns), np.float32),
    )
    _misfit_maps((data1, data2, data4), (model1, model2, model4), maps, level, height, width)
    chi2 = np.ones(count)
    error = np.zeros(count)
    sums = np.empty(4)
    for e in range(count):
        sums[:] = 0.0
        for k in range(3):
            p = k * count + e
            r0, r1, c0, c1 = boxes[p]
            for r in range(r0, r1):
                at = offsets[p] + (r - r0) * (c1 - c0)
                _add_row(share[at : at + c1 - c0], maps[k], r, c0, sums)
        total, light, square, power = sums
        if light > 0 and power > 0:
            chi2[e] = total / light
            unexplained = total - light - _LUCK * np.sqrt(2.0 * square)
            error[e] = np.sqrt(max(unexplained, 0.0) / power) / photons[e]
    return chi2, error


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _removal_loss(data: Any, model: Any, light: Any, least: Any) -> Any:
    rest = max(float(model) - float(light), least)
    return (rest - model) - data * np.log(rest / model)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def removal_losses(
    data1: Any,
    data2: Any,
    data4: Any,
    level: Any,
    height: Any,
    width: Any,
    variance: Any,
    model1: Any,
    model2: Any,
    model4: Any,
    boxes: Any,
    offsets: Any,
    share: Any,
    detail: Any,
    removed: Any,
    photons: Any,
    losses: Any,
) -> None:
    """Fill the log-likelihood (N,) that is lost when one emitter is removed and all others are held fixed."""
    rows, columns = level.shape
    count = len(photons)
    for e in range(count):
        losses[e] = 0.0
        whole = boxes[2 * count + e]
        if whole[1] <= whole[0] or whole[3] <= whole[2]:
            continue
        # Interpolated light reaches a block beyond the box.
        top, bottom = max(whole[0] - 2, 0), min(whole[1] + 2, rows)
        left, right = max(whole[2] - 2, 0), min(whole[3] + 2, columns)
        here = level[top:bottom, left:right]
        origin = np.array([top, top, left, left])
        moved = np.empty((3, 4), np.int64)
        starts = np.empty(3, np.int64)
        for k in range(3):
            moved[k] = boxes[k * count + e] - origin * (4 >> k)
        high, wide = bottom - top, right - left
        light4 = np.empty((high, wide), np.float32)
        light2 = np.empty((2 * high, 2 * wide), np.float32)
        light1 = np.empty((4 * high, 4 * wide), np.float32)
        for k in range(3):
            starts[k] = offsets[k * count + e]
        model_light(here, moved, starts, share, detail, removed, photons[e : e + 1], light1, light2, light4)
        for row in range(high):
            for column in range(wide):
                k = here[row, column]
                side = 4 >> k
                for r in range(side * row, side * (row + 1)):
                    for c in range(side * column, side * (column + 1)):
                        i, j = r + side * top, c + side * left
                        if k == 2:
                            losses[e] += _removal_loss(data4[i, j], model4[i, j], light4[r, c], 8.0 * variance)
                        elif k == 1:
                            losses[e] += _removal_loss(data2[i, j], model2[i, j], light2[r, c], 2.0 * variance)
                        elif i < height and j < width:
                            losses[e] += _removal_loss(data1[i, j], model1[i, j], light1[r, c], 0.5 * variance)
