"""The compiled sums of a joint fit on cells of three sizes: model, likelihood, normal equations and misfit.

Level k has cells of side 2^k pixels (k = 0, 1, 2); level 2 are the blocks of 4 x 4 pixels. Pieces of patterns are
concatenated in one flat array of float32, piece k N + e of emitter e of N on level k from ``offsets[k N + e]``: light,
d/dx, d/dy and d/dz, each over the cells of its box (first row, end row, first column, end column).

The model of fine cells is that of the coarser ones, interpolated, plus the details of pieces. Interpolation keeps sums:
a cell of light S gives each of its four parts S / 4, plus or minus a 32nd of the difference of its neighbours on either
side, which is exact for light that changes linearly. The gradient is that of this model. In the Fisher matrix light of
coarse cells is spread evenly over finer ones, which loses nearly nothing: then a sum over fine cells equals one over
coarse cells with effective weights.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from models.pattern_spline import render_pattern

__all__ = [
    "assemble",
    "block_residual",
    "cell_constants",
    "compare",
    "mark_blocks",
    "misfit",
    "model_light",
    "removal_losses",
    "render_pieces",
]

_LUCK = 2.0
"""As in models.fit.normal_equations: standard deviations of chi2 that are attributed to noise."""

_LN2 = np.float32(0.6931471805599453)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"}, inline="always")
def _excess(model: Any, data: Any, reference: Any) -> Any:
    # Negative log-likelihood relative to the model `reference`.
    ratio = model / reference
    return (model - reference) - data * np.log(ratio)


@numba.njit(cache=True, nogil=True)
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
    for side, data, constant in ((2, data2, constant2), (4, data4, constant4)):
        area = np.float32(side * side)
        for r in range(data.shape[0]):
            for c in range(data.shape[1]):
                mean = max(data[r, c] / area, variance)
                total = np.float32(0.0)
                for i in range(side):
                    for j in range(side):
                        value = data1[side * r + i, side * c + j]
                        total += _excess(mean, value, max(value, variance))
                constant[r, c] = total


@numba.njit(cache=True, nogil=True)
def mark_blocks(boxes: Any, height: Any, width: Any, level: Any, constant2: Any, constant4: Any) -> Any:
    """Refine the cells of blocks, in place, where emitters have cores; returns the constant part of the cost.

    Parameters
    ----------
    boxes : ndarray of int64, shape (3, N, 4)
    height, width : int
        Of the image; blocks partly outside get cells of one pixel.
    level : ndarray of int8, shape (h, w)
    constant2, constant4 : ndarray of float32
        See `cell_constants`.
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
    total = 0.0
    for r in range(rows):
        for c in range(columns):
            if level[r, c] == 2:
                total += constant4[r, c]
            elif level[r, c] == 1:
                for i in range(2):
                    for j in range(2):
                        total += constant2[2 * r + i, 2 * c + j]
    return total


@numba.njit(cache=True, nogil=True)
def _render(
    coefficients: Any,
    side: Any,
    oversampling: Any,
    z_step_um: Any,
    emitter: Any,
    z_index: Any,
    box: Any,
    pattern: Any,
) -> None:
    # A pattern on cells of `side`, without negative light (see normal_equations.render_all), slopes per camera pixel.
    x = (emitter[0] - 0.5 * (side - 1)) / side
    y = (emitter[1] - 0.5 * (side - 1)) / side
    render_pattern(coefficients, x, y, z_index, z_step_um, oversampling, box, pattern)
    zero, per_pixel = np.float32(0.0), np.float32(1.0 / side)
    for r in range(box[1] - box[0]):
        for c in range(box[3] - box[2]):
            if pattern[0, r, c] < zero:
                pattern[:, r, c] = zero
            pattern[1, r, c] *= per_pixel
            pattern[2, r, c] *= per_pixel


