"""Fit a field map to the beads of a sweep.

The apparent depth and the lateral shift of each bead are evaluated at a few
depths (knots), which are closer to each other near focus, where patterns change
most. At each knot a smooth function of the position is fitted: none, a plane, or
a quadratic, as selected by leave-one-out prediction. Beads also differ from each
other (size, dirt), so every fit is robust, and few beads give a simple map or
none.

The remainder of each bead is described by its height, its growth with depth, and
a near term: its size adds to the width of the pattern in quadrature, so the
apparent depth is sqrt(z² + c), about z + c/(2 z).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.field import FieldMap

__all__ = ["BeadDepths", "FieldFit", "fit_field"]

F64 = NDArray[np.float64]

# A map with more coefficients must lower the leave-one-out residual by more than chance does. F is the variance removed
# by each further coefficient over the remaining variance of each bead; by chance it reaches 6 in 2 to 12 % of cases.
_SURE = 6.0
# Beads for each coefficient of a map.
_BEADS_PER_COEFFICIENT = 3
_KINDS = {"none": 1, "tilt": 3, "quadratic": 6}
"""Coefficients of each kind of map, in the order 1, u, v, u², u v, v²."""

_MOST_KNOTS = 7
_PLANES_PER_KNOT = 3
# Cauchy weights with this many robust deviations keep 95 % of the efficiency of least squares.
_CAUCHY = 2.4 * 1.4826
_ITERATIONS = 15


@dataclass(frozen=True)
class BeadDepths:
    """Apparent depths and lateral shifts of the beads of a sweep, relative to the mean pattern.

    Attributes
    ----------
    x_um, y_um : ndarray of float64, shape (B,)
        Position in focus, µm.
    z_um : ndarray of float64, shape (Z,)
        Depth of the mean bead at each plane, increasing.
    apparent_um : ndarray of float64, shape (B, Z)
        Apparent depth of each bead minus that of the mean bead, µm; NaN where unknown.
    shift_um : ndarray of float64, shape (B, Z, 2)
        Lateral shift (x, y) minus the common drift, µm; NaN where unknown.
    """

    x_um: F64
    y_um: F64
    z_um: F64
    apparent_um: F64
    shift_um: F64


@dataclass(frozen=True)
class FieldFit:
    """The map and the remainders of the beads.

    Attributes
    ----------
    field : FieldMap or None
        None when no map predicts left-out beads better than a constant.
    height_um : ndarray of float64, shape (B,)
        Height of each bead, map included: the median over the depths, µm.
    own_um : ndarray of float64, shape (B, 3)
        Of each bead, map excluded: height (µm), growth (per depth) and near term (µm²: c of z + c/z).
    left_um : ndarray of float64, shape (B, Z)
        Apparent depths minus the map, the tilt, and the median height of the beads, µm.
    report : dict
        Plain values: kinds, and leave-one-out residuals in µm.
    """

    field: FieldMap | None
    height_um: F64
    own_um: F64
    left_um: F64
    report: dict[str, Any]


def fit_field(
    beads: BeadDepths, extent_um: tuple[float, float], z_range_um: tuple[float, float], focal_depth_um: float
) -> FieldFit:
    """Fit the map to the beads.

    Parameters
    ----------
    beads : BeadDepths
    extent_um : (width, height)
        Size of the field, µm.
    z_range_um : (low, high)
        Depths of the calibration, µm; the map is fitted to these and valid for these.
    focal_depth_um : float
        Nearer to focus than this, a symmetric pattern hardly changes with depth, so depths there are left out, unless
        the range has both sides.
    """
    low, high = z_range_um
    two_sided = low < 0 < high
    rows = (beads.z_um >= low) & (beads.z_um <= high)
    if not two_sided and (rows & (np.abs(beads.z_um) >= focal_depth_um)).sum() >= _PLANES_PER_KNOT:
        rows &= np.abs(beads.z_um) >= focal_depth_um
    knots = _knots(beads.z_um[rows], two_sided)
    hats = np.stack([np.interp(beads.z_um[rows], knots, unit) for unit in np.eye(len(knots))], axis=1)
    at_knots = np.array([_robust_solution(hats, row)[0] for row in beads.apparent_um[:, rows]])

    centre = (extent_um[0] / 2, extent_um[1] / 2)
    half_width = max(extent_um) / 2
    u, v = (beads.x_um - centre[0]) / half_width, (beads.y_um - centre[1]) / half_width
    places = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    kind, depth, report = _chosen(places, at_knots, list(_KINDS))
    middle = (knots[0] + knots[-1]) / 2
    tilt = np.array([np.interp(middle, knots, depth[:, column]) for column in (1, 2)])
    depth[:, 1:3] -= tilt
    depth[:, 0] = -(places[:, 1:] @ depth[:, 1:].T).mean(axis=0)
    lateral, lateral_report = _lateral(places, beads, rows, hats)
    # The map is valid up to half of the mean distance between beads beyond them.
    margin = 0.5 * np.sqrt(np.ptp(beads.x_um) * np.ptp(beads.y_um) / len(u))
    covered = [float(side.min() - margin) for side in (beads.x_um, beads.y_um)]
    covered += [float(side.max() + margin) for side in (beads.x_um, beads.y_um)]
    fitted = FieldMap(
        centre,
        half_width,
        (float(tilt[0]), float(tilt[1])),
        tuple(knots.tolist()),
        tuple(tuple(row) for row in depth.tolist()),
        tuple(tuple(row) for row in lateral.tolist()),
        (covered[0], covered[2], covered[1], covered[3]),
    )
    x_um, y_um = beads.x_um[:, None], beads.y_um[:, None]
    explained = fitted.depth_error_at(x_um, y_um, beads.z_um) + fitted.tilt_at(x_um, y_um)
    left = beads.apparent_um - explained
    basis = _own_profiles(beads.z_um[rows], middle, focal_depth_um, two_sided)
    own = np.zeros((len(u), 3))
    own[:, : basis.shape[1]] = [_robust_solution(basis, row)[0] for row in left[:, rows]]
    return FieldFit(
        None if kind == "none" and not lateral.any() else fitted,
        np.median(at_knots, axis=1),
        own,
        left - np.median(own[:, 0]),
        {"beads": len(u), "depth": report, "lateral": lateral_report},
    )


def _knots(z_um: F64, two_sided: bool) -> F64:
    """Depths of the table, increasing: dense near focus when there is one side."""
    count = int(np.clip(len(z_um) // _PLANES_PER_KNOT, 1, _MOST_KNOTS))
    if count == 1:
        return np.array([float(z_um.mean())])
    share = np.linspace(0, 1, count)
    first, last = float(z_um[0]), float(z_um[-1])
    if two_sided:
        return first + (last - first) * share
    return first + (last - first) * share**2 if first >= 0 else np.sort(last + (first - last) * share**2)


def _chosen(places: F64, values: F64, kinds: list[str]) -> tuple[str, F64, dict[str, Any]]:
    """Selected kind of map, its coefficients (K, 6) and the leave-one-out residuals of `values` (B, K)."""
    best, kind = np.inf, "none"
    beads = len(values)
    table = np.zeros((values.shape[1], 6))
    residuals: dict[str, float] = {}
    for name in kinds:
        count = _KINDS[name]
        if name != "none" and beads < _BEADS_PER_COEFFICIENT * count:
            continue
        design = places[:, :count]
        fits = [_robust_solution(design, column) for column in values.T]
        left_out = [_left_out(design, column, fit[1]) for column, fit in zip(values.T, fits, strict=True)]
        # Geometric mean over depths, because near focus beads differ most and would dominate an arithmetic mean.
        residuals[name] = float(np.exp(np.mean(np.log(np.maximum(left_out, 1e-9)))))
        taken, spent = (best / residuals[name]) ** 2 - 1, count - _KINDS[kind]
        if name == "none" or taken * (beads - count) > _SURE * spent:
            best, kind = residuals[name], name
            table = np.zeros((values.shape[1], 6))
            if name != "none":
                table[:, :count] = [fit[0] for fit in fits]
    return kind, table, {"kind": kind, "left_out_residual_um": residuals}


def _lateral(places: F64, beads: BeadDepths, rows: NDArray[np.bool_], hats: F64) -> tuple[F64, dict[str, Any]]:
    """Table of the lateral shift (K, 4), 0 where no map predicts left-out beads."""
    focus = int(np.abs(beads.z_um).argmin())
    start = beads.shift_um[:, max(focus - 1, 0) : focus + 2]
    table = np.zeros((hats.shape[1], 4))
    report: dict[str, Any] = {}
    for axis, name in enumerate("xy"):
        origin = np.median(np.nan_to_num(start[:, :, axis]), axis=1)
        values = np.array([_robust_solution(hats, row)[0] for row in beads.shift_um[:, rows, axis]]) - origin[:, None]
        _, coefficients, report[name] = _chosen(places, values, ["none", "tilt"])
        table[:, 2 * axis : 2 * axis + 2] = coefficients[:, 1:3]
    return table, report


def _own_profiles(z_um: F64, middle_um: float, focal_depth_um: float, two_sided: bool) -> F64:
    """Depth profiles of height, growth and near term of a bead, (Z, 1 to 3): those that the planes can distinguish."""
    columns = [np.ones_like(z_um)]
    if len(z_um) >= 2 * _PLANES_PER_KNOT:
        columns.append(z_um - middle_um)
    if not two_sided and len(z_um) >= 3 * _PLANES_PER_KNOT and abs(middle_um) > 2 * focal_depth_um:
        near = np.sign(middle_um) * np.maximum(np.abs(z_um), focal_depth_um)
        columns.append(1 / near - 1 / middle_um)
    return np.stack(columns, axis=1)


def _robust_solution(design: F64, values: F64) -> tuple[F64, F64]:
    """Least squares with Cauchy weights, robust against outliers such as a bead on dust; NaN has weight 0."""
    known = np.isfinite(values)
    weight: F64 = known.astype(np.float64)
    values = np.where(known, values, 0.0)
    solution: F64 = np.zeros(design.shape[1])
    if not known.any():
        return solution, weight
    for _ in range(_ITERATIONS):
        root = np.sqrt(weight)
        solution = np.asarray(np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0], np.float64)
        rest = np.abs(values - design @ solution)
        weight = np.asarray(known / (1 + (rest / max(_CAUCHY * float(np.median(rest[known])), 1e-9)) ** 2), np.float64)
    return solution, weight


def _left_out(design: F64, values: F64, weight: F64) -> float:
    """Robust standard deviation of the leave-one-out residuals, computed from the leverages."""
    root = np.sqrt(weight)[:, None]
    weighted = design * root
    inverse = np.linalg.pinv(weighted.T @ weighted)
    solution = inverse @ (weighted.T @ (values * root[:, 0]))
    leverage = np.einsum("ni,ij,nj->n", weighted, inverse, weighted)
    rest = (values - design @ solution) / np.maximum(1 - leverage, 1e-3)
    return 1.4826 * float(np.median(np.abs(rest)))
