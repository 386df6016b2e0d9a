"""Compiled rendering of patterns in pieces: the cores on fine cells, the whole on the coarsest.

Pieces are concatenated in one flat array of float32, piece k N + e of emitter e of N on level k (cells of side 2^k
pixels) from ``offsets[k N + e]``: light, d/dx, d/dy and d/dz, each over the cells of its box (first row, end row, first
column, end column).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from models.pattern_spline import render_light

__all__ = ["render_pieces"]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _surroundings(light: Any, box: Any, shape: Any, around: Any) -> Any:
    # Light of the cells `around` and one more on each side, those outside the frame as their neighbours in it.
    top, left = around[0] - 1, around[2] - 1
    rows, columns = around[1] - top + 1, around[3] - left + 1
    part = np.zeros((rows, columns), np.float32)
    first, last = max(left, box[2]), min(left + columns, box[3])
    for r in range(max(top, box[0]), min(top + rows, box[1])):
        line, goal = light[r - box[0], first - box[2] : last - box[2]], part[r - top, first - left : last - left]
        for c in range(len(goal)):
            goal[c] = line[c]
    if top < 0:
        part[0] = part[1]
    if top + rows > shape[0]:
        part[rows - 1] = part[rows - 2]
    if left < 0:
        part[:, 0] = part[:, 1]
    if left + columns > shape[1]:
        part[:, columns - 1] = part[:, columns - 2]
    return part


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _take_detail(light: Any, part: Any, detail: Any) -> None:
    # What the light of a core has beyond the interpolation of that of coarser cells, `part`.
    quarter, share = np.float32(0.25), np.float32(1.0 / 32.0)
    for r in range(part.shape[0] - 2):
        here, above, below = part[r + 1], part[r], part[r + 2]
        upper, lower = detail[2 * r], detail[2 * r + 1]
        upper_light, lower_light = light[2 * r], light[2 * r + 1]
        for c in range(part.shape[1] - 2):
            middle = quarter * here[c + 1]
            slope_y = share * (below[c + 1] - above[c + 1])
            slope_x = share * (here[c + 2] - here[c])
            upper[2 * c] = upper_light[2 * c] - (middle - slope_y - slope_x)
            upper[2 * c + 1] = upper_light[2 * c + 1] - (middle - slope_y + slope_x)
            lower[2 * c] = lower_light[2 * c] - (middle + slope_y - slope_x)
            lower[2 * c + 1] = lower_light[2 * c + 1] - (middle + slope_y + slope_x)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cut(pattern: Any, box: Any, around: Any, removed: Any) -> None:
    # Move the light of the cells `around` from a pattern to `removed`: a core has it.
    r0, r1 = max(around[0], box[0]), min(around[1], box[1])
    c0, c1 = max(around[2], box[2]), min(around[3], box[3])
    if (r1 - r0) * (c1 - c0) < (around[1] - around[0]) * (around[3] - around[2]):
        removed[:] = np.float32(0.0)
    columns, top, first = c1 - c0, box[0], c0 - box[2]
    if columns <= 0:
        return
    skipped_rows, skipped = r0 - around[0], c0 - around[2]
    zero = np.float32(0.0)
    for a in range(4):
        for r in range(r0, r1):
            line = pattern[a, r - top, first : first + columns]
            goal = removed[a, r - r0 + skipped_rows, skipped : skipped + columns]
            for c in range(columns):
                goal[c] = line[c]
            for c in range(columns):
                line[c] = zero


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
    old_removed: Any,
    share: Any,
    detail: Any,
    removed: Any,
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
    old_offsets, old_share, old_detail, old_removed : ndarray
        Pieces of the first emitters that are copied, with the same boxes.
    share, detail, removed : ndarray of float32
        Filled; see models.fit.level_patterns.
    """
    count = len(emitters)
    old_count = (len(old_offsets) - 1) // 3
    for e in range(count):
        if stays[e]:
            for k in range(3):
                p, q = k * count + e, k * old_count + e
                share[offsets[p] : offsets[p + 1]] = old_share[old_offsets[q] : old_offsets[q + 1]]
                if k < 2:
                    detail[offsets[p] // 4 : offsets[p + 1] // 4] = old_detail[
                        old_offsets[q] // 4 : old_offsets[q + 1] // 4
                    ]
                    removed[offsets[p] // 4 : offsets[p + 1] // 4] = old_removed[
                        old_offsets[q] // 4 : old_offsets[q + 1] // 4
                    ]
            continue
        for k in range(2, -1, -1):
            p = k * count + e
            box = boxes[p]
            rows, columns = box[1] - box[0], box[3] - box[2]
            if rows <= 0 or columns <= 0:
                continue
            own = share[offsets[p] : offsets[p + 1]].reshape((4, rows, columns))
            coefficients = coefficients1 if k == 0 else (coefficients2 if k == 1 else coefficients4)
            x, y = emitters[e, 0], emitters[e, 1]
            render_light(coefficients, 1 << k, x, y, z_index[e], z_step_um, oversampling[k], box, own)
            if k == 2:
                continue
            q = p + count
            coarse = boxes[q]
            coarser = share[offsets[q] : offsets[q + 1]].reshape((4, coarse[1] - coarse[0], coarse[3] - coarse[2]))
            around = box // 2
            part = slice(offsets[p] // 4, offsets[p + 1] // 4)
            _take_detail(
                own[0],
                _surroundings(coarser[0], coarse, blocks << (1 - k), around),
                detail[part].reshape((rows, columns)),
            )
            _cut(coarser, coarse, around, removed[part].reshape((4, rows // 2, columns // 2)))
