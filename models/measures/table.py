"""Figures of tracks, as a table with one row per track, and those of all tracks together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ensemble", "Interval", "TrackMeasures"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrackMeasures:
    """Figures of tracks; every field has shape (N,), float64 but for the int64 `track_id`, `points` and `observed`.

    NaN where a track does not define a figure. Names that end in `_low` and `_high` are the ends of 95 % intervals.

    Attributes
    ----------
    track_id : number of the track
    points : rows of the track in the table
    observed : sightings that diffusion and exponent are computed from
    t_from_s, duration_s : time of the first point, and from there to the last one, s
    displacement_um, displacement_sigma_um : distance between the first and the last point, and its standard deviation
    path_um : length of the way through all points of the table
    speed_um_s : path over duration
    direction_x, direction_y, direction_z : unit vector from the first to the last point
    straightness : displacement over path, from 0 to 1
    diffusion_x_um2_s, diffusion_y_um2_s, diffusion_z_um2_s : along the axes, drift and localization error removed
    diffusion_um2_s : the same from all axes together
    exponent : of the mean squared displacement, 1 for diffusion and 2 for straight motion
    """

    track_id: I64
    points: I64
    observed: I64
    t_from_s: F64
    duration_s: F64
    displacement_um: F64
    displacement_sigma_um: F64
    path_um: F64
    speed_um_s: F64
    direction_x: F64
    direction_y: F64
    direction_z: F64
    straightness: F64
    diffusion_x_um2_s: F64
    diffusion_x_um2_s_low: F64
    diffusion_x_um2_s_high: F64
    diffusion_y_um2_s: F64
    diffusion_y_um2_s_low: F64
    diffusion_y_um2_s_high: F64
    diffusion_z_um2_s: F64
    diffusion_z_um2_s_low: F64
    diffusion_z_um2_s_high: F64
    diffusion_um2_s: F64
    diffusion_um2_s_low: F64
    diffusion_um2_s_high: F64
    exponent: F64
    exponent_low: F64
    exponent_high: F64

    def __len__(self) -> int:
        return len(self.track_id)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Column names in the order of the files."""
        return tuple(each.name for each in fields(cls))

    @classmethod
    def empty(cls) -> TrackMeasures:
        """No rows."""
        whole = ("track_id", "points", "observed")
        columns: dict[str, Any] = {name: np.zeros(0, np.int64 if name in whole else np.float64) for name in cls.names()}
        return cls(**columns)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Column name to array, in the order of the files."""
        return {name: getattr(self, name) for name in self.names()}

    def select(self, rows: NDArray[Any] | slice) -> TrackMeasures:
        """The rows of a mask, an index array or a slice."""
        return TrackMeasures(**{name: column[rows] for name, column in self.columns().items()})


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, value: float, low: float, high: float) -> Interval:
        """From numbers; those that are not finite become None."""
        return cls(*(float(each) if np.isfinite(each) else None for each in (value, low, high)))

    @classmethod
    def of_mean(cls, values: F64) -> Interval:
        """Mean over tracks, with the interval from how they differ; no interval for fewer than 3 tracks."""
        known = values[np.isfinite(values)]
        if len(known) == 0:
            return cls(None, None, None)
        mean = float(known.mean())
        if len(known) < 3:
            return cls(mean, None, None)
        half = 1.96 * float(known.std(ddof=1)) / float(np.sqrt(len(known)))
        return cls.of(mean, mean - half, mean + half)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Figures of all tracks together, with 95 % intervals.

    Attributes
    ----------
    tracks : number of tracks
    duration_s, displacement_um, speed_um_s, straightness : means over tracks
    velocity_um_s : mean velocity along x, y, z, over the time of all tracks
    diffusion_um2_s : along x, y and z, and from all axes together
    exponent : of the mean squared displacement over all tracks
    noise_scale : ratio of true and stated variance of the localization error along x, y, z
    lag_s, msd_um2, msd_standard_error_um2 : mean squared displacement along the axes, by lag
    """

    tracks: int
    duration_s: Interval
    displacement_um: Interval
    speed_um_s: Interval
    straightness: Interval
    velocity_um_s: dict[str, Interval]
    diffusion_um2_s: dict[str, Interval]
    exponent: Interval
    noise_scale: dict[str, float]
    lag_s: list[float]
    msd_um2: dict[str, list[float | None]]
    msd_standard_error_um2: dict[str, list[float | None]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: an interval is an object with `value`, `low` and `high`."""
        return asdict(self)
