"""Mean of two noisy patterns with the noise removed (Wiener filter).

Patterns are nearly symmetric about their axis, so few angular orders contain the
signal, while the noise is spread over thousands of pixels. Two patterns from two
halves of the beads have the same signal and independent noise, differences
between beads included. Each plane is decomposed into angular orders on rings.
The power of signal and noise around each ring and depth follows from the mean
and the difference of the halves, and each order is scaled by the share of the
signal. The remainder (an engineered pattern has lobes instead of rings) is scaled
in the same way pixel by pixel.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["shrunk_mean"]

F32 = NDArray[np.float32]
Complex = NDArray[np.complex64]

_ORDERS = 16
"""Highest angular order; the remainder is treated pixel by pixel."""

_RINGS_PER_KNOT = 3
"""Six rings in the shortest period that the knots resolve: enough for cubic interpolation between them."""

_SAMPLES_PER_KNOT = 1.3
"""Samples along a ring: every knot contributes."""

_SIGNAL_WINDOW = (1.5, 6.0)
"""Over how many depths and rings the power of an order is averaged (standard deviation of the weights)."""

_NOISE_WINDOW = (3.0, 12.0, 1.0)
"""The same for noise, and over how many orders: it changes slowly."""

_PIXEL_WINDOW = (1.0, 3.0, 3.0)
_CAUTION = 1.3
"""Factor on the measured noise. It is an average of about forty independent values, so it scatters by 15 %, and noise
taken for signal is a larger error than a lost faint signal."""


def shrunk_mean(first: F32, second: F32) -> F32:
    """Mean of two patterns with the noise removed.

    Parameters
    ----------
    first, second : ndarray of float32, shape (K, N, N), N odd
        Samples of the patterns of two halves of the beads.

    Returns
    -------
    ndarray of float32, shape (K, N, N)
    """
    one, two = _harmonics(first), _harmonics(second)
    mean = (one + two) / 2
    noise = _smooth(np.abs(one - two) ** 2 / 4, _NOISE_WINDOW)
    power = _smooth(np.abs(mean) ** 2, (*_SIGNAL_WINDOW, 0.0))
    out = _images(mean * _gain(power, noise), first.shape[1])
    rests = [image - _images(parts, first.shape[1]) for image, parts in ((first, one), (second, two))]
    rest = (rests[0] + rests[1]) / 2
    noise = ndimage.gaussian_filter((rests[0] - rests[1]) ** 2 / 4, _PIXEL_WINDOW)
    power = ndimage.gaussian_filter(rest**2, _PIXEL_WINDOW)
    return np.asarray(out + rest * _gain(power, noise), np.float32)


def _gain(power: F32, noise: F32) -> F32:
    """Share of the signal in `power`."""
    return np.clip(1 - _CAUTION * noise / np.maximum(power, np.finfo(np.float32).tiny), 0, 1)


def _smooth(power: F32, window: tuple[float, float, float]) -> F32:
    return ndimage.gaussian_filter(power, window, mode="nearest")  # type: ignore[no-any-return]


def _harmonics(samples: F32) -> Complex:
    """Angular orders 0 to `_ORDERS` on rings, shape (K, J, M + 1); order m is the mean of the values times e^{-imθ}."""
    half = samples.shape[1] // 2
    rings = (half - 2) * _RINGS_PER_KNOT
    out = np.zeros((len(samples), rings, _ORDERS + 1), np.complex64)
    for plane, row in zip(samples, out, strict=True):
        lit = np.flatnonzero(plane.any(axis=0) | plane.any(axis=1))
        if len(lit) == 0:
            continue
        # Patterns are cut to discs, which are small near focus.
        reach = int((np.abs(lit - half).max() + 2) * _RINGS_PER_KNOT)
        coefficients = ndimage.spline_filter(plane, order=3, mode="mirror", output=np.float32)
        _decompose(coefficients, 1 / _RINGS_PER_KNOT, _SAMPLES_PER_KNOT, row[:reach])
    return out


def _images(harmonics: Complex, width: int) -> F32:
    """Samples (K, width, width) of patterns with these orders; dark beyond the last ring."""
    out = np.zeros((len(harmonics), width, width), np.float32)
    for row, plane in zip(harmonics, out, strict=True):
        _compose(np.ascontiguousarray(row), _RINGS_PER_KNOT, plane)
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def _decompose(coefficients: Any, spacing: Any, per_knot: Any, out: Any) -> None:
    centre = coefficients.shape[0] // 2
    orders = out.shape[1]
    weights_x = np.empty(4)
    weights_y = np.empty(4)
    for j in range(out.shape[0]):
        radius = j * spacing
        count = max(8, int(np.ceil(2 * np.pi * radius * per_knot)))
        # The knots do not resolve higher orders.
        most = min(orders, int(np.pi * radius) + 2)
        for s in range(count):
            angle = 2 * np.pi * s / count
            x = centre + radius * np.cos(angle)
            y = centre + radius * np.sin(angle)
            left, top = int(np.floor(x)), int(np.floor(y))
            _taps(x - left, weights_x)
            _taps(y - top, weights_y)
            value = 0.0
            for a in range(4):
                line = 0.0
                for b in range(4):
                    line += weights_x[b] * coefficients[top - 1 + a, left - 1 + b]
                value += weights_y[a] * line
            turn = np.cos(angle) - 1j * np.sin(angle)
            phase = 1.0 + 0.0j
            for m in range(most):
                out[j, m] += np.complex64(value * phase / count)
                phase *= turn


@numba.njit(cache=True, nogil=True)
def _taps(t: Any, weights: Any) -> None:
    s = 1.0 - t
    weights[0] = s * s * s / 6
    weights[1] = (3 * t * t * t - 6 * t * t + 4) / 6
    weights[2] = (3 * s * s * s - 6 * s * s + 4) / 6
    weights[3] = t * t * t / 6


@numba.njit(cache=True, nogil=True, fastmath=True)
def _compose(harmonics: Any, per_knot: Any, plane: Any) -> None:
    centre = plane.shape[0] // 2
    rings, orders = harmonics.shape
    for row in range(plane.shape[0]):
        for column in range(plane.shape[1]):
            dx, dy = column - centre, row - centre
            radius = np.sqrt(dx * dx + dy * dy)
            at = radius * per_knot
            base = int(at)
            if base + 2 >= rings:
                continue
            t = at - base
            # Cubic through four rings (Lagrange); the ring before the first is the other end of its diameter.
            before = -t * (t - 1) * (t - 2) / 6
            here = (t + 1) * (t - 1) * (t - 2) / 2
            after = -(t + 1) * t * (t - 2) / 2
            beyond = (t + 1) * t * (t - 1) / 6
            turn = (dx + 1j * dy) / radius if radius > 0 else 1.0 + 0.0j
            phase = 1.0 + 0.0j
            total = 0.0
            for m in range(orders):
                first = harmonics[base - 1, m] if base > 0 else harmonics[1, m] * (1 - 2 * (m % 2))
                part = (
                    before * first
                    + here * harmonics[base, m]
                    + after * harmonics[base + 1, m]
                    + beyond * harmonics[base + 2, m]
                )
                share = (part * phase).real
                total += share if m == 0 else 2 * share
                phase *= turn
            plane[row, column] = total