@numba.njit(cache=True, nogil=True)
def _take_detail(parent: Any, parent_box: Any, shape: Any, child: Any, box: Any, detail: Any) -> None:
    # What a piece has beyond the interpolation of its coarser piece; the latter is zero outside its box.
    eighth = np.float32(1.0 / 32.0)
    quarter = np.float32(0.25)
    zero = np.float32(0.0)
    top, bottom, left, right = parent_box
    for a in range(4):
        source = parent[a]
        for r in range(box[0] // 2, box[1] // 2):
            up, down = max(r - 1, 0), min(r + 1, shape[0] - 1)
            for c in range(box[2] // 2, box[3] // 2):
                before, after = max(c - 1, 0), min(c + 1, shape[1] - 1)
                inside_row = top <= r < bottom
                inside_column = left <= c < right
                here = source[r - top, c - left] if inside_row and inside_column else zero
                above = source[up - top, c - left] if top <= up < bottom and inside_column else zero
                below = source[down - top, c - left] if top <= down < bottom and inside_column else zero
                behind = source[r - top, before - left] if inside_row and left <= before < right else zero
                ahead = source[r - top, after - left] if inside_row and left <= after < right else zero
                middle = quarter * here
                slope_y = eighth * (below - above)
                slope_x = eighth * (ahead - behind)
                i, j = 2 * r - box[0], 2 * c - box[2]
                detail[a, i, j] = child[a, i, j] - (middle - slope_y - slope_x)
                detail[a, i, j + 1] = child[a, i, j + 1] - (middle - slope_y + slope_x)
                detail[a, i + 1, j] = child[a, i + 1, j] - (middle + slope_y - slope_x)
                detail[a, i + 1, j + 1] = child[a, i + 1, j + 1] - (middle + slope_y + slope_x)


@numba.njit(cache=True, nogil=True)
def _cut(pattern: Any, box: Any, finer_box: Any) -> None:
    # No light where a finer piece has it.
    r0, r1 = max(finer_box[0] // 2, box[0]) - box[0], min(finer_box[1] // 2, box[1]) - box[0]
    c0, c1 = max(finer_box[2] // 2, box[2]) - box[2], min(finer_box[3] // 2, box[3]) - box[2]
    if r1 > r0 and c1 > c0:
        pattern[:, r0:r1, c0:c1] = np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def render_pieces(
    coefficients1: Any,
    coefficients2: Any,
    coefficients4: Any,
    oversampling: Any,
    z_step_um: Any,
    emitters: Any,
    z_index: Any,
    stays: Any,
    blocks: Any,
    boxes: Any,
    offsets: Any,
    old_offsets: Any,
    old_share: Any,
    old_detail: Any,
    share: Any,
    detail: Any,
) -> None:
    """Render all pieces; those of emitters marked in `stays` are copied.

    Parameters
    ----------
    coefficients1, coefficients2, coefficients4 : ndarray of float32, shape (Z, N, N)
        Splines on cells of each level.
    oversampling : ndarray of int64, shape (3,)
    z_step_um : float
    emitters : ndarray of float64, shape (N, 4)
    z_index : ndarray of float64, shape (N,)
        Depths in planes.
    stays : ndarray of bool, shape (N,)
    blocks : ndarray of int64, shape (2,)
        Rows and columns of blocks.
    boxes : ndarray of int64, shape (3 N, 4)
    offsets : ndarray of int64, shape (3 N + 1,)
    old_offsets, old_share, old_detail : ndarray
        Pieces of the first emitters that are copied, with the same boxes.
    share, detail : ndarray of float32
        Filled; see models.fit.level_patterns.
    """
    count = len(emitters)
    old_count = (len(old_offsets) - 1) // 3
    for e in range(count):
        if stays[e]:
            for k in range(3):
                part = slice(offsets[k * count + e], offsets[k * count + e + 1])
                source = slice(old_offsets[k * old_count + e], old_offsets[k * old_count + e + 1])
                share[part] = old_share[source]
                detail[part] = old_detail[source]
            continue
        for k in range(2, -1, -1):
            p = k * count + e
            box = boxes[p]
            rows, columns = box[1] - box[0], box[3] - box[2]
            if rows <= 0 or columns <= 0:
                continue
            own = share[offsets[p] : offsets[p + 1]].reshape((4, rows, columns))
            rest = detail[offsets[p] : offsets[p + 1]].reshape((4, rows, columns))
            if k == 2:
                _render(coefficients4, 4, oversampling[2], z_step_um, emitters[e], z_index[e], box, own)
                rest[:] = own
                continue
            if k == 1:
                _render(coefficients2, 2, oversampling[1], z_step_um, emitters[e], z_index[e], box, own)
            else:
                _render(coefficients1, 1, oversampling[0], z_step_um, emitters[e], z_index[e], box, own)
            q = p + count
            around = boxes[q]
            coarser = share[offsets[q] : offsets[q + 1]].reshape((4, around[1] - around[0], around[3] - around[2]))
            _take_detail(coarser, around, blocks << (1 - k), own, box, rest)
            _cut(coarser, around, box)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _add_pieces(level: Any, boxes: Any, offsets: Any, detail: Any, photons: Any, target: Any) -> None:
    count = len(photons)
    for e in range(count):
        p = level * count + e
        r0, r1, c0, c1 = boxes[p]
        columns = c1 - c0
        light = np.float32(photons[e])
        for r in range(r0, r1):
            at = offsets[p] + (r - r0) * columns
            line = detail[at : at + columns]
            goal = target[r, c0:c1]
            for c in range(columns):
                goal[c] += light * line[c]


@numba.njit(cache=True, nogil=True, fastmath=True)
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


@numba.njit(cache=True, nogil=True, inline="always")
def _span(level: Any, row: Any, finest: Any) -> Any:
    # First and end column of the blocks of a row with cells of `finest` or finer.
    begin, end = level.shape[1], 0
    for c in range(level.shape[1]):
        if level[row, c] <= finest:
            begin = min(begin, c)
            end = c + 1
    return begin, end


@numba.njit(cache=True, nogil=True)
def model_light(
    level: Any, boxes: Any, offsets: Any, detail: Any, photons: Any, model1: Any, model2: Any, model4: Any
) -> None:
    """Expected light of the emitters alone.

    Parameters
    ----------
    level : ndarray of int8, shape (h, w)
    boxes, offsets, detail : ndarray
        Of the pieces.
    photons : ndarray of float64, shape (N,)
    model1, model2, model4 : ndarray of float32, shapes (4 h, 4 w), (2 h, 2 w), (h, w)
        Filled; the first one only between the first and the last block of a row that have its cells.
    """
    model4[:] = np.float32(0.0)
    _add_pieces(2, boxes, offsets, detail, photons, model4)
    for r in range(model4.shape[0]):
        _interpolate(model4, model2, r, 0, model4.shape[1])
    _add_pieces(1, boxes, offsets, detail, photons, model2)
    for row in range(level.shape[0]):
        begin, end = _span(level, row, 0)
        if end > begin:
            for r in range(2 * row, 2 * row + 2):
                _interpolate(model2, model1, r, 2 * begin, 2 * end)
    _add_pieces(0, boxes, offsets, detail, photons, model1)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz", "reassoc"})
def _compare_row(
    data: Any,
    fixed: Any,
    background: Any,
    variance: Any,
    mask: Any,
    model: Any,
    weight: Any,
    pull: Any,
    buffer: Any,
) -> Any:
    # One row of cells where `mask` is 1: fills the model with all its light, and 1 / variance and data / model - 1.
    bits = buffer.view(np.int32)
    one, half = np.float32(1.0), np.float32(0.5)
    least = half * variance
    for c in range(len(mask)):
        expected = max(model[c] + fixed[c] + background, least)
        reference = max(data[c], variance)
        model[c] = expected
        buffer[c] = expected / reference
        weight[c] = mask[c] / expected
        pull[c] = data[c] * weight[c] - mask[c]
    total = np.float32(0.0)
    for c in range(len(mask)):
        # Logarithm as in the Cephes library: ratio = 2^exponent (1 + f), f from sqrt(1/2) - 1 to sqrt(2) - 1.
        shifted = bits[c] - np.int32(0x3F3504F3)
        exponent = shifted >> np.int32(23)
        bits[c] = (shifted & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)
        expected = model[c]
        reference = max(data[c], variance)
        excess = (expected - reference) / reference
        f = excess if exponent == 0 else buffer[c] - one
        p = np.float32(7.0376836292e-2)
        p = p * f - np.float32(1.1514610310e-1)
        p = p * f + np.float32(1.1676998740e-1)
        p = p * f - np.float32(1.2420140846e-1)
        p = p * f + np.float32(1.4249322787e-1)
        p = p * f - np.float32(1.6668057665e-1)
        p = p * f + np.float32(2.0000714765e-1)
        p = p * f - np.float32(2.4999993993e-1)
        p = p * f + np.float32(3.3333331174e-1)
        bend = half * f * f - f * f * f * p
        powers = np.float32(exponent) * _LN2
        # ratio - 1 - log(ratio), without cancellation where the ratio is near 1.
        gap = (excess - f) - powers + bend
        logarithm = f - bend + powers
        total += mask[c] * (reference * gap + (reference - data[c]) * logarithm)
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _restrict(weight: Any, coarse: Any, r: Any, c: Any) -> None:
    coarse[r, c] = np.float32(1.0 / 16.0) * (
        weight[2 * r, 2 * c] + weight[2 * r, 2 * c + 1] + weight[2 * r + 1, 2 * c] + weight[2 * r + 1, 2 * c + 1]
    )


@numba.njit(cache=True, nogil=True, fastmath=True)
def _transpose(pull: Any, coarse: Any, r: Any, c: Any) -> None:
    # Adjoint of the interpolation of one cell.
    height, width = coarse.shape
    a, b = pull[2 * r, 2 * c], pull[2 * r, 2 * c + 1]
    d, e = pull[2 * r + 1, 2 * c], pull[2 * r + 1, 2 * c + 1]
    share = np.float32(1.0 / 32.0)
    along_y = share * (d + e - a - b)
    along_x = share * (b + e - a - d)
    coarse[r, c] += np.float32(0.25) * (a + b + d + e)
    coarse[min(r + 1, height - 1), c] += along_y
    coarse[max(r - 1, 0), c] -= along_y
    coarse[r, min(c + 1, width - 1)] += along_x
    coarse[r, max(c - 1, 0)] -= along_x


@numba.njit(cache=True, nogil=True)
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
    pull2[:] = np.float32(0.0)
    mask = np.empty(4 * columns, np.float32)
    buffer = np.empty(4 * columns, np.float32)
    zero, one = np.float32(0.0), np.float32(1.0)
    total = 0.0
    for row in range(rows):
        begin, end = _span(level, row, 0)
        if end > begin:
            for c in range(4 * begin, 4 * end):
                mask[c] = one if level[row, c // 4] == 0 and c < width else zero
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
                    buffer[part],
                )
        middle = 0
        for c in range(columns):
            is_middle = level[row, c] == 1
            middle += is_middle
            mask[2 * c] = mask[2 * c + 1] = one if is_middle else zero
        if middle:
            part = slice(0, 2 * columns)
            for r in range(2 * row, 2 * row + 2):
                total += _compare_row(
                    data2[r],
                    fixed2[r],
                    np.float32(4.0 * background),
                    np.float32(4.0 * variance),
                    mask[part],
                    model2[r],
                    weight2[r],
                    pull2[r],
                    buffer[part],
                )
        for c in range(columns):
            mask[c] = one if level[row, c] == 2 else zero
        part = slice(0, columns)
        total += _compare_row(
            data4[row],
            fixed4[row],
            np.float32(16.0 * background),
            np.float32(16.0 * variance),
            mask[part],
            model4[row],
            weight4[row],
            pull4[row],
            buffer[part],
        )
    for row in range(rows):
        for column in range(columns):
            if level[row, column] == 0:
                for r in range(2 * row, 2 * row + 2):
                    for c in range(2 * column, 2 * column + 2):
                        _restrict(weight1, weight2, r, c)
                        _transpose(pull1, pull2, r, c)
    # Pulls of fine cells act on cells beside them too, whose blocks may be coarse.
    for row in range(rows):
        for column in range(columns):
            _transpose(pull2, pull4, row, column)
            if level[row, column] < 2:
                _restrict(weight2, weight4, row, column)
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _weigh(share: Any, box: Any, weight: Any, out: Any) -> None:
    # Patterns (4, rows, columns) times the weights of their cells.
    for r in range(box[1] - box[0]):
        w = weight[box[0] + r, box[2] : box[3]]
        for a in range(4):
            line, goal = share[a, r], out[a, r]
            for c in range(len(w)):
                goal[c] = line[c] * w[c]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _quarter_sums(fine: Any, out: Any) -> None:
    # Sums over squares of 2 x 2, with a quarter of the light of the coarse cell in each.
    quarter = np.float32(0.25)
    for a in range(4):
        for r in range(out.shape[1]):
            upper, lower, goal = fine[a, 2 * r], fine[a, 2 * r + 1], out[a, r]
            for c in range(out.shape[2]):
                goal[c] = quarter * (upper[2 * c] + upper[2 * c + 1] + lower[2 * c] + lower[2 * c + 1])


@numba.njit(cache=True, nogil=True, fastmath=True)
def _overlap(weighted: Any, own: Any, other: Any, box: Any, sums: Any) -> None:
    # Sums over the common cells of weighted patterns with box `own` and patterns with box `box`; True if any.
    top, bottom = max(own[0], box[0]), min(own[1], box[1])
    left, right = max(own[2], box[2]), min(own[3], box[3])
    sums[:] = 0.0
    span = right - left
    for r in range(top, bottom):
        i, j = r - box[0], left - box[2]
        b0 = other[0, i, j : j + span]
        b1 = other[1, i, j : j + span]
        b2 = other[2, i, j : j + span]
        b3 = other[3, i, j : j + span]
        for a in range(4):
            line = weighted[a, r - own[0], left - own[2] : right - own[2]]
            s0 = np.float32(0.0)
            s1 = np.float32(0.0)
            s2 = np.float32(0.0)
            s3 = np.float32(0.0)
            for c in range(span):
                s0 += line[c] * b0[c]
                s1 += line[c] * b1[c]
                s2 += line[c] * b2[c]
                s3 += line[c] * b3[c]
            sums[a, 0] += s0
            sums[a, 1] += s1
            sums[a, 2] += s2
            sums[a, 3] += s3


@numba.njit(cache=True, nogil=True, fastmath=True)
def _inner(pattern: Any, box: Any, image: Any) -> Any:
    # Sum of a pattern (rows, columns) times an image, over its box.
    total = 0.0
    for r in range(box[1] - box[0]):
        line, values = pattern[r], image[box[0] + r, box[2] : box[3]]
        part = np.float32(0.0)
        for c in range(len(line)):
            part += line[c] * values[c]
        total += float(part)
    return total


@numba.njit(cache=True, nogil=True)
def assemble(
    boxes: Any,
    offsets: Any,
    share: Any,
    detail: Any,
    photons: Any,
    fitted: Any,
    weight1: Any,
    weight2: Any,
    weight4: Any,
    pull1: Any,
    pull2: Any,
    pull4: Any,
    matrix: Any,
    gradient: Any,
) -> None:
    """Fisher matrix and minus the gradient of the cost.

    Parameters
    ----------
    boxes, offsets, share, detail : ndarray
        Of the pieces of N emitters.
    photons : ndarray of float64, shape (N,)
    fitted : int
        Emitters from this one on have no blocks with each other.
    weight1, weight2, weight4, pull1, pull2, pull4 : ndarray of float32
        Of `compare`.
    matrix : ndarray of float64, shape (4 N + 1, 4 N + 1)
        Zero; filled. Parameters of emitter e are x, y, z, photons at 4 e; the last one is the background.
    gradient : ndarray of float64, shape (4 N + 1,)
        Zero; filled.
    """
    count = len(photons)
    last = 4 * count
    for r in range(weight4.shape[0]):
        for c in range(weight4.shape[1]):
            matrix[last, last] += 256.0 * weight4[r, c]
            gradient[last] += 16.0 * pull4[r, c]
    # Pieces hold light, d/dx, d/dy, d/dz; parameters are ordered x, y, z, photons.
    place = np.array([3, 0, 1, 2])
    largest = 0
    for p in range(3 * count):
        largest = max(largest, offsets[p + 1] - offsets[p])
    buffers = np.empty((3, largest), np.float32)
    sums = np.empty((4, 4))
    inner = np.empty((3, 4), np.int64)
    for e in range(count):
        for level in range(3):
            p = level * count + e
            box = boxes[p]
            rows, columns = box[1] - box[0], box[3] - box[2]
            if rows <= 0 or columns <= 0:
                continue
            own = share[offsets[p] : offsets[p + 1]].reshape((4, rows, columns))
            rest = detail[offsets[p] : offsets[p + 1]].reshape((4, rows, columns))
            weight = weight1 if level == 0 else (weight2 if level == 1 else weight4)
            pull = pull1 if level == 0 else (pull2 if level == 1 else pull4)
            area = float(1 << (2 * level))
            for a in range(4):
                scale = 1.0 if a == 0 else photons[e]
                gradient[4 * e + place[a]] += scale * _inner(rest[a], box, pull)
                matrix[4 * e + place[a], last] += scale * area * _inner(own[a], box, weight)
            _weigh(own, box, weight, buffers[level, : own.size].reshape(own.shape))
            inner[level] = box
            for k in range(level + 1, 3):
                fine = inner[k - 1]
                above = buffers[k - 1, : 4 * (fine[1] - fine[0]) * (fine[3] - fine[2])]
                inner[k] = fine // 2
                half = ((fine[1] - fine[0]) // 2, (fine[3] - fine[2]) // 2)
                _quarter_sums(
                    above.reshape((4, fine[1] - fine[0], fine[3] - fine[2])),
                    buffers[k, : 4 * half[0] * half[1]].reshape((4, half[0], half[1])),
                )
            for k in range(level, 3):
                mine = inner[k]
                shape = (4, mine[1] - mine[0], mine[3] - mine[2])
                weighted = buffers[k, : 4 * shape[1] * shape[2]].reshape(shape)
                for f in range(e if k == level else 0, count):
                    if (f == e and k > level) or (f != e and e >= fitted and f >= fitted):
                        continue
                    q = k * count + f
                    other_box = boxes[q]
                    if min(mine[1], other_box[1]) <= max(mine[0], other_box[0]) or min(mine[3], other_box[3]) <= max(
                        mine[2], other_box[2]
                    ):
                        continue
                    other = share[offsets[q] : offsets[q + 1]].reshape(
                        (4, other_box[1] - other_box[0], other_box[3] - other_box[2])
                    )
                    _overlap(weighted, mine, other, other_box, sums)
                    for a in range(4):
                        for b in range(4):
                            value = sums[a, b]
                            value *= photons[e] if a > 0 else 1.0
                            value *= photons[f] if b > 0 else 1.0
                            i, j = 4 * e + place[a], 4 * f + place[b]
                            if f >= e:
                                matrix[i, j] += value
                            else:
                                matrix[j, i] += value
    for i in range(last + 1):
        for j in range(i):
            matrix[i, j] = matrix[j, i]


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def _misfit_of_cell(data: Any, model: Any, sums: Any) -> None:
    off = data - model
    sums[0] = off * off / model
    sums[1] = 1.0
    sums[2] = 1.0
    sums[3] = 1.0 / model


@numba.njit(cache=True, nogil=True, fastmath=True)
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
    # Sums of light x chi2, of light, of its square, and of its cube / variance, for one unit of light of a cell.
    sums1 = np.zeros((4 * rows, 4 * columns, 4))
    sums2 = np.zeros((2 * rows, 2 * columns, 4))
    sums4 = np.zeros((rows, columns, 4))
    shares = np.array([1.0 / 4.0, 1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0])
    for row in range(rows):
        for column in range(columns):
            if level[row, column] == 2:
                _misfit_of_cell(data4[row, column], model4[row, column], sums4[row, column])
                continue
            for r in range(2 * row, 2 * row + 2):
                for c in range(2 * column, 2 * column + 2):
                    if level[row, column] == 1:
                        _misfit_of_cell(data2[r, c], model2[r, c], sums2[r, c])
                    else:
                        for i in range(2 * r, min(2 * r + 2, height)):
                            for j in range(2 * c, min(2 * c + 2, width)):
                                _misfit_of_cell(data1[i, j], model1[i, j], sums1[i, j])
                                sums2[r, c] += shares * sums1[i, j]
                    sums4[row, column] += shares * sums2[r, c]
    chi2 = np.ones(count)
    error = np.zeros(count)
    for e in range(count):
        total = 0.0
        light = 0.0
        square = 0.0
        power = 0.0
        for k in range(3):
            p = k * count + e
            r0, r1, c0, c1 = boxes[p]
            sums = sums1 if k == 0 else (sums2 if k == 1 else sums4)
            at = offsets[p]
            for r in range(r0, r1):
                for c in range(c0, c1):
                    value = share[at]
                    total += value * sums[r, c, 0]
                    light += value * sums[r, c, 1]
                    square += value * value * sums[r, c, 2]
                    power += value * value * value * sums[r, c, 3]
                    at += 1
        if light > 0 and power > 0:
            chi2[e] = total / light
            unexplained = total - light - _LUCK * np.sqrt(2.0 * square)
            error[e] = np.sqrt(max(unexplained, 0.0) / power) / photons[e]
    return chi2, error


@numba.njit(cache=True, nogil=True, inline="always")
def _removal_loss(data: Any, model: Any, light: Any, least: Any) -> Any:
    rest = max(float(model) - float(light), least)
    return (rest - model) - data * np.log(rest / model)


@numba.njit(cache=True, nogil=True)
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
    detail: Any,
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
        model_light(here, moved, starts, detail, photons[e : e + 1], light1, light2, light4)
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
