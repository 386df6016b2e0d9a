"""Physical limits of localization, with which every method is compared.

Three questions, from the optics and the noise alone. How well could position,
depth and intensity of each emitter be known, when all of them and the
background are estimated jointly (`joint_bounds`, Cramér-Rao)? Which emitters
are significant above the noise (`detectable_share`)? Which Jaccard index can a
detector reach that knows the pattern perfectly, but has to search the whole
volume and therefore has false alarms (`IdealDetector`)?

The patterns come from the same compiled spline as the joint fit's, the Fisher
matrix is assembled here independently and in double precision; the tests hold
it against finite differences and against the spread of fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.errors import DataError
from models.pattern_spline import PatternSpline, render_pattern
from models.psf import Psf

__all__ = ["FrameBounds", "IdealDetector", "JointBounds", "detectable_share", "joint_bounds"]

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-3
"""Photo-electrons squared: an empty pixel of a camera without read noise would else count infinitely."""

_ROWS_AT_ONCE = 64
"""Rows of a frame whose derivatives are held together: 401 parameters of 100 emitters take 50 MB."""

_LEAST_EIGENVALUE = 1e-13
"""Of the scaled Fisher matrix: beneath it, a direction is unknown, and its sigma is huge instead of an error."""

_REACH = 1.15
"""Patterns are taken this much farther than the radius of 99 % of their light, and no farther than the spline."""


@dataclass(frozen=True, slots=True)
class FrameBounds:
    """Cramér-Rao bounds of one frame.

    Attributes
    ----------
    sigma : ndarray of float64, shape (N, 4)
        Of x, y, z (µm) and intensity (photo-electrons) of each emitter.
    background_sigma_e : float
        Of the background, photo-electrons per pixel.
    significance : ndarray of float64, shape (N,)
        Intensity over its sigma.
    """

    sigma: Array
    background_sigma_e: float
    significance: Array

    @property
    def sigma_3d_um(self) -> Array:
        """Root of the summed variances of x, y and z, shape (N,), µm."""
        total: Array = np.sqrt((self.sigma[:, :3] ** 2).sum(axis=1))
        return total


class JointBounds:
    """Bounds for frames of one PSF; the spline is prepared once.

    Parameters
    ----------
    psf : Psf
        The true one.
    spline : PatternSpline, optional
        Its spline where there is one already, for it is large.
    """

    def __init__(self, psf: Psf, spline: PatternSpline | None = None) -> None:
        self._spline = spline or PatternSpline(psf)
        self._pixel_um = psf.pixel_size_um
        self._oversampling = psf.oversampling

    def radius_px(self, z_um: Array) -> Array:
        """Radius of 99 % of the light at the depths `z_um`, same shape, pixels."""
        return self._spline.radius_at_px(z_um)

    def of_frame(
        self, emitters: Array, background_e: float, read_noise_e: float | NDArray[np.floating], shape: tuple[int, int]
    ) -> FrameBounds:
        """Bounds of all emitters of a frame, fitted together with one background.

        Parameters
        ----------
        emitters : ndarray of float64, shape (N, 4)
            x, y, z in µm and photo-electrons. Those outside the frame, or without light in it, get huge sigmas.
        background_e : float
            Photo-electrons per pixel.
        read_noise_e : float or ndarray of shape (H, W)
            Standard deviation of the read noise, photo-electrons.
        shape : (H, W)

        Returns
        -------
        FrameBounds

        Notes
        -----
        Fisher matrix of independent pixels with mean m and variance m + read², as if read noise were Poisson light
        of a known level (Huang et al., Nature Methods 10, 653, 2013): Σ (dm/da)(dm/db)/(m + read²).
        """
        fisher = self._fisher(emitters, background_e, read_noise_e, shape)
        sigma = _sigmas(fisher)
        each = sigma[:-1].reshape(-1, 4).copy()
        each[:, :2] *= self._pixel_um
        return FrameBounds(each, float(sigma[-1]), emitters[:, 3] / each[:, 3])

    def information(
        self, emitters: Array, background_e: float, read_noise_e: float | NDArray[np.floating], shape: tuple[int, int]
    ) -> Array:
        """Fisher information of a frame on its emitters, the background estimated with them.

        Parameters
        ----------
        emitters, background_e, read_noise_e, shape
            As those of `of_frame`.

        Returns
        -------
        ndarray of float64, shape (4 N, 4 N)
            For x, y, z (µm) and the relative intensity of each emitter.
        """
        fisher = self._fisher(emitters, background_e, read_noise_e, shape)
        units = np.ones((len(emitters), 4))
        units[:, :2] /= self._pixel_um
        units[:, 3] = emitters[:, 3]
        scale = units.ravel()
        # Schur complement: what is left when the background is unknown.
        known = fisher[:-1, :-1] - np.outer(fisher[:-1, -1], fisher[-1, :-1]) / fisher[-1, -1]
        return known * np.outer(scale, scale)  # type: ignore[no-any-return]

    def _fisher(
        self, emitters: Array, background_e: float, read_noise_e: float | NDArray[np.floating], shape: tuple[int, int]
    ) -> Array:
        if emitters.ndim != 2 or emitters.shape[1] != 4:
            raise DataError(
                f"Emitters of shape {emitters.shape} were given; they are (N, 4): x, y, z in µm and photo-electrons.",
                "Stack the four columns.",
            )
        if background_e < 0 or np.min(read_noise_e) < 0:
            raise DataError(
                f"Background {background_e} e- and read noise {np.min(read_noise_e)} e- were given; none is negative.",
                "Give them in photo-electrons.",
            )
        boxes, patterns = self._patterns(emitters, shape)
        variance = np.full(shape, background_e, np.float64) + np.square(read_noise_e)
        for (r0, r1, c0, c1), pattern, photons in zip(boxes, patterns, emitters[:, 3], strict=True):
            variance[r0:r1, c0:c1] += photons * pattern[0]
        weight = 1.0 / np.maximum(variance, _LEAST_VARIANCE)
        return _fisher(boxes, patterns, emitters[:, 3], weight)

    def _patterns(self, emitters: Array, shape: tuple[int, int]) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
        x, y = emitters[:, 0] / self._pixel_um, emitters[:, 1] / self._pixel_um
        # A spline reaches some pixels beyond its largest radius (see render_pattern).
        limit = float(self._spline.radius_px.max()) + 6
        reach = np.minimum(_REACH * self._spline.radius_at_px(emitters[:, 2]) + 2, limit)
        edges = np.column_stack(
            [np.ceil(y - reach), np.floor(y + reach) + 1, np.ceil(x - reach), np.floor(x + reach) + 1]
        )
        boxes = np.clip(edges.astype(np.int64), 0, np.array([shape[0], shape[0], shape[1], shape[1]]))
        boxes[:, 1::2] = np.maximum(boxes[:, 1::2], boxes[:, ::2])
        depth = self._spline.z_index(emitters[:, 2])
        patterns = []
        for row, box in enumerate(boxes):
            pattern = np.zeros((4, box[1] - box[0], box[3] - box[2]), np.float32)
            render_pattern(
                self._spline.coefficients,
                x[row],
                y[row],
                depth[row],
                self._spline.psf.z_step_um,
                self._oversampling,
                box,
                pattern,
            )
            # Splines of noise-free patterns undershoot by traces.
            np.maximum(pattern[0], 0, out=pattern[0])
            patterns.append(pattern)
        return boxes, patterns

    def ideal_detector(self, z_range_um: tuple[float, float], shape: tuple[int, int]) -> IdealDetector:
        """Matched filter over a volume: the frame's field, and the depths of `z_range_um`.

        The signal is assumed weak against a uniform background, so the noise is white.
        """
        low, high = z_range_um
        step = self._spline.psf.z_step_um / 2
        z_um = np.arange(low, high + step / 2, step)
        density = np.array([self._roughness(float(z)) for z in z_um])
        field_um2 = float(shape[0] * shape[1]) * self._pixel_um**2
        return IdealDetector(float(np.trapezoid(density, z_um)) * field_um2)

    def _roughness(self, z_um: float) -> float:
        """Root of the determinant of the covariance of the matched filter's gradient at a depth, 1/µm³."""
        side = 2 * int(self._spline.radius_px.max() + 5) + 1
        middle = (side // 2) * self._pixel_um
        _, (pattern,) = self._patterns(np.array([[middle, middle, z_um, 1.0]]), (side, side))
        light = pattern[0].astype(np.float64).ravel()
        slopes = pattern[1:].reshape(3, -1).astype(np.float64)
        slopes[:2] /= self._pixel_um
        norm = float(np.sqrt(light @ light))
        unit = light / norm
        # Derivatives of the pattern at unit norm: a change of the norm alone does not change the filter's response.
        change = (slopes - (slopes @ unit)[:, None] * unit) / norm
        return float(np.sqrt(max(np.linalg.det(change @ change.T), 0.0)))


@dataclass(frozen=True, slots=True)
class IdealDetector:
    """A matched filter for the true pattern that searches a whole volume.

    Attributes
    ----------
    places : float
        Size of the volume in units of the filter's own resolution, ∫ √det Λ dV with Λ the covariance of the
        gradient of its response to unit noise.
    """

    places: float

    def false_alarms(self, threshold: Array) -> Array:
        """Expected number of noise peaks above `threshold` (in standard deviations) per frame, same shape.

        The expected Euler characteristic of the excursion set of a Gaussian field in three dimensions, which is the
        number of its peaks where there are few: places (t² - 1) exp(-t²/2) / (2π)² (Adler, *The Geometry of Random
        Fields*, 1981, theorem 5.3.1). It holds from about t = 2.
        """
        t = np.maximum(threshold, 2.0)
        number: Array = self.places * (t**2 - 1) * np.exp(-(t**2) / 2) / (2 * np.pi) ** 2
        return number

    def jaccard(self, significance: Array, emitters_per_frame: float) -> float:
        """Highest Jaccard index over all thresholds.

        Parameters
        ----------
        significance : ndarray of float64, shape (N,)
            Intensity over its joint-fit sigma, of emitters of many frames.
        emitters_per_frame : float
            Their mean number.

        Returns
        -------
        float
            An emitter of significance s is found with the probability Φ(s - t) at the threshold t, wherever it is.
            Its localization error is ignored, so this is an upper limit.
        """
        if len(significance) == 0:
            return 1.0
        threshold = np.linspace(2.0, 8.0, 121)
        finite = np.minimum(significance, 1e6)
        found = special.ndtr(finite[:, None] - threshold[None, :]).mean(axis=0) * emitters_per_frame
        return float((found / (emitters_per_frame + self.false_alarms(threshold))).max())


def joint_bounds(
    psf: Psf,
    emitters: Array,
    background_e: float,
    read_noise_e: float | NDArray[np.floating] = 0.0,
    shape: tuple[int, int] = (256, 256),
) -> Array:
    """Cramér-Rao bounds of x, y, z (µm) and photo-electrons of all emitters (N, 4) of a frame, shape (N, 4)."""
    return JointBounds(psf).of_frame(emitters, background_e, read_noise_e, shape).sigma


def detectable_share(significance: Array, sigmas: float) -> float:
    """Share of emitters whose intensity exceeds `sigmas` of its own joint-fit standard deviations."""
    return float(np.mean(significance > sigmas)) if len(significance) else float("nan")


def _fisher(boxes: NDArray[np.int64], patterns: list[NDArray[np.float32]], photons: Array, weight: Array) -> Array:
    """Matrix of all parameters, background last; x and y per pixel, z per µm, shape (4 N + 1, 4 N + 1)."""
    size = 4 * len(boxes) + 1
    fisher = np.zeros((size, size))
    width = weight.shape[1]
    for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
        end = min(start + _ROWS_AT_ONCE, weight.shape[0])
        inside = np.flatnonzero((boxes[:, 0] < end) & (boxes[:, 1] > start))
        root = np.sqrt(weight[start:end])
        slopes = np.zeros((4 * len(inside) + 1, end - start, width))
        slopes[-1] = root
        for place, index in enumerate(inside):
            r0, r1, c0, c1 = boxes[index]
            top, bottom = max(r0, start), min(r1, end)
            part = patterns[index][:, top - r0 : bottom - r0] * root[top - start : bottom - start, c0:c1]
            rows = slice(top - start, bottom - start)
            slopes[4 * place : 4 * place + 3, rows, c0:c1] = photons[index] * part[1:]
            slopes[4 * place + 3, rows, c0:c1] = part[0]
        flat = slopes.reshape(len(slopes), -1)
        at = np.append((4 * inside[:, None] + np.arange(4)).ravel(), size - 1)
        fisher[np.ix_(at, at)] += flat @ flat.T
    return fisher


def _sigmas(fisher: Array) -> Array:
    """Roots of the diagonal of the inverse; huge where a parameter cannot be known."""
    scale = np.sqrt(np.maximum(np.diagonal(fisher), 1e-300))
    values, vectors = np.linalg.eigh(fisher / np.outer(scale, scale))
    variance = (vectors**2 / np.maximum(values, _LEAST_EIGENVALUE)).sum(axis=1)
    sigma: Array = np.sqrt(variance) / scale
    return sigma
