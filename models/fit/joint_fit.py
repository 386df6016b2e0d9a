"""Fit all emitters of a frame together: Fisher scoring of the Poisson likelihood, compiled.

Parameters are x, y, z and photons of each emitter and one background. The
normal matrix is assembled from the overlaps of the patterns only; the rest of
it is zero. Fisher scoring uses the expected curvature instead of the observed
one. It is positive by construction, so every step lowers the cost once it is
short enough; Levenberg-Marquardt damping shortens it.

Position priors are Gaussian (maximum a posteriori): at few photons the start
dominates, at many photons the data do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.normal_equations import accumulate, misfit, richardson_lucy
from models.fit.prior import Prior
from models.fit.rendering import Rendered, normal_equations
from models.fit.step import FEWEST_PHOTONS, apply_step
from models.pattern_spline import ENERGY, PatternSpline

__all__ = ["Bounds", "Convergence", "FitFrame", "JointFit", "distribute_light", "fit_jointly"]

Array = NDArray[np.float64]
Bounds = Sequence[tuple[float | Array, float | Array]]

_LEAST_BACKGROUND_E = 1e-3

_LEAST_INFORMATION = 1e-12
"""Lower limit of the information, for emitters without light in the frame."""

_LARGEST_PATTERN_ERROR = 0.05

_WIDE_SIGNIFICANCE = 10.0
"""A pattern gets the wider crop where the light outside the usual one is so many standard deviations of the noise.
Less light biases depths by a tenth of their bound."""

_DAMPING = (1.0, 1e-7, 1e7)
"""Initial, least and largest damping; the fit ends beyond the largest."""
_UP, _DOWN = 5.0, 2.0
"""Factors by which damping grows after a rejected step and falls after an accepted one."""


@dataclass(frozen=True, slots=True)
class FitFrame:
    """A frame and the PSF that is fitted to it.

    Attributes
    ----------
    data : ndarray of float32, shape (H, W)
        Photo-electrons plus the read variance.
    spline : PatternSpline
        PSF on the pixels of the frame.
    read_variance : float
        Photo-electrons squared, positive.
    backdrop : ndarray of float32, shape (H, W), optional
        Light that is not fitted: static light, or emitters that stay as they are.
    """

    data: NDArray[np.float32]
    spline: PatternSpline
    read_variance: float
    backdrop: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Convergence:
    """When a fit ends.

    Attributes
    ----------
    iterations : int
        Largest number of accepted steps.
    least_gain : float
        The fit ends when a step lowers the negative log-likelihood by less. One standard deviation of one parameter
        is 0.5.
    """

    iterations: int
    least_gain: float = 0.01


@dataclass(frozen=True, slots=True)
class JointFit:
    """Result of a joint fit.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    sigma : ndarray of float64, shape (N, 4)
        Cramér-Rao bounds of the same, prior included.
    photon_covariance : ndarray of float64, shape (N, N)
        Covariance of the photons, with all other parameters fitted too.
    overlap : ndarray of float64, shape (N, N)
        Photons that emitter e (row), fitted alone, takes for each photon of emitter n (column) missing in the model;
        1 on the diagonal.
    background : float
        Photo-electrons per pixel.
    expected : ndarray of float32, shape (H, W)
        The model, read variance included, which is also the variance of each pixel.
    chi2 : ndarray of float64, shape (N,)
        Mean of (data - model)² / variance where each pattern has its light, weighted by it; 1 without any light.
    unexplained : ndarray of float64, shape (N,)
        PSF model error, as a share of its own light, that would explain the misfit of each pattern beyond noise.
    pattern_error : ndarray of float64, shape (N,)
        The same, clipped to 0.05: a larger misfit has another cause.
    psf_error_shift : ndarray of float64, shape (N, 3)
        Shift of x, y and z if all of this error acted like a shift; pixels and µm.
    cost : float
        Negative log-likelihood and prior, up to a constant of the frame.
    evaluations : int
        Number of computed models.
    """

    emitters: Array
    sigma: Array
    photon_covariance: Array
    overlap: Array
    background: float
    expected: NDArray[np.float32]
    chi2: Array
    unexplained: Array
    pattern_error: Array
    psf_error_shift: Array
    cost: float
    evaluations: int


@dataclass(slots=True)
class _Point:
    """A set of parameters with its rendered patterns, model and cost."""

    rendered: Rendered
    background: float
    expected: NDArray[np.float32]
    cost: float

    @property
    def emitters(self) -> Array:
        """X (pixels), y (pixels), z (µm), photons of each, shape (N, 4)."""
        return self.rendered.emitters


def fit_jointly(
    frame: FitFrame,
    emitters: Array,
    background: float,
    bounds: Bounds,
    convergence: Convergence,
    prior: Prior | None = None,
    *,
    whole: bool = False,
) -> JointFit:
    """Fit the emitters of a frame and its background.

    Parameters
    ----------
    frame : FitFrame
    emitters : ndarray of float64, shape (N, 4)
        Start: x (pixels), y (pixels), z (µm), photons.
    background : float
        Start, photo-electrons per pixel.
    bounds : ((low, high), ...)
        Bounds of x (pixels), y (pixels) and z (µm), each one for all emitters or one for each.
    convergence : Convergence
    prior : Prior, optional
        Position prior.
    whole : bool
        Whether emitters with visible light outside the usual crop are fitted with wider patterns.

    Returns
    -------
    JointFit
    """
    low, high = (np.column_stack([np.broadcast_to(pair[end], len(emitters)) for pair in bounds]) for end in (0, 1))
    known = prior or Prior.none(len(emitters))
    start = emitters.copy()
    start[:, :3] = np.clip(start[:, :3], low, high)
    start[:, 3] = np.maximum(start[:, 3], FEWEST_PHOTONS)
    background = max(background, _LEAST_BACKGROUND_E)
    wide = _needs_wide_crop(start, frame.spline, background + frame.read_variance) if whole else None
    now = _evaluate(frame, start, background, wide)
    cost, evaluations = now.cost + known.cost(start), 1
    damping, least, largest = _DAMPING
    matrix, gradient = normal_equations(frame.data, now.expected, now.rendered, known)
    for _ in range(convergence.iterations):
        gain = 0.0
        while damping <= largest:
            emitters, background = _take_step(now, matrix, gradient, damping, low, high)
            trial = _evaluate(frame, emitters, background, wide, now)
            evaluations += 1
            gain = cost - trial.cost - known.cost(emitters)
            if gain >= 0:
                break
            damping *= _UP
        if gain < 0 or damping > largest:
            break
        now, cost = trial, cost - gain
        damping = max(damping / _DOWN, least)
        matrix, gradient = normal_equations(frame.data, now.expected, now.rendered, known)
        if gain < convergence.least_gain:
            break
    covariance = _covariance(matrix)
    photons = np.arange(3, len(covariance) - 1, 4)
    information = matrix[np.ix_(photons, photons)]
    drawn = now.rendered
    chi2, unexplained = misfit(frame.data, now.expected, drawn.boxes, drawn.offsets, drawn.patterns, now.emitters[:, 3])
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
        unexplained,
        pattern_error,
        pattern_error[:, None] * now.emitters[:, 3:] * np.sqrt(of_light / np.maximum(of_place, _LEAST_INFORMATION)),
        cost,
        evaluations,
    )


def distribute_light(frame: FitFrame, places: Array, background: float, rounds: int) -> tuple[Array, float]:
    """Photons of emitters at fixed positions, by the multiplicative updates of Richardson and Lucy.

    They stay non-negative and divide the light of overlapping patterns. This gives photons that match the frame before
    positions are fitted.

    Parameters
    ----------
    frame : FitFrame
    places : ndarray of float64, shape (N, 3)
        x (pixels), y (pixels), z (µm).
    background : float
        Start, photo-electrons per pixel, positive.
    rounds : int

    Returns
    -------
    photons : ndarray of float64, shape (N,)
    background : float
    """
    data, read_variance = frame.data, frame.read_variance
    if frame.backdrop is not None:
        data = np.maximum(data - frame.backdrop, 0)
    above = max(float(data.sum(dtype=np.float64)) - data.size * (background + read_variance), 1.0)
    photons = np.full(len(places), max(above / max(len(places), 1), FEWEST_PHOTONS))
    point = _evaluate(frame, np.column_stack([places, photons]), background)
    drawn = point.rendered
    background = richardson_lucy(
        data, drawn.boxes, drawn.offsets, drawn.patterns, photons, background, np.float32(read_variance), rounds
    )
    return np.maximum(photons, FEWEST_PHOTONS), max(background, _LEAST_BACKGROUND_E)


def _needs_wide_crop(emitters: Array, spline: PatternSpline, variance: float) -> NDArray[np.bool_]:
    """Which emitters have visible light outside their crop: against the noise of an area as large as the crop."""
    radius = spline.radius_at_px(emitters[:, 2])
    shows: NDArray[np.bool_] = (1 - ENERGY) * emitters[:, 3] > _WIDE_SIGNIFICANCE * radius * np.sqrt(np.pi * variance)
    return shows


def _evaluate(
    frame: FitFrame,
    emitters: Array,
    background: float,
    wide: NDArray[np.bool_] | None = None,
    before: _Point | None = None,
) -> _Point:
    """Render and compare with the data; emitters that have not moved since `before` keep their patterns."""
    data = frame.data
    shape = (data.shape[0], data.shape[1])
    drawn = Rendered.of(frame.spline, emitters, shape, wide, None if before is None else before.rendered)
    expected = np.full(data.shape, background + frame.read_variance, np.float32)
    if frame.backdrop is not None:
        expected += frame.backdrop
    read_variance = np.float32(frame.read_variance)
    cost = accumulate(data, drawn.boxes, drawn.offsets, drawn.patterns, emitters, expected, read_variance)
    return _Point(drawn, background, expected, cost)


def _take_step(
    point: _Point, matrix: Array, gradient: Array, damping: float, low: Array, high: Array
) -> tuple[Array, float]:
    """Emitters and background after a damped, bounded step."""
    scale, scaled = _normalize_matrix(matrix)
    scaled[np.diag_indices_from(scaled)] += damping
    step = np.linalg.solve(scaled, gradient / scale) / scale
    return apply_step(point.emitters, step, scale, low, high), max(
        point.background + float(step[-1]), _LEAST_BACKGROUND_E
    )


def _covariance(matrix: Array) -> Array:
    scale, scaled = _normalize_matrix(matrix)
    # The ridge keeps the variance of an undetermined parameter (depth at focus) finite, and huge. It grows until the
    # matrix is positive definite: with two emitters at one position, rounding of single precision makes it indefinite.
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


def _normalize_matrix(matrix: Array) -> tuple[Array, Array]:
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 1e-12))
    return scale, matrix / np.outer(scale, scale)
