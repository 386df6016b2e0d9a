"""The compiled sums of a joint fit: patterns, likelihood, normal equations and misfit of all emitters of a frame.

Patterns of all emitters are concatenated in one flat array of float32, those of emitter e from ``offsets[e]``:
light, d/dx, d/dy and d/dz, each over the pixels of ``boxes[e]`` (first row, end row, first column, end column).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from models.pattern_spline import render_light

__all__ = ["accumulate", "assemble", "misfit", "render_all", "richardson_lucy"]

_LUCK = 2.0
"""Standard deviations of chi2 that are attributed to noise before a PSF model error is estimated."""


@numba.njit(cache=True, nogil=True)
def render_all(
    coefficients: Any,
    stays: Any,
    emitters: Any,
    z_index: Any,
    z_step_um: Any,
    oversampling: Any,
    boxes: Any,
    offsets: Any,
    patterns: Any,
) -> None:
    """Render the patterns of all emitters except those marked in `stays`."""
    for e in range(emitters.shape[0]):
        if stays[e]:
            continue
        box = boxes[e]
        pattern = patterns[offsets[e] : offsets[e + 1]].reshape((4, box[1] - box[0], box[3] - box[2]))
        x, y = emitters[e, 0], emitters[e, 1]
        render_light(coefficients, 1, x, y, z_index[e], z_step_um, oversampling, box, pattern)


@numba.njit(cache=True, nogil=True, fastmath=True)
def accumulate(
    data: Any, boxes: Any, offsets: Any, patterns: Any, emitters: Any, expected: Any, read_variance: Any
) -> Any:
    """Add the emitters to `expected` and return the negative log-likelihood."""
    for e in range(emitters.shape[0]):
        r0, r1, c0, c1 = boxes[e]
        rows, columns = r1 - r0, c1 - c0
        light = patterns[offsets[e] : offsets[e] + rows * columns].reshape((rows, columns))
        photons = np.float32(emitters[e, 3])
        for r in range(rows):
            target = expected[r0 + r, c0:c1]
            source = light[r]
            for c in range(columns):
                target[c] += photons * source[c]
    least = np.float32(0.5) * read_variance
    total = 0.0
    for r in range(data.shape[0]):
        part = np.float32(0.0)
        for c in range(data.shape[1]):
            # A spline may undershoot slightly below zero.
            model = max(expected[r, c], least)
            expected[r, c] = model
            # Relative to the likelihood of a perfect model: the sum stays small enough for single precision.
            observed = data[r, c]
            part += model - observed
            if observed > np.float32(0.0):
                part -= observed * np.log(model / observed)
            else:
                part -= observed * np.log(model)
        total += float(part)
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def assemble(
    data: Any,
    boxes: Any,
    offsets: Any,
    patterns: Any,
    emitters: Any,
    fitted: Any,
    expected: Any,
    matrix: Any,
    gradient: Any,
) -> None:
    """Upper triangle of the Fisher matrix, and minus the gradient of the cost.

    Parameters of emitter e are x, y, z and photons at 4 e; the last one is the background. Emitters from `fitted` on
    have no blocks with each other.
    """
    count = emitters.shape[0]
    height, width = data.shape
    last = 4 * count
    weight = np.empty((height, width), np.float32)
    pull = np.empty((height, width), np.float32)
    for r in range(height):
        weights = np.float32(0.0)
        pulls = np.float32(0.0)
        for c in range(width):
            w = np.float32(1.0) / expected[r, c]
            q = data[r, c] * w - np.float32(1.0)
            weight[r, c] = w
            pull[r, c] = q
            weights += w
            pulls += q
        matrix[last, last] += weights
        gradient[last] += pulls
    # Patterns hold light, d/dx, d/dy, d/dz; parameters are ordered x, y, z, photons.
    place = np.array([3, 0, 1, 2])
    sums = np.empty((4, 4))
    weighted = np.empty((4, width), np.float32)
    for i in range(count):
        r0, r1, c0, c1 = boxes[i]
        rows, columns = r1 - r0, c1 - c0
        own = patterns[offsets[i] : offsets[i + 1]].reshape((4, rows, columns))
        scale_i = np.array([1.0, emitters[i, 3], emitters[i, 3], emitters[i, 3]])
        for a in range(4):
            towards = 0.0
            with_background = 0.0
            for r in range(rows):
                line = own[a, r]
                q = pull[r0 + r, c0:c1]
                w = weight[r0 + r, c0:c1]
                first = np.float32(0.0)
                second = np.float32(0.0)
                for c in range(columns):
                    first += line[c] * q[c]
                    second += line[c] * w[c]
                towards += float(first)
                with_background += float(second)
            gradient[4 * i + place[a]] = towards * scale_i[a]
            matrix[4 * i + place[a], last] = with_background * scale_i[a]
        for j in range(i, count if i < fitted else i + 1):
            top = max(r0, boxes[j, 0])
            bottom = min(r1, boxes[j, 1])
            left = max(c0, boxes[j, 2])
            right = min(c1, boxes[j, 3])
            if bottom <= top or right <= left:
                continue
            other = patterns[offsets[j] : offsets[j + 1]].reshape(
                (4, boxes[j, 1] - boxes[j, 0], boxes[j, 3] - boxes[j, 2])
            )
            sums[:] = 0.0
            span = right - left
            for r in range(top, bottom):
                w = weight[r, left:right]
                for a in range(4):
                    line = own[a, r - r0, left - c0 : right - c0]
                    target = weighted[a]
                    for c in range(span):
                        target[c] = w[c] * line[c]
                b0 = other[0, r - boxes[j, 0], left - boxes[j, 2] : right - boxes[j, 2]]
                b1 = other[1, r - boxes[j, 0], left - boxes[j, 2] : right - boxes[j, 2]]
                b2 = other[2, r - boxes[j, 0], left - boxes[j, 2] : right - boxes[j, 2]]
                b3 = other[3, r - boxes[j, 0], left - boxes[j, 2] : right - boxes[j, 2]]
                for a in range(4):
                    line = weighted[a]
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
            scale_j = np.array([1.0, emitters[j, 3], emitters[j, 3], emitters[j, 3]])
            for a in range(4):
                for b in range(4):
                    matrix[4 * i + place[a], 4 * j + place[b]] = sums[a, b] * scale_i[a] * scale_j[b]


@numba.njit(cache=True, nogil=True, fastmath=True)
def misfit(data: Any, expected: Any, boxes: Any, offsets: Any, patterns: Any, photons: Any) -> Any:
    """Chi2 of each pattern, weighted by its light, and the PSF model error that would explain it.

    Chi2 is the mean of (data - model)² / variance. A PSF model error of a share s of the light adds
    s² (photons x pattern)² / variance to it.
    """
    chi2 = np.ones(len(boxes))
    error = np.zeros(len(boxes))
    for e in range(len(boxes)):
        r0, r1, c0, c1 = boxes[e]
        columns = c1 - c0
        total = 0.0
        light = 0.0
        square = 0.0
        power = 0.0
        for r in range(r0, r1):
            at = offsets[e] + (r - r0) * columns
            for c in range(columns):
                p = patterns[at + c]
                off = data[r, c0 + c] - expected[r, c0 + c]
                total += p * off * off / expected[r, c0 + c]
                light += p
                square += p * p
                power += p * p * p / expected[r, c0 + c]
        if light > 0 and power > 0:
            chi2[e] = total / light
            unexplained = total - light - _LUCK * np.sqrt(2.0 * square)
            error[e] = np.sqrt(max(unexplained, 0.0) / power) / photons[e]
    return chi2, error


@numba.njit(cache=True, nogil=True, fastmath=True)
def richardson_lucy(
    data: Any,
    boxes: Any,
    offsets: Any,
    patterns: Any,
    photons: Any,
    background: Any,
    read_variance: Any,
    rounds: Any,
) -> Any:
    """Richardson-Lucy updates of `photons`, in place; returns the background."""
    height, width = data.shape
    expected = np.empty((height, width), np.float32)
    ratio = np.empty((height, width), np.float32)
    least = np.float32(0.5) * read_variance
    for _ in range(rounds):
        expected[:] = np.float32(background) + read_variance
        for e in range(len(photons)):
            r0, r1, c0, c1 = boxes[e]
            columns = c1 - c0
            for r in range(r0, r1):
                at = offsets[e] + (r - r0) * columns
                for c in range(columns):
                    expected[r, c0 + c] += np.float32(photons[e]) * patterns[at + c]
        mean = 0.0
        for r in range(height):
            for c in range(width):
                ratio[r, c] = max(data[r, c], np.float32(0.0)) / max(expected[r, c], least)
                mean += ratio[r, c]
        background *= mean / (height * width)
        for e in range(len(photons)):
            r0, r1, c0, c1 = boxes[e]
            columns = c1 - c0
            pull = 0.0
            light = 0.0
            for r in range(r0, r1):
                at = offsets[e] + (r - r0) * columns
                for c in range(columns):
                    pull += ratio[r, c0 + c] * patterns[at + c]
                    light += patterns[at + c]
            if light > 0:
                photons[e] *= max(pull, 0.0) / light
    return background
