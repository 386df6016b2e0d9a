"""The compiled model of an image on cells of three sizes, and its likelihood.

Level k has cells of side 2^k pixels (k = 0, 1, 2); level 2 are the blocks of 4 x 4 pixels. The model of fine cells is
that of the coarser ones, interpolated, plus the details of cores. Interpolation keeps sums: a cell of light S gives
each of its four parts S / 4, plus or minus a 32nd of the difference of its neighbours on either side, which is exact
for light that changes linearly.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["cell_constants", "compare", "constant_cost", "mark_blocks", "model_light"]

_LN2 = np.float32(0.6931471805599453)
_ROOT_BITS = np.int32(0x3F3504F3)
"""Of the root of one half, as a float32."""
_MANTISSA = np.int32(0x007FFFFF)

_GAP = 4
"""Blocks between fine cells that are computed too, because long rows are faster."""


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz", "reassoc"})
def _excess(model: Any, data: Any, variance: Any, buffers: Any, out: Any) -> None:
    # Negative log-likelihood of a row of cells, relative to the best model that is at least `variance`.
    one, half = np.float32(1.0), np.float32(0.5)
    count = len(model)
    ratio, mantissa = buffers[0], buffers[1]
    ratio_bits, mantissa_bits = ratio.view(np.int32), mantissa.view(np.int32)
    for c in range(count):
        ratio[c] = model[c] / max(data[c], variance)
    for c in range(count):
        # Logarithm as in the Cephes library: ratio = 2^exponent (1 + f), f from sqrt(1/2) - 1 to sqrt(2) - 1.
        mantissa_bits[c] = ((ratio_bits[c] - _ROOT_BITS) & _MANTISSA) + _ROOT_BITS
    for c in range(count):
        exponent = (ratio_bits[c] - _ROOT_BITS) >> np.int32(23)
        reference = max(data[c], variance)
        excess = (model[c] - reference) / reference
        f = excess if exponent == 0 else mantissa[c] - one
        p = np.float32(7.0376836292e-2)
        p = p * f - np.float32(1.1514610310e-1)
        p = p * f + np.float32(1.1676998740e-1)
        p = p * f - np.float32(1.2420140846e-1)
        p = p * f + np.float32(1.4249322787e-1)
        p = p * f - np.float32(1.6668057665e-1)
        p = p * f + np.float32(2.0000714765e-1)
        p = p * f - np.float32(2.4999993993e-1)
        p = p * f + np.float32(3.3333331174e-1)
        bend = f * f * (half - f * p)
        powers = np.float32(exponent) * _LN2
        # ratio - 1 - log(ratio), without cancellation where the ratio is near 1.
        gap = (excess - f) - powers + bend
        logarithm = f - bend + powers
        out[c] = reference * gap + (reference - data[c]) * logarithm


@numba.njit(cache=True, nogil=True, error_model="numpy")
def cell_constants(data1: Any, data2: Any, data4: Any, variance: Any, constant2: Any, constant4: Any) -> None:
    """Log-likelihood lost where a cell of 2 x 2 or 4 x 4 pixels has an even model instead of its best one.

    Parameters
    ----------
    data1, data2, data4 : ndarray of float32, shapes (4 h, 4 w), (2 h, 2 w), (h, w)
    variance : float32
        Read variance; the reference of each pixel is at least this.
    constant2, constant4 : ndarray of float32, shapes (2 h, 2 w), (h, w)
        Filled.
    """
    width = data1.shape[1]
    mean, lost = np.empty(width, np.float32), np.empty(width, np.float32)
    buffers = np.empty((2, width), np.float32)
    for side, data, constant in ((2, data2, constant2), (4, data4, constant4)):
        share = np.float32(1.0 / (side * side))
        constant[:] = np.float32(0.0)
        for r in range(data1.shape[0]):
            seen, sums = data[r // side], constant[r // side]
            for c in range(len(seen)):
                level = max(seen[c] * share, variance)
                for i in range(side * c, side * (c + 1)):
                    mean[i] = level
            _excess(mean, data1[r], variance, buffers, lost)
            for c in range(len(seen)):
                for i in range(side * c, side * (c + 1)):
                    sums[c] += lost[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def mark_blocks(boxes: Any, height: Any, width: Any, level: Any) -> None:
    """Refine the cells of blocks, in place, where emitters have cores.

    Parameters
    ----------
    boxes : ndarray of int64, shape (3, N, 4)
    height, width : int
        Of the image; blocks partly outside get cells of one pixel.
    level : ndarray of int8, shape (h, w)
    """
    rows, columns = level.shape
    if height % 4:
        level[rows - 1, :] = 0
    if width % 4:
        level[:, columns - 1] = 0
    for k in range(1, -1, -1):
        side = 4 >> k
        for e in range(boxes.shape[1]):
            box = boxes[k, e]
            for r in range(box[0] // side, box[1] // side):
                for c in range(box[2] // side, box[3] // side):
                    level[r, c] = min(level[r, c], k)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def constant_cost(level: Any, constant2: Any, constant4: Any) -> Any:
    """Part of the cost that depends on the cells alone; `constant2`, `constant4`: see `cell_constants`."""
    total = 0.0
    for r in range(level.shape[0]):
        for c in range(level.shape[1]):
            if level[r, c] == 2:
                total += constant4[r, c]
            elif level[r, c] == 1:
                for i in range(2 * r, 2 * r + 2):
                    total += constant2[i, 2 * c] + constant2[i, 2 * c + 1]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _add(light: Any, box: Any, photons: Any, target: Any) -> None:
    # Add a pattern (rows, columns) to an image.
    scale = np.float32(photons)
    for r in range(box[1] - box[0]):
        line, goal = light[r], target[box[0] + r, box[2] : box[3]]
        for c in range(len(line)):
            goal[c] += scale * line[c]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _interpolate(parent: Any, child: Any, r: Any, begin: Any, end: Any) -> None:
    # Fill the two rows of `child` below row r of `parent`, for its columns from `begin` to `end`.
    height, width = parent.shape
    here, above, below = parent[r], parent[max(r - 1, 0)], parent[min(r + 1, height - 1)]
    upper, lower = child[2 * r], child[2 * r + 1]
    quarter, share = np.float32(0.25), np.float32(1.0 / 32.0)
    for c in range(begin, end):
        before, after = max(c - 1, 0), min(c + 1, width - 1)
        middle = quarter * here[c]
        slope_y = share * (below[c] - above[c])
        slope_x = share * (here[after] - here[before])
        upper[2 * c] = middle - slope_y - slope_x
        upper[2 * c + 1] = middle - slope_y + slope_x
        lower[2 * c] = middle + slope_y - slope_x
        lower[2 * c + 1] = middle + slope_y + slope_x


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _next_run(level: Any, row: Any, start: Any) -> Any:
    # First and end column of the next blocks of a row, from `start` on, that have cells of one pixel; equal where there
    # are none. Small gaps between them do not end a run.
    columns = level.shape[1]
    begin = start
    while begin < columns and level[row, begin] > 0:
        begin += 1
    end = begin
    for c in range(begin, columns):
        if level[row, c] == 0:
            end = c + 1
        elif c - end >= _GAP:
            break
    return begin, end


@numba.njit(cache=True, nogil=True, error_model="numpy")
def model_light(
    level: Any,
    boxes: Any,
    offsets: Any,
    share: Any,
    detail: Any,
    removed: Any,
    photons: Any,
    model1: Any,
    model2: Any,
    model4: Any,
) -> None:
    """Expected light of the emitters alone.

    Parameters
    ----------
    level : ndarray of int8, shape (h, w)
    boxes, offsets, share, detail, removed : ndarray
        Of the pieces.
    photons : ndarray of float64, shape (N,)
    model1, model2, model4 : ndarray of float32, shapes (4 h, 4 w), (2 h, 2 w), (h, w)
        Filled; the first one only where blocks have its cells.
    """
    count = len(photons)
    model4[:] = np.float32(0.0)
    for e in range(count):
        p = 2 * count + e
        box = boxes[p]
        rows, columns = box[1] - box[0], box[3] - box[2]
        _add(share[offsets[p] : offsets[p] + rows * columns].reshape((rows, columns)), box, photons[e], model4)
        core = boxes[count + e] // 2
        rows, columns = core[1] - core[0], core[3] - core[2]
        at = offsets[count + e] // 4
        _add(removed[at : at + rows * columns].reshape((rows, columns)), core, photons[e], model4)
    for r in range(model4.shape[0]):
        _interpolate(model4, model2, r, 0, model4.shape[1])
    _add_details(1, boxes, offsets, detail, photons, model2)
    for row in range(level.shape[0]):
        begin, end = _next_run(level, row, 0)
        while end > begin:
            for r in range(2 * row, 2 * row + 2):
                _interpolate(model2, model1, r, 2 * begin, 2 * end)
            begin, end = _next_run(level, row, end)
    _add_details(0, boxes, offsets, detail, photons, model1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_details(level: Any, boxes: Any, offsets: Any, detail: Any, photons: Any, model: Any) -> None:
    count = len(photons)
    for e in range(count):
        p = level * count + e
        box = boxes[p]
        shape = (box[1] - box[0], box[3] - box[2])
        at = offsets[p] // 4
        _add(detail[at : at + shape[0] * shape[1]].reshape(shape), box, photons[e], model)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz", "reassoc"})
def _compare_row(
    data: Any,
    fixed: Any,
    background: Any,
    variance: Any,
    mask: Any,
    model: Any,
    weight: Any,
    pull: Any,
    buffers: Any,
) -> Any:
    # One row of cells where `mask` is 1: fills the model with all its light, and 1 / variance and data / model - 1.
    least, zero = np.float32(0.5) * variance, np.float32(0.0)
    for c in range(len(mask)):
        wanted = model[c] + fixed[c] + background
        expected = max(wanted, least)
        # Interpolation undershoots beside bright edges. Where the model is clipped its cost does not change.
        counts = mask[c] if wanted > least else zero
        w = counts / expected
        model[c] = expected
        weight[c] = w
        pull[c] = data[c] * w - counts
    cost = buffers[2]
    _excess(model, data, variance, buffers, cost)
    total = np.float32(0.0)
    for c in range(len(mask)):
        total += mask[c] * cost[c]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _restrict(weight: Any, coarse: Any, r: Any, begin: Any, end: Any) -> None:
    # Effective weights of a row of coarse cells, from their parts: a quarter of the light in each.
    upper, lower, out = weight[2 * r], weight[2 * r + 1], coarse[r]
    share = np.float32(1.0 / 16.0)
    for c in range(begin, end):
        out[c] += share * (upper[2 * c] + upper[2 * c + 1] + lower[2 * c] + lower[2 * c + 1])


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _transpose(pull: Any, coarse: Any, r: Any, begin: Any, end: Any, along_x: Any) -> None:
    # Adjoint of the interpolation, of a row of coarse cells.
    height, width = coarse.shape
    upper, lower = pull[2 * r], pull[2 * r + 1]
    here, below, above = coarse[r], coarse[min(r + 1, height - 1)], coarse[max(r - 1, 0)]
    quarter, share = np.float32(0.25), np.float32(1.0 / 32.0)
    for c in range(begin, end):
        first, second = upper[2 * c] + lower[2 * c], upper[2 * c + 1] + lower[2 * c + 1]
        here[c] += quarter * (first + second)
        along_x[c] = share * (second - first)
    for c in range(begin, end):
        along_y = share * (lower[2 * c] + lower[2 * c + 1] - upper[2 * c] - upper[2 * c + 1])
        below[c] += along_y
        above[c] -= along_y
    for c in range(begin, end):
        here[min(c + 1, width - 1)] += along_x[c]
        here[max(c - 1, 0)] -= along_x[c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def compare(
    data1: Any,
    data2: Any,
    data4: Any,
    fixed1: Any,
    fixed2: Any,
    fixed4: Any,
    level: Any,
    height: Any,
    width: Any,
    background: Any,
    variance: Any,
    model1: Any,
    model2: Any,
    model4: Any,
    weight1: Any,
    weight2: Any,
    weight4: Any,
    pull1: Any,
    pull2: Any,
    pull4: Any,
) -> Any:
    """Compare light with data; returns the cost without the part that depends on the cells alone.

    Parameters
    ----------
    data1, data2, data4, fixed1, fixed2, fixed4 : ndarray of float32
        Of a `LevelImage`.
    level : ndarray of int8, shape (h, w)
    height, width : int
        Of the image.
    background, variance : float
        Background and read variance of a pixel.
    model1, model2, model4 : ndarray of float32
        Light of `model_light`; in the cells that are compared it becomes the whole model.
    weight1, weight2, weight4 : ndarray of float32
        Filled with 1 / variance, on coarser levels with effective weights.
    pull1, pull2, pull4 : ndarray of float32
        Filled with derivatives of the log-likelihood by the light of a cell of each level.
    """
    rows, columns = level.shape
    weight2[:] = np.float32(0.0)
    pull1[:] = np.float32(0.0)
    pull2[:] = np.float32(0.0)
    mask = np.empty(4 * columns, np.float32)
    buffers = np.empty((3, 4 * columns), np.float32)
    slopes = np.empty(2 * columns, np.float32)
    zero, one = np.float32(0.0), np.float32(1.0)
    total = 0.0
    for row in range(rows):
        begin, end = _next_run(level, row, 0)
        while end > begin:
            for c in range(begin, end):
                mask[4 * c : 4 * c + 4] = one if level[row, c] == 0 else zero
            mask[width:] = zero
            part = slice(4 * begin, 4 * end)
            for r in range(4 * row, 4 * row + 4):
                if r >= height:
                    mask[part] = zero
                total += _compare_row(
                    data1[r, part],
                    fixed1[r, part],
                    np.float32(background),
                    np.float32(variance),
                    mask[part],
                    model1[r, part],
                    weight1[r, part],
                    pull1[r, part],
                    buffers,
                )
            begin, end = _next_run(level, row, end)
        begin, end = columns, 0
        for c in range(columns):
            is_middle = level[row, c] == 1
            mask[2 * c] = mask[2 * c + 1] = one if is_middle else zero
            if is_middle:
                begin, end = min(begin, c), c + 1
        if end > begin:
            part = slice(2 * begin, 2 * end)
            for r in range(2 * row, 2 * row + 2):
                total += _compare_row(
                    data2[r, part],
                    fixed2[r, part],
                    np.float32(4.0 * background),
                    np.float32(4.0 * variance),
                    mask[part],
                    model2[r, part],
                    weight2[r, part],
                    pull2[r, part],
                    buffers,
                )
        for c in range(columns):
            mask[c] = one if level[row, c] == 2 else zero
        total += _compare_row(
            data4[row],
            fixed4[row],
            np.float32(16.0 * background),
            np.float32(16.0 * variance),
            mask[:columns],
            model4[row],
            weight4[row],
            pull4[row],
            buffers,
        )
    # Weights and pulls are zero where the cells of a level are not compared.
    for row in range(rows):
        begin, end = _next_run(level, row, 0)
        while end > begin:
            for r in range(2 * row, 2 * row + 2):
                _restrict(weight1, weight2, r, 2 * begin, 2 * end)
                _transpose(pull1, pull2, r, 2 * begin, 2 * end, slopes)
            begin, end = _next_run(level, row, end)
    for row in range(rows):
        _restrict(weight2, weight4, row, 0, columns)
        _transpose(pull2, pull4, row, 0, columns, slopes)
    return total
