"""How depth appears to change over the field, learned from the heights of many beads.

Beads on one flat slide appear at different heights for two reasons: the slide
is tilted, which is true, and the optics' focal surface is curved, which is
not. A straight slope cannot be told from a tilt, so it is taken to be the
sample's; what is quadratic in the place is taken to be the optics'. A map is
kept only as far as it predicts beads that were left out of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import FieldMap

__all__ = ["fit_field"]

F64 = NDArray[np.float64]

# A richer map must lower the leave-one-out residual by this share, or it is not worth its freedom.
_WORTH = 0.05
# Beads for each coefficient of a map.
_BEADS_PER_COEFFICIENT = 3


def fit_field(
    x_um: F64, y_um: F64, height_um: F64, field_um: tuple[float, float]
) -> tuple[FieldMap | None, dict[str, Any]]:
    """Fit tilt and curvature to the heights of beads.

    Parameters
    ----------
    x_um, y_um, height_um : ndarray of float64, shape (N,)
        Place of each bead, and its apparent depth beside the median bead's.
    field_um : (width, height)
        Extent of the field, µm.

    Returns
    -------
    field : FieldMap or None
        None when not even a tilt predicts left-out beads better than nothing.
    report : dict
        ``kind`` ("none", "tilt", "quadratic") and the leave-one-out residuals of each, µm.
    """
    centre = (field_um[0] / 2, field_um[1] / 2)
    half_width = max(field_um) / 2
    u, v = (x_um - centre[0]) / half_width, (y_um - centre[1]) / half_width
    one = np.ones_like(u)
    designs = {
        "none": np.stack([one], axis=1),
        "tilt": np.stack([one, u, v], axis=1),
        "quadratic": np.stack([one, u, v, u * u, u * v, v * v], axis=1),
    }
    report: dict[str, Any] = {"kind": "none", "beads": len(u), "left_out_residual_um": {}}
    best = np.inf
    chosen = np.zeros(1)
    for kind, design in designs.items():
        if len(u) < _BEADS_PER_COEFFICIENT * design.shape[1]:
            continue
        coefficients, weight = _robust_solution(design, height_um)
        residual = _left_out(design, height_um, weight)
        report["left_out_residual_um"][kind] = residual
        if residual < (1 - _WORTH) * best:
            best, chosen = residual, coefficients
            report["kind"] = kind
    if report["kind"] == "none":
        return None, report
    tilt = (float(chosen[1]), float(chosen[2]))
    square = chosen[3:] if len(chosen) > 3 else np.zeros(3)
    mean = float(np.mean(square[0] * u * u + square[1] * u * v + square[2] * v * v))
    return FieldMap(centre, half_width, tilt, (float(square[0]), float(square[1]), float(square[2]), mean)), report


def _robust_solution(design: F64, values: F64) -> tuple[F64, F64]:
    """Least squares with Cauchy weights: a bead on a speck of dust does not bend the map."""
    weight: F64 = np.ones(len(values))
    solution: F64 = np.zeros(design.shape[1])
    for _ in range(20):
        root = np.sqrt(weight)
        solution = np.asarray(np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0], np.float64)
        rest = np.abs(values - design @ solution)
        weight = np.asarray(1 / (1 + (rest / max(2.4 * 1.4826 * float(np.median(rest)), 1e-9)) ** 2), np.float64)
    return solution, weight


def _left_out(design: F64, values: F64, weight: F64) -> float:
    """Robust standard deviation of beads about the map fitted without them, from the leverages."""
    root = np.sqrt(weight)[:, None]
    weighted = design * root
    inverse = np.linalg.pinv(weighted.T @ weighted)
    solution = inverse @ (weighted.T @ (values * root[:, 0]))
    leverage = np.einsum("ni,ij,nj->n", weighted, inverse, weighted)
    rest = (values - design @ solution) / np.maximum(1 - leverage, 1e-3)
    return 1.4826 * float(np.median(np.abs(rest)))
