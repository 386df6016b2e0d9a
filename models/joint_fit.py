"""Fit all emitters of a frame together: Fisher scoring of the Poisson likelihood, compiled.

Parameters are x, y, z and photons of each emitter and one background. The
normal matrix is assembled from the overlaps of the patterns only; the rest of
it is zero. Fisher scoring takes the expected curvature instead of the
observed one, which is positive by construction, so every step goes downhill
once it is short enough; Levenberg-Marquardt damping makes it so.

What is known of a place beforehand enters as a Gaussian (maximum a
posteriori): where photons are few the start decides, where they are many the
data do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.pattern_spline import PatternSpline, render_pattern

__all__ = ["JointFit", "Prior", "fit_jointly", "split_light"]

Array = NDArray[np.float64]

# A step is shortened to these, so that a poor start does not jump over its optimum: pixels, and µm or share of depth.
_LONGEST_STEP_PX = 1.5
_LONGEST_STEP_UM = 1.0
_LONGEST_STEP_OF_DEPTH = 0.05
# Photons change at most by this factor in a step.
_PHOTON_FACTOR = 4.0
_FEWEST_PHOTONS = 1.0
_LEAST_BACKGROUND_E = 1e-3

# A step that changes the log-likelihood by about the square of this is not made: its pattern stays as it is.
_NEGLIGIBLE = 0.02

_LEAST_INFORMATION = 1e-12
"""Of an emitter whose light does not fall into the frame."""

_LARGEST_PATTERN_ERROR = 0.05

_LUCK = 2.0
"""Standard deviations of chi2 that noise is granted before a pattern is called wrong."""

_DAMPING = (1.0, 1e-7, 1e7)
"""First, least and largest damping; beyond the largest there is no way down."""
_UP, _DOWN = 5.0, 2.0
"""How damping changes after a step that went up, and after one that went down."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Where emitters are believed to be.

    Attributes
    ----------
    place : ndarray of float64, shape (N, 3)
        x (pixels), y (pixels), z (µm).
    weight : ndarray of float64, shape (N, 3)
        One over the variance of each; 0 where nothing is known.
    """

    place: Array
    weight: Array

    @classmethod
    def none(cls, count: int) -> Prior:
        """Nothing is known of `count` emitters."""
        return cls(np.zeros((count, 3)), np.zeros((count, 3)))

    def cost(self, emitters: Array) -> float:
        """Negative logarithm of the prior, up to a constant."""
        return 0.5 * float((self.weight * (emitters[:, :3] - self.place) ** 2).sum())


@dataclass(frozen=True, slots=True)
class JointFit:
    """The optimum.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    sigma : ndarray of float64, shape (N, 4)
        Cramér-Rao bounds of the same, what was known beforehand included.
    photon_covariance : ndarray of float64, shape (N, N)
        Of the photons, every other parameter being fitted too.
    overlap : ndarray of float64, shape (N, N)
        Photons that row e, fitted alone, would take of each photon of column n left in the frame; 1 on the diagonal.
    background : float
        Photo-electrons per pixel.
    expected : ndarray of float32, shape (H, W)
        The model, read variance included, which is also the variance of each pixel.
    chi2 : ndarray of float64, shape (N,)
        Mean of (data - model)² / variance where each pattern has its light, weighted by it; 1 without any light.
    pattern_error : ndarray of float64, shape (N,)
        Share of its own light by which each pattern would have to be wrong to explain what noise does not, at most
        0.05: a misfit that asks for more has another reason.
    mistaken : ndarray of float64, shape (N, 3)
        How far x, y and z would move if all of this error looked like a move; pixels and µm.
    cost : float
        Negative log-likelihood and prior, up to a constant of the frame.
    evaluations : int
        How often the model was computed.
    """

    emitters: Array
    sigma: Array
    photon_covariance: Array
    overlap: Array
    background: float
    expected: NDArray[np.float32]
    chi2: Array
    pattern_error: Array
    mistaken: Array
    cost: float
    evaluations: int


@dataclass(slots=True)
class _Point:
    """A set of parameters with everything that was computed there."""

    emitters: Array
    background: float
    boxes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    patterns: NDArray[np.float32]
    expected: NDArray[np.float32]
    cost: float


def fit_jointly(
    data: NDArray[np.float32],
    spline: PatternSpline,
    emitters: Array,
    background: float,
    bounds: tuple[tuple[float, float], tuple[float, float], tuple[float, float]],
    read_variance: float,
    iterations: int,
    enough: float = 0.01,
    prior: Prior | None = None,
) -> JointFit:
    """Fit the emitters of a frame and its background.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        Photo-electrons plus the read variance.
    spline : PatternSpline
    emitters : ndarray of float64, shape (N, 4)
        Start: x (pixels), y (pixels), z (µm), photons.
    background : float
        Start, photo-electrons per pixel.
    bounds : ((low, high), ...)
        Of x (pixels), y (pixels) and z (µm).
    read_variance : float
        Photo-electrons squared, positive.
    iterations : int
        Most accepted steps.
    enough : float
        Done when a step lowers the negative log-likelihood by less. One standard deviation of one parameter is 0.5.
    prior : Prior, optional
        What is known of the places.

    Returns
    -------
    JointFit
    """
    low, high = np.array(bounds).T
    known = prior or Prior.none(len(emitters))
    start = emitters.copy()
    start[:, :3] = np.clip(start[:, :3], low, high)
    start[:, 3] = np.maximum(start[:, 3], _FEWEST_PHOTONS)
    now = _evaluate(data, spline, start, max(background, _LEAST_BACKGROUND_E), read_variance)
    cost, evaluations = now.cost + known.cost(start), 1
    damping, least, largest = _DAMPING
    matrix, gradient = _normal_equations(data, now, known)
    for _ in range(iterations):
        gain = 0.0
        while damping <= largest:
            moved, background = _stepped(now, matrix, gradient, damping, low, high)
            trial = _evaluate(data, spline, moved, background, read_variance, now)
            evaluations += 1
            gain = cost - trial.cost - known.cost(moved)
            if gain >= 0:
                break
            damping *= _UP
        if gain < 0 or damping > largest:
            break
        now, cost = trial, cost - gain
        damping = max(damping / _DOWN, least)
        matrix, gradient = _normal_equations(data, now, known)
        if gain < enough:
            break
    covariance = _covariance(matrix)
    photons = np.arange(3, len(covariance) - 1, 4)
    information = matrix[np.ix_(photons, photons)]
    chi2, unexplained = _misfit(data, now.expected, now.boxes, now.offsets, now.patterns, now.emitters[:, 3])
    pattern_error = np.minimum(unexplained, _LARGEST_PATTERN_ERROR)
    diagonal = np.diagonal(matrix)[:-1].reshape(-1, 4)
    of_light, of_place = diagonal[:, 3:], diagonal[:, :3] - known.weight
    return JointFit(
        now.emitters,
        np.sqrt(np.diagonal(covariance)[:-1]).reshape(-1, 4),
        covariance[np.ix_(photons, photons)],
        information / np.maximum(np.diagonal(information), _LEAST_INFORMATION)[:, None],
        now.background,
        now.expected,
        chi2,
        pattern_error,
        pattern_error[:, None] * now.emitters[:, 3:] * np.sqrt(of_light / np.maximum(of_place, _LEAST_INFORMATION)),
        cost,
        evaluations,
    )


def split_light(
    data: NDArray[np.float32],
    spline: PatternSpline,
    places: Array,
    background: float,
    read_variance: float,
    rounds: int,
) -> tuple[Array, float]:
    """Photons of emitters whose places are known, by the multiplicative updates of Richardson and Lucy.

    They never go below zero and share the light of overlapping patterns out by themselves, which a start from photons
    that do not fit to the frame needs before places may move.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        Photo-electrons plus the read variance.
    spline : PatternSpline
    places : ndarray of float64, shape (N, 3)
        x (pixels), y (pixels), z (µm).
    background : float
        Start, photo-electrons per pixel, positive.
    read_variance : float
    rounds : int

    Returns
    -------
    photons : ndarray of float64, shape (N,)
    background : float
    """
    above = max(float(data.sum(dtype=np.float64)) - data.size * (background + read_variance), 1.0)
    photons = np.full(len(places), max(above / max(len(places), 1), _FEWEST_PHOTONS))
    point = _evaluate(data, spline, np.column_stack([places, photons]), background, read_variance)
    background = _share_out(
        data, point.boxes, point.offsets, point.patterns, photons, background, np.float32(read_variance), rounds
    )
    return np.maximum(photons, _FEWEST_PHOTONS), max(background, _LEAST_BACKGROUND_E)


def _evaluate(
    data: NDArray[np.float32],
    spline: PatternSpline,
    emitters: Array,
    background: float,
    read_variance: float,
    before: _Point | None = None,
) -> _Point:
    """Everything at a set of parameters; emitters that stand where they stood `before` keep their patterns."""
    boxes = spline.boxes(emitters[:, 0], emitters[:, 1], emitters[:, 2], (data.shape[0], data.shape[1]))
    sizes = 4 * (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    patterns = np.empty(int(offsets[-1]), np.float32)
    stays = np.zeros(len(emitters), bool)
    if before is not None:
        stays = (emitters[:, :3] == before.emitters[:, :3]).all(axis=1)
        for row in np.flatnonzero(stays):
            source = slice(before.offsets[row], before.offsets[row + 1])
            patterns[offsets[row] : offsets[row + 1]] = before.patterns[source]
    _render_all(
        spline.coefficients,
        stays,
        emitters,
        spline.z_index(emitters[:, 2]),
        spline.psf.z_step_um,
        spline.psf.oversampling,
        boxes,
        offsets,
        patterns,
    )
    expected = np.full(data.shape, background + read_variance, np.float32)
    cost = _accumulate(data, boxes, offsets, patterns, emitters, expected, np.float32(read_variance))
    return _Point(emitters, background, boxes, offsets, patterns, expected, cost)


def _normal_equations(data: NDArray[np.float32], point: _Point, known: Prior) -> tuple[Array, Array]:
    size = 4 * len(point.emitters) + 1
    matrix, gradient = np.zeros((size, size)), np.zeros(size)
    _assemble(data, point.boxes, point.offsets, point.patterns, point.emitters, point.expected, matrix, gradient)
    place = (4 * np.arange(len(point.emitters))[:, None] + np.arange(3)).ravel()
    matrix[place, place] += known.weight.ravel()
    gradient[place] += (known.weight * (known.place - point.emitters[:, :3])).ravel()
    return matrix + np.triu(matrix, 1).T, gradient


def _stepped(
    point: _Point, matrix: Array, gradient: Array, damping: float, low: Array, high: Array
) -> tuple[Array, float]:
    """Emitters and background after a damped, bounded step."""
    step = _solve(matrix, gradient, damping)
    old = point.emitters
    new = old.copy()
    each = step[:-1].reshape(-1, 4)
    size = np.abs(each) * np.sqrt(np.diagonal(matrix)[:-1]).reshape(-1, 4)
    each[(size[:, :3] < _NEGLIGIBLE).all(axis=1), :3] = 0
    new[:, :2] += np.clip(each[:, :2], -_LONGEST_STEP_PX, _LONGEST_STEP_PX)
    longest = np.maximum(_LONGEST_STEP_UM, _LONGEST_STEP_OF_DEPTH * np.abs(old[:, 2]))
    new[:, 2] += np.clip(each[:, 2], -longest, longest)
    new[:, :3] = np.clip(new[:, :3], low, high)
    photons = np.clip(old[:, 3] + each[:, 3], old[:, 3] / _PHOTON_FACTOR, old[:, 3] * _PHOTON_FACTOR)
    new[:, 3] = np.maximum(photons, _FEWEST_PHOTONS)
    return new, max(point.background + float(step[-1]), _LEAST_BACKGROUND_E)


def _solve(matrix: Array, gradient: Array, damping: float) -> Array:
    scale, scaled = _scaled(matrix)
    scaled[np.diag_indices_from(scaled)] += damping
    step: Array = np.linalg.solve(scaled, gradient / scale) / scale
    return step


def _covariance(matrix: Array) -> Array:
    scale, scaled = _scaled(matrix)
    # The ridge keeps a parameter that the data say nothing about (depth at focus) finite, and huge. It grows until
    # the rounding of sums in single precision no longer makes the matrix indefinite (two emitters on one place).
    ridge = 1e-9
    while True:
        try:
            factor = np.linalg.cholesky(scaled + ridge * np.eye(len(scaled)))
        except np.linalg.LinAlgError:
            ridge *= 10
        else:
            break
    inverse = np.linalg.inv(factor)
    covariance: Array = (inverse.T @ inverse) / np.outer(scale, scale)
    return covariance


def _scaled(matrix: Array) -> tuple[Array, Array]:
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 1e-12))
    return scale, matrix / np.outer(scale, scale)


@numba.njit(cache=True, nogil=True)
def _render_all(
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
    for e in range(emitters.shape[0]):
        if stays[e]:
            continue
        box = boxes[e]
        pattern = patterns[offsets[e] : offsets[e + 1]].reshape((4, box[1] - box[0], box[3] - box[2]))
        render_pattern(coefficients, emitters[e, 0], emitters[e, 1], z_index[e], z_step_um, oversampling, box, pattern)
        # A measured pattern has grains beneath zero, and a spline undershoots beside an edge. Times millions of photons
        # that is less than no light: a model that is cut off there has a cost that its gradient does not tell.
        for r in range(box[1] - box[0]):
            for c in range(box[3] - box[2]):
                if pattern[0, r, c] < np.float32(0.0):
                    pattern[:, r, c] = np.float32(0.0)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _accumulate(
    data: Any, boxes: Any, offsets: Any, patterns: Any, emitters: Any, expected: Any, read_variance: Any
) -> Any:
    """Add the emitters to `expected` and give the negative log-likelihood."""
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
            # A spline may undershoot beneath zero by a trace.
            model = max(expected[r, c], least)
            expected[r, c] = model
            # Relative to the data themselves, which keeps the sum small and single precision exact enough.
            observed = data[r, c]
            part += model - observed
            if observed > np.float32(0.0):
                part -= observed * np.log(model / observed)
            else:
                part -= observed * np.log(model)
        total += float(part)
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _assemble(
    data: Any, boxes: Any, offsets: Any, patterns: Any, emitters: Any, expected: Any, matrix: Any, gradient: Any
) -> None:
    """Upper triangle of the Fisher matrix, and minus the gradient of the cost.

    Parameters of emitter e are x, y, z and photons at 4 e; the last one is the background.
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
        for j in range(i, count):
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
def _misfit(data: Any, expected: Any, boxes: Any, offsets: Any, patterns: Any, photons: Any) -> Any:
    """Mean of (data - model)² / variance of each pattern, weighted by its light, and the error that would explain it.

    A pattern that is wrong by a share s of its light everywhere adds s² (photons x pattern)² / variance to the mean.
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
def _share_out(
    data: Any,
    boxes: Any,
    offsets: Any,
    patterns: Any,
    photons: Any,
    background: Any,
    read_variance: Any,
    rounds: Any,
) -> Any:
    """Update `photons` in place; gives the background."""
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
