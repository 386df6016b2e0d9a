"""Relocate emitters whose fit converged to a local optimum in depth.

The likelihood has many local optima in depth: rings coincide with rings again
a few micrometres away, and a fit that starts there stays. So the emitter's own
light is added back to the residual and correlated with the patterns of all
depths and positions nearby. When another position explains clearly more, the
joint fit starts again from there. Direct sums over a few shifts of small binned
patterns cost less than Fourier transforms of the frame.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.fit.move_selection import select_moves
from models.pattern_spline import PatternSpline, render_pattern

__all__ = ["DepthRelocation"]

Array = NDArray[np.float64]

# Patterns up to this radius are compared on camera pixels, up to twice the radius on 2 x 2 bins, larger ones on 4 x 4.
_FINE_RADIUS_PX = 24.0

# Search range: depth in µm or as a share of depth, whichever is more, and lateral shifts in bins for each binning.
_REACH_UM = 6.0
_REACH_OF_DEPTH = 0.08
_SHIFTS = {1: 3, 2: 2, 4: 2}


class DepthRelocation:
    """Search for better depths of fitted emitters; binned patterns of the planes are kept.

    Parameters
    ----------
    spline : PatternSpline
    z_range_um : (low, high)
        Depths allowed.
    """

    def __init__(self, spline: PatternSpline, z_range_um: tuple[float, float]) -> None:
        self._spline = spline
        z_um = spline.psf.z_um
        self._planes = np.flatnonzero((z_um >= z_range_um[0]) & (z_um <= z_range_um[1]))
        self._kernels: dict[tuple[int, int], NDArray[np.float32]] = {}

    def relocate(self, data: NDArray[np.float32], fit: JointFit, gain: float) -> tuple[Array, float]:
        """Relocate emitters whose fit converged to a local optimum in depth.

        Parameters
        ----------
        data : ndarray of float32, shape (H, W)
            The fitted data, read variance included.
        fit : JointFit
        gain : float
            Least gain in squared signal-to-noise ratio, twice the gain in log-likelihood.

        Returns
        -------
        emitters : ndarray of float64, shape (N, 4)
            x (pixels), y (pixels), z (µm), photons; equal to those of the fit where nothing better was found. Of
            several overlapping emitters only the one that gains most moves.
        gain : float
            The largest; 0 when no emitter moves.
        """
        emitters = fit.emitters.copy()
        gains = np.zeros(len(emitters))
        x_all, y_all, z_all, _ = emitters.T
        boxes = self._spline.boxes(x_all, y_all, z_all, (data.shape[0], data.shape[1]))
        z_index = self._spline.z_index(emitters[:, 2])
        radius = self._spline.radius_at_px(emitters[:, 2])
        psf = self._spline.psf
        for row, (x_px, y_px, z_um, photons) in enumerate(fit.emitters):
            box = boxes[row]
            pattern = np.empty((4, box[1] - box[0], box[3] - box[2]), np.float32)
            render_pattern(
                self._spline.coefficients, x_px, y_px, z_index[row], psf.z_step_um, psf.oversampling, box, pattern
            )
            binning = 1 if radius[row] <= _FINE_RADIUS_PX else 2 if radius[row] <= 2 * _FINE_RADIUS_PX else 4
            reach = max(_REACH_UM, _REACH_OF_DEPTH * z_um)
            planes = self._planes[np.abs(psf.z_um[self._planes] - z_um) <= reach]
            if len(planes) == 0:
                continue
            kernels = [self._kernel(int(plane), binning) for plane in planes]
            half = max(kernel.shape[0] for kernel in kernels) // 2 + _SHIFTS[binning]
            middle_row, middle_column = round(y_px), round(x_px)
            pull, weight = _restore_emitter(
                data, fit.expected, pattern[0], box, photons, middle_row, middle_column, binning, half
            )
            present = _emitter_significance(data, fit.expected, pattern[0], box, photons)
            best = present**2 + gain
            for plane, kernel in zip(planes, kernels, strict=True):
                strength, amplitude, down, right = _best_shift(pull, weight, kernel, _SHIFTS[binning])
                if strength > 0 and strength**2 > best:
                    best = strength**2
                    gains[row] = best - present**2
                    centre = (binning - 1) / 2 - binning // 2
                    emitters[row] = (
                        middle_column + centre + right * binning,
                        middle_row + centre + down * binning,
                        psf.z_um[plane],
                        amplitude,
                    )
        stays = ~select_moves(fit.emitters, gains, radius)
        emitters[stays] = fit.emitters[stays]
        return emitters, float(gains.max(initial=0.0))

    def _kernel(self, plane: int, binning: int) -> NDArray[np.float32]:
        if (plane, binning) not in self._kernels:
            half = int(np.ceil(self._spline.radius_px[plane] / binning))
            side = (2 * half + 1) * binning
            centre = half * binning + (binning - 1) / 2
            pattern = np.empty((4, side, side), np.float32)
            render_pattern(
                self._spline.coefficients,
                centre,
                centre,
                float(plane),
                self._spline.psf.z_step_um,
                self._spline.psf.oversampling,
                np.array([0, side, 0, side]),
                pattern,
            )
            binned = pattern[0].reshape(2 * half + 1, binning, 2 * half + 1, binning).sum(axis=(1, 3))
            self._kernels[plane, binning] = np.maximum(binned, 0)
        return self._kernels[plane, binning]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _emitter_significance(data: Any, expected: Any, light: Any, box: Any, photons: Any) -> Any:
    """Amplitude over its standard deviation, in the residual with the emitter's own light added back."""
    pulled = 0.0
    information = 0.0
    for r in range(light.shape[0]):
        for c in range(light.shape[1]):
            variance = expected[box[0] + r, box[2] + c]
            p = light[r, c] / variance
            pulled += p * (data[box[0] + r, box[2] + c] - variance + photons * light[r, c])
            information += p * light[r, c]
    return pulled / np.sqrt(information) if information > 0 else 0.0


