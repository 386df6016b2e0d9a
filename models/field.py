"""Map of the position errors of the optics over the field, and the correction of positions by it.

Beads on one flat slide appear at different heights for two reasons: the slide
is tilted, which is a property of the sample, and the focal surface is curved,
which is an error of the optics. A constant slope at all depths is
indistinguishable from a tilt, so it is attributed to the sample, and the rest
to the optics.

The error of the optics changes with depth: patterns grow faster in one part of
the field than in another; a spot that aberrations widen off the axis looks
deeper, most of all near focus; and positions shift sideways, since
magnification and coma change with focus. So the map is a table over depth,
with a smooth function of (x, y) at each of a few depths.

Nothing is extrapolated: outside the region covered by beads, and beyond the
depths of the table, the map has the value of its edge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tables import Localizations

__all__ = ["FieldMap", "apparent_range_um"]

F64 = NDArray[np.float64]

# Fixed-point iterations to the apparent depth. The error of the optics changes by far less than a half per depth, so
# the deviation falls by more than a thousand.
_ITERATIONS = 10


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Apparent minus true positions as a function of the position in the field and of depth.

    With u = (x - cx)/half_width and v likewise: ``z_apparent - z = tilt . (u, v) + depth(u, v; z)`` and
    ``x_apparent - x = lateral(u, v; z)``, interpolated linearly between the depths of the table.

    Attributes
    ----------
    centre_um : (x, y) of the field's centre
    half_width_um : scale that makes u = (x - cx)/half_width of order 1
    tilt_um : (per u, per v): attributed to the sample, so it is reported but not removed from depths
    z_um : K depths of the table, increasing
    depth_um : at each, coefficients of (1, u, v, u², u v, v²): error of the optics, removed from depths. The mean
        over the beads is zero at every depth, so the correction leaves the mean depth alone
    lateral_um : at each, (x per u, x per v, y per u, y per v): sideways shift, zero in focus
    covered_um : (x low, x high, y low, y high) that beads cover, or None for no limit
    """

    centre_um: tuple[float, float]
    half_width_um: float
    tilt_um: tuple[float, float]
    z_um: tuple[float, ...]
    depth_um: tuple[tuple[float, ...], ...]
    lateral_um: tuple[tuple[float, ...], ...]
    covered_um: tuple[float, float, float, float] | None = None

    def _places(self, x_um: NDArray[Any], y_um: NDArray[Any]) -> tuple[F64, F64]:
        x, y = np.asarray(x_um, np.float64), np.asarray(y_um, np.float64)
        if self.covered_um is not None:
            x = np.clip(x, self.covered_um[0], self.covered_um[1])
            y = np.clip(y, self.covered_um[2], self.covered_um[3])
        return (x - self.centre_um[0]) / self.half_width_um, (y - self.centre_um[1]) / self.half_width_um

    def _at(self, table: tuple[tuple[float, ...], ...], z_um: NDArray[Any]) -> list[F64]:
        z = np.asarray(z_um, np.float64)
        return [np.asarray(np.interp(z, self.z_um, column), np.float64) for column in zip(*table, strict=True)]

    def tilt_at(self, x_um: NDArray[Any], y_um: NDArray[Any]) -> F64:
        """Height of the calibration sample at (x, y) relative to the field's centre, µm."""
        u, v = self._places(x_um, y_um)
        return np.asarray(self.tilt_um[0] * u + self.tilt_um[1] * v, np.float64)

    def depth_error_at(self, x_um: NDArray[Any], y_um: NDArray[Any], z_um: NDArray[Any]) -> F64:
        """Depth error of the optics for an emitter that appears at (x, y, z), µm; broadcast."""
        u, v = self._places(x_um, y_um)
        one, by_u, by_v, by_uu, by_uv, by_vv = self._at(self.depth_um, z_um)
        return np.asarray(one + by_u * u + by_v * v + by_uu * u * u + by_uv * u * v + by_vv * v * v, np.float64)

    def shift_at(self, x_um: NDArray[Any], y_um: NDArray[Any], z_um: NDArray[Any]) -> tuple[F64, F64]:
        """Apparent shift in x and y at depth z, µm; broadcast."""
        u, v = self._places(x_um, y_um)
        x_per_u, x_per_v, y_per_u, y_per_v = self._at(self.lateral_um, z_um)
        return x_per_u * u + x_per_v * v, y_per_u * u + y_per_v * v

    def true_places(self, x_um: F64, y_um: F64, z_um: F64) -> tuple[F64, F64, F64]:
        """True positions of emitters that appear at (x, y, z), each shape (N,), µm."""
        x_shift, y_shift = self.shift_at(x_um, y_um, z_um)
        return x_um - x_shift, y_um - y_shift, z_um - self.depth_error_at(x_um, y_um, z_um)

    def apparent_places(self, x_um: F64, y_um: F64, z_um: F64) -> tuple[F64, F64, F64]:
        """Apparent positions of emitters at (x, y, z), each shape (N,), µm: the inverse of `true_places`."""
        x, y, z = x_um, y_um, z_um
        for _ in range(_ITERATIONS):
            x_shift, y_shift = self.shift_at(x, y, z)
            x, y, z = x_um + x_shift, y_um + y_shift, z_um + self.depth_error_at(x, y, z)
        return x, y, z

    def true(self, apparent: Localizations) -> Localizations:
        """A table corrected for the errors of the optics."""
        x_um, y_um, z_um = self.true_places(apparent.x_um, apparent.y_um, apparent.z_um)
        return replace(apparent, x_um=x_um, y_um=y_um, z_um=z_um)

    def apparent(self, true: Localizations) -> Localizations:
        """A table with apparent positions: the inverse of `true`."""
        x_um, y_um, z_um = self.apparent_places(true.x_um, true.y_um, true.z_um)
        return replace(true, x_um=x_um, y_um=y_um, z_um=z_um)

    def reach_um(self, low_um: float, high_um: float) -> tuple[float, float]:
        """Lowest and highest apparent depth of a slide between two depths, tilted as in the sweep, µm."""
        steps = np.array([-1.0, 0.0, 1.0]) * self.half_width_um
        x, y = (grid.ravel() + middle for grid, middle in zip(np.meshgrid(steps, steps), self.centre_um, strict=True))
        tilt = self.tilt_at(x, y)
        low, high = (self.apparent_places(x, y, np.full(len(x), depth))[2] + tilt for depth in (low_um, high_um))
        return float(low.min()), float(high.max())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FieldMap:
        """Read what `as_dict` wrote, after a trip through JSON."""
        covered = values["covered_um"]
        return cls(
            tuple(values["centre_um"]),
            float(values["half_width_um"]),
            tuple(values["tilt_um"]),
            tuple(values["z_um"]),
            tuple(tuple(row) for row in values["depth_um"]),
            tuple(tuple(row) for row in values["lateral_um"]),
            None if covered is None else tuple(covered),
        )


def apparent_range_um(
    field: FieldMap | None, z_range_um: tuple[float, float], planes_um: tuple[float, float]
) -> tuple[float, float]:
    """Range of apparent depths of emitters in a range of true depths.

    An emitter at the end of the range looks deeper or shallower by the
    curvature of the field, and a tilted sample reaches beyond the range. The
    range is widened by both.

    Parameters
    ----------
    field : FieldMap or None
    z_range_um : (low, high)
        True depths.
    planes_um : (first, last)
        Depths that the PSF covers. The result stays within them, and does not cross focus if the range does not.
    """
    low, high = z_range_um
    shallowest, deepest = (low, high) if field is None else field.reach_um(low, high)
    widened = max(shallowest, planes_um[0]), min(deepest, planes_um[1])
    return (max(widened[0], 0.0) if low >= 0 else widened[0]), widened[1]
