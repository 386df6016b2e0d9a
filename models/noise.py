"""Shot noise and read noise, compiled: a noisy exposure takes a fraction of a millisecond.

The simulated microscope (a hundred exposures a second) and training (a
thousand frames a second) use it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["detect_electrons"]


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(state: Any) -> Any:
    # splitmix64 (Steele, Lea, Flood, OOPSLA 2014): one multiplication-and-shift hash per draw.
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, nogil=True, fastmath=True)
def detect_electrons(expected: Any, detected: Any, seed: Any, read_noise: Any) -> None:
    """Fill `detected` with Poisson(expected) + Normal(0, read_noise), photo-electrons.

    Above 4 expected electrons the Poisson count is the rounded square of a
    normal deviate, (sqrt(m - 1/4) + g/2)², whose mean is m and whose variance
    is m - 1/8 (the inverse of Anscombe, Biometrika 35, 246, 1948). Below, it is
    drawn by inversion of the cumulative distribution. Normal deviates are Box-Muller pairs.

    Parameters
    ----------
    expected, detected : ndarray of float32, shape (H, W)
    seed : uint64
        The same seed gives the same noise.
    read_noise : float32
        Standard deviation, photo-electrons.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = _mix(seed + golden)
    to_unit = np.float32(1.0 / 16777216.0)
    two_pi = np.float32(2 * np.pi)
    rows, columns = expected.shape
    for row in range(rows):
        for column in range(columns):
            state += golden
            bits = _mix(state)
            u1 = (np.float32(bits >> np.uint64(40)) + np.float32(0.5)) * to_unit
            u2 = np.float32(bits & np.uint64(0xFFFFFF)) * to_unit
            radius = np.sqrt(np.float32(-2.0) * np.log(u1))
            mean = expected[row, column]
            count = np.float32(0.0)
            if mean > np.float32(4.0):
                root = np.sqrt(mean - np.float32(0.25)) + np.float32(0.5) * radius * np.cos(two_pi * u2)
                count = np.floor(root * root + np.float32(0.5))
            elif mean > np.float32(0.0):
                state += golden
                u = np.float32(_mix(state) >> np.uint64(40)) * to_unit
                term = np.exp(-mean)
                total = term
                while u > total and count < np.float32(40.0):
                    count += np.float32(1.0)
                    term *= mean / count
                    total += term
            detected[row, column] = count + read_noise * radius * np.sin(two_pi * u2)
