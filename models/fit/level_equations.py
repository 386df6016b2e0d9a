"""The compiled normal equations of a joint fit on cells of three sizes.

The gradient is that of the model (models.fit.cell_model). In the Fisher matrix light of coarse cells is spread evenly
over finer ones, which loses nearly nothing: then a sum over fine cells equals one over coarse cells with effective
weights.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["assemble"]

_CHUNK = 1024
"""Cells that are summed in single precision."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _window(image: Any, box: Any) -> Any:
    # The part of an image in a box, flat.
    top, bottom, left, right = box[0], box[1], box[2], box[3]
    columns = right - left
    flat = np.empty((bottom - top) * columns, np.float32)
    for r in range(top, bottom):
        at = (r - top) * columns
        line, goal = image[r, left:right], flat[at : at + columns]
        for c in range(columns):
            goal[c] = line[c]
    return flat


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _multiply(one: Any, other: Any, out: Any) -> None:
    for c in range(len(out)):
        out[c] = one[c] * other[c]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _own_sums(own: Any, box: Any, weight: Any, pull: Any, weighted: Any, sums: Any) -> None:
    # Weighted patterns (4, n), and the sums over one piece: overlaps with itself in sums[:4], with weights in sums[4],
    # with pulls in sums[5].
    rows, columns = box[1] - box[0], box[3] - box[2]
    weights, pulls = _window(weight, box), _window(pull, box)
    sums[:] = 0.0
    zero = np.float32(0.0)
    for start in range(0, rows * columns, _CHUNK):
        part = slice(start, min(start + _CHUNK, rows * columns))
        w, q = weights[part], pulls[part]
        p0, p1, p2, p3 = own[0, part], own[1, part], own[2, part], own[3, part]
        t0, t1, t2, t3 = weighted[0, part], weighted[1, part], weighted[2, part], weighted[3, part]
        _multiply(w, p0, t0)
        _multiply(w, p1, t1)
        _multiply(w, p2, t2)
        _multiply(w, p3, t3)
        s00 = s01 = s02 = s03 = s11 = s12 = s13 = s22 = s23 = s33 = zero
        for c in range(len(w)):
            a, b, d, e = p0[c], p1[c], p2[c], p3[c]
            s00 += t0[c] * a
            s01 += t0[c] * b
            s02 += t0[c] * d
            s03 += t0[c] * e
            s11 += t1[c] * b
            s12 += t1[c] * d
            s13 += t1[c] * e
            s22 += t2[c] * d
            s23 += t2[c] * e
            s33 += t3[c] * e
        w0 = w1 = w2 = w3 = q0 = q1 = q2 = q3 = zero
        for c in range(len(w)):
            w0 += t0[c]
            w1 += t1[c]
            w2 += t2[c]
            w3 += t3[c]
            q0 += q[c] * p0[c]
            q1 += q[c] * p1[c]
            q2 += q[c] * p2[c]
            q3 += q[c] * p3[c]
        sums[0, 0] += s00
        sums[0, 1] += s01
        sums[0, 2] += s02
        sums[0, 3] += s03
        sums[1, 0] += s01
        sums[1, 1] += s11
        sums[1, 2] += s12
        sums[1, 3] += s13
        sums[2, 0] += s02
        sums[2, 1] += s12
        sums[2, 2] += s22
        sums[2, 3] += s23
        sums[3, 0] += s03
        sums[3, 1] += s13
        sums[3, 2] += s23
        sums[3, 3] += s33
        sums[4, 0] += w0
        sums[4, 1] += w1
        sums[4, 2] += w2
        sums[4, 3] += w3
        sums[5, 0] += q0
        sums[5, 1] += q1
        sums[5, 2] += q2
        sums[5, 3] += q3


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _quarter_sums(fine: Any, out: Any) -> None:
    # Sums over squares of 2 x 2, with a quarter of the light of the coarse cell in each.
    quarter = np.float32(0.25)
    for a in range(4):
        for r in range(out.shape[1]):
            upper, lower, goal = fine[a, 2 * r], fine[a, 2 * r + 1], out[a, r]
            for c in range(out.shape[2]):
                goal[c] = quarter * (upper[2 * c] + upper[2 * c + 1] + lower[2 * c] + lower[2 * c + 1])


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _overlap(weighted: Any, own: Any, other: Any, box: Any, sums: Any) -> None:
    # Sums over the common cells of weighted patterns with box `own` and patterns with box `box`.
    top, bottom = max(own[0], box[0]), min(own[1], box[1])
    left, right = max(own[2], box[2]), min(own[3], box[3])
    span = right - left
    zero = np.float32(0.0)
    for r in range(top, bottom):
        i, j = r - box[0], left - box[2]
        k, m = r - own[0], left - own[2]
        b0, b1, b2, b3 = (
            other[0, i, j : j + span],
            other[1, i, j : j + span],
            other[2, i, j : j + span],
            other[3, i, j : j + span],
        )
        for a in range(0, 4, 2):
            first, second = weighted[a, k, m : m + span], weighted[a + 1, k, m : m + span]
            s0 = s1 = s2 = s3 = u0 = u1 = u2 = u3 = zero
            for c in range(span):
                s0 += first[c] * b0[c]
                s1 += first[c] * b1[c]
                s2 += first[c] * b2[c]
                s3 += first[c] * b3[c]
                u0 += second[c] * b0[c]
                u1 += second[c] * b1[c]
                u2 += second[c] * b2[c]
                u3 += second[c] * b3[c]
            sums[a, 0] += s0
            sums[a, 1] += s1
            sums[a, 2] += s2
            sums[a, 3] += s3
            sums[a + 1, 0] += u0
            sums[a + 1, 1] += u1
            sums[a + 1, 2] += u2
            sums[a + 1, 3] += u3


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _slope(pull: Any, r: Any, c: Any, axis: Any) -> Any:
    # What the pulls on the four parts of a coarse cell add to that of its next neighbour along an axis, and take from
    # that of the previous one; see cell_model.
    a, b, d, e = pull[2 * r, 2 * c], pull[2 * r, 2 * c + 1], pull[2 * r + 1, 2 * c], pull[2 * r + 1, 2 * c + 1]
    difference = d + e - a - b if axis == 0 else b + e - a - d
    return np.float32(1.0 / 32.0) * difference


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _core_gradient(core: Any, pull: Any, removed: Any, coarser: Any, coarse: Any, gradient: Any) -> None:
    # Sums with the pulls of coarse cells are the gradient of a pattern that is interpolated everywhere. In its core it
    # is not: there interpolation has no part in the model. Only cells on both sides of the border feel the difference.
    top, left = core[0] // 2, core[2] // 2
    rows, columns = core[1] // 2 - top, core[3] // 2 - left
    limits = (pull.shape[0] // 2, pull.shape[1] // 2)
    for side in range(4):
        axis, sign = side // 2, 2 * (side % 2) - 1
        for step in range(columns if axis == 0 else rows):
            if axis == 0:
                r, c = (top if sign < 0 else top + rows - 1), left + step
                beyond_r, beyond_c = r + sign, c
            else:
                r, c = top + step, (left if sign < 0 else left + columns - 1)
                beyond_r, beyond_c = r, c + sign
            if not (0 <= beyond_r < limits[0] and 0 <= beyond_c < limits[1]):
                continue
            inward = -sign * _slope(pull, beyond_r, beyond_c, axis)
            outward = sign * _slope(pull, r, c, axis)
            for a in range(4):
                gradient[a] += removed[a, r - top, c - left] * inward
            if coarse[0] <= beyond_r < coarse[1] and coarse[2] <= beyond_c < coarse[3]:
                for a in range(4):
                    gradient[a] -= coarser[a, beyond_r - coarse[0], beyond_c - coarse[2]] * outward


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shaped(flat: Any, box: Any) -> Any:
    return flat[: 4 * (box[1] - box[0]) * (box[3] - box[2])].reshape((4, box[1] - box[0], box[3] - box[2]))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _meet(one: Any, other: Any) -> Any:
    return min(one[1], other[1]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[2], other[2])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(target: Any, box: Any, part: Any, part_box: Any) -> None:
    top, left = part_box[0] - box[0], part_box[2] - box[2]
    rows, columns = part.shape[1], part.shape[2]
    for a in range(4):
        for r in range(rows):
            line, goal = part[a, r], target[a, top + r, left : left + columns]
            for c in range(columns):
                goal[c] += line[c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _joined(one: Any, other: Any) -> Any:
    if other[1] <= other[0] or other[3] <= other[2]:
        return one.copy()
    if one[1] <= one[0] or one[3] <= one[2]:
        return other.copy()
    return np.array([min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])])


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _row_sum(row: Any) -> Any:
    total = np.float32(0.0)
    for c in range(len(row)):
        total += row[c]
    return float(total)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def assemble(
    boxes: Any,
    offsets: Any,
    share: Any,
    removed: Any,
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
    boxes, offsets, share, removed : ndarray
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
        matrix[last, last] += 256.0 * _row_sum(weight4[r])
        gradient[last] += 16.0 * _row_sum(pull4[r])
    # Pieces hold light, d/dx, d/dy, d/dz; parameters are ordered x, y, z, photons.
    place = np.array([3, 0, 1, 2])
    scale = np.ones((count, 4))
    for e in range(count):
        scale[e, 1:] = photons[e]
    sums = np.empty((6, 4))
    block = np.empty((4, 4))
    pulled = np.empty(4)
    # Weighted patterns of one emitter, light of finer cells added to that of coarser ones; the second ones of its
    # cores alone.
    spans = np.empty((3, 4), np.int64)
    cores = np.zeros((3, 4), np.int64)
    for e in range(count):
        spans[0] = boxes[e]
        cores[1] = boxes[e] // 2
        spans[1] = _joined(boxes[count + e], cores[1])
        cores[2] = spans[1] // 2
        spans[2] = _joined(boxes[2 * count + e], cores[2])
        sizes = 4 * (spans[:, 1] - spans[:, 0]) * (spans[:, 3] - spans[:, 2])
        weighted1 = np.empty(sizes[0], np.float32)
        weighted2 = np.zeros(sizes[1], np.float32)
        weighted4 = np.zeros(sizes[2], np.float32)
        core2 = np.empty(sizes[0] // 4, np.float32)
        core4 = np.empty(sizes[1] // 4, np.float32)
        pulled[:] = 0.0
        for level in range(3):
            p = level * count + e
            box = boxes[p]
            rows, columns = box[1] - box[0], box[3] - box[2]
            whole = weighted1 if level == 0 else (weighted2 if level == 1 else weighted4)
            target = _shaped(whole, spans[level])
            if level == 1 and rows > 0 and sizes[0] > 0:
                _quarter_sums(_shaped(weighted1, spans[0]), _shaped(core2, cores[1]))
            if level == 2 and sizes[1] > 0:
                _quarter_sums(_shaped(weighted2, spans[1]), _shaped(core4, cores[2]))
            if level > 0 and cores[level, 1] > cores[level, 0]:
                _place(target, spans[level], _shaped(core2 if level == 1 else core4, cores[level]), cores[level])
            if rows <= 0 or columns <= 0:
                continue
            own = share[offsets[p] : offsets[p + 1]].reshape((4, rows * columns))
            weight = weight1 if level == 0 else (weight2 if level == 1 else weight4)
            pull = pull1 if level == 0 else (pull2 if level == 1 else pull4)
            if level == 0:
                _own_sums(own, box, weight, pull, weighted1.reshape((4, rows * columns)), sums)
            else:
                products = np.empty((4, rows * columns), np.float32)
                _own_sums(own, box, weight, pull, products, sums)
                _place(target, spans[level], products.reshape((4, rows, columns)), box)
            area = float(1 << (2 * level))
            for a in range(4):
                i = 4 * e + place[a]
                pulled[a] += sums[5, a]
                matrix[i, last] += scale[e, a] * area * sums[4, a]
                for b in range(4):
                    j = 4 * e + place[b]
                    if j >= i:
                        matrix[i, j] += scale[e, a] * scale[e, b] * sums[a, b]
            if level < 2:
                q = p + count
                coarse = boxes[q]
                _core_gradient(
                    box,
                    pull,
                    removed[offsets[p] // 4 : offsets[p + 1] // 4].reshape((4, rows // 2, columns // 2)),
                    share[offsets[q] : offsets[q + 1]].reshape((4, coarse[1] - coarse[0], coarse[3] - coarse[2])),
                    coarse,
                    pulled,
                )
        for a in range(4):
            gradient[4 * e + place[a]] = scale[e, a] * pulled[a]
        for f in range(count):
            if f == e or (e >= fitted and f >= fitted):
                continue
            block[:] = 0.0
            found = False
            for level in range(3):
                q = level * count + f
                other_box = boxes[q]
                # Of two emitters the first one gives the light of all its cells; of the second one, its finer cells.
                mine = spans[level] if f > e else cores[level]
                if (level == 0 and f < e) or not _meet(mine, other_box):
                    continue
                found = True
                if f > e:
                    whole = weighted1 if level == 0 else (weighted2 if level == 1 else weighted4)
                else:
                    whole = core2 if level == 1 else core4
                _overlap(_shaped(whole, mine), mine, _shaped(share[offsets[q] :], other_box), other_box, block)
            if not found:
                continue
            for a in range(4):
                for b in range(4):
                    i, j = 4 * e + place[a], 4 * f + place[b]
                    matrix[min(i, j), max(i, j)] += block[a, b] * scale[e, a] * scale[f, b]
    for i in range(last + 1):
        for j in range(i):
            matrix[i, j] = matrix[j, i]