@numba.njit(cache=True, nogil=True, fastmath=True)
def _restore_emitter(
    data: Any, expected: Any, light: Any, box: Any, photons: Any, row: Any, column: Any, binning: Any, half: Any
) -> Any:
    """Binned residual around a pixel, the emitter's light added back, over its variance; and one over the variance."""
    side = 2 * half + 1
    pull = np.zeros((side, side), np.float32)
    weight = np.zeros((side, side), np.float32)
    height, width = data.shape
    top = row - half * binning - binning // 2
    left = column - half * binning - binning // 2
    for i in range(side):
        r0 = top + i * binning
        if r0 < 0 or r0 + binning > height:
            continue
        for j in range(side):
            c0 = left + j * binning
            if c0 < 0 or c0 + binning > width:
                continue
            residual = np.float32(0.0)
            variance = np.float32(0.0)
            for r in range(r0, r0 + binning):
                for c in range(c0, c0 + binning):
                    residual += data[r, c] - expected[r, c]
                    variance += expected[r, c]
                    if box[0] <= r < box[1] and box[2] <= c < box[3]:
                        residual += np.float32(photons) * light[r - box[0], c - box[2]]
            pull[i, j] = residual / variance
            weight[i, j] = np.float32(1.0) / variance
    return pull, weight


@numba.njit(cache=True, nogil=True, fastmath=True)
def _best_shift(pull: Any, weight: Any, kernel: Any, shifts: Any) -> Any:
    """Best strength, its amplitude and the shift (rows, columns) in bins."""
    half = pull.shape[0] // 2
    radius = kernel.shape[0] // 2
    best = (0.0, 0.0, 0, 0)
    for down in range(-shifts, shifts + 1):
        for right in range(-shifts, shifts + 1):
            pulled = np.float32(0.0)
            information = np.float32(0.0)
            left = half + right - radius
            for r in range(kernel.shape[0]):
                at = half + down - radius + r
                for c in range(kernel.shape[1]):
                    k = kernel[r, c]
                    pulled += k * pull[at, left + c]
                    information += k * k * weight[at, left + c]
            if information > 0:
                strength = pulled / np.sqrt(information)
                if strength > best[0]:
                    best = (float(strength), float(pulled / information), down, right)
    return best
