"""How depth appears to change over the field, learned from the heights of many beads.

Beads on one flat slide appear at different heights for two reasons: the slide
is tilted, which is true, and the optics' focal surface is curved, which is
not. A straight slope cannot be told from a tilt, so it is taken to be the
sample's; what is quadratic in the place is taken to be the optics'. A map is
kept only as far as it predicts beads that were left out of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FieldMap", "fit_field"]

F64 = NDArray[np.float64]

# A richer map must lower the leave-one-out residual by this share, or it is not worth its freedom.
_WORTH = 0.05
# Beads for each coefficient of a map.
_BEADS_PER_COEFFICIENT = 3


@dataclass(frozen=True, slots=True)
class FieldMap:
    """How depth appears to change over the field: ``z_apparent - z = offset + tilt + curvature`` in µm.

    Attributes
    ----------
    centre_um : (x, y) of the field's centre
    half_width_um : scale that makes u = (x - cx)/half_width of order 1
    tilt_um : (per u, per v): taken to be the sample's, so it is reported but not removed from depths
    curvature_um : (u², u v, v², mean): taken to be the optics', removed from depths; the mean over the
        beads is subtracted, so the correction leaves the median depth alone
    """

    centre_um: tuple[float, float]
    half_width_um: float
    tilt_um: tuple[float, float]
    curvature_um: tuple[float, float, float, float]

    def _places(self, x_um: NDArray[Any], y_um: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        u = (np.asarray(x_um, np.float64) - self.centre_um[0]) / self.half_width_um
        v = (np.asarray(y_um, np.float64) - self.centre_um[1]) / self.half_width_um
        return u, v

    def curvature_at(self, x_um: NDArray[Any], y_um: NDArray[Any]) -> NDArray[np.float64]:
        """What the optics add to apparent depth at (x, y), µm: subtract it from depths."""
        u, v = self._places(x_um, y_um)
        uu, uv, vv, mean = self.curvature_um
        return np.asarray(uu * u * u + uv * u * v + vv * v * v - mean, np.float64)

    def tilt_at(self, x_um: NDArray[Any], y_um: NDArray[Any]) -> NDArray[np.float64]:
        """Height of the calibration sample at (x, y) beside the centre's, µm."""
        u, v = self._places(x_um, y_um)
        return np.asarray(self.tilt_um[0] * u + self.tilt_um[1] * v, np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FieldMap:
        """Read what `as_dict` wrote, after a trip through JSON."""
        return cls(
            tuple(values["centre_um"]),
            float(values["half_width_um"]),
            tuple(values["tilt_um"]),
            tuple(values["curvature_um"]),
        )


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
