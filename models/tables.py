"""Localizations and tracks as columns, and their files.

One vocabulary flows from the network to the database, the stream and the
export: equal-length columns with the contract's names. CSV and Parquet hold
the same columns; the file's suffix decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Localizations", "TrackEvents", "Tracks", "Truth"]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Equal-length columns; subclasses name them."""

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Column names in the order of the files."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Self:
        """Build from a mapping of column name to array-like; missing optional columns are an error of the caller."""
        return cls(**{f.name: np.asarray(columns[f.name], _DTYPES.get(f.name, np.float64)) for f in fields(cls)})

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls.from_columns({name: [] for name in cls.names()})

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """All rows of `parts`, in order."""
        parts = list(parts)
        if not parts:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in cls.names()})

    def columns(self) -> dict[str, NDArray[Any]]:
        """Column name to array, in the order of the files."""
        return {name: getattr(self, name) for name in self.names()}

    def select(self, rows: NDArray[Any] | slice) -> Self:
        """The rows of a mask, an index array or a slice."""
        return type(self)(**{name: column[rows] for name, column in self.columns().items()})


_DTYPES: dict[str, Any] = {
    **dict.fromkeys(("frame", "track_id", "other_id", "observed"), np.int64),
    "kind": np.str_,
}


@dataclass(frozen=True, slots=True)
class Localizations(_Columns):
    """Emitters found in frames. Every field has shape (N,); float64 but for `frame` (int64).

    Attributes
    ----------
    frame : frame number, from 0
    x_um, y_um, z_um : position, µm (contract: x right, y down, z away from the objective)
    photons : photo-electrons of the emitter in the frame
    background : photo-electrons per pixel beneath it
    probability : 0..1, that there is an emitter here
    sigma_x_um, sigma_y_um, sigma_z_um : standard deviations, µm
    chi2 : goodness of fit per pixel; NaN when not refined
    """

    frame: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]
    photons: NDArray[np.float64]
    background: NDArray[np.float64]
    probability: NDArray[np.float64]
    sigma_x_um: NDArray[np.float64]
    sigma_y_um: NDArray[np.float64]
    sigma_z_um: NDArray[np.float64]
    chi2: NDArray[np.float64]

    @property
    def xyz_um(self) -> NDArray[np.float64]:
        """Positions, shape (N, 3), µm."""
        return np.column_stack([self.x_um, self.y_um, self.z_um])

    @property
    def sigma_um(self) -> NDArray[np.float64]:
        """Standard deviations, shape (N, 3), µm."""
        return np.column_stack([self.sigma_x_um, self.sigma_y_um, self.sigma_z_um])


@dataclass(frozen=True, slots=True)
class Tracks(_Columns):
    """Track points, one row per track and frame.

    Every field has shape (N,); float64 but for the int64 `track_id`, `frame` and `observed` (0 while coasting).
    `probability` is that of the track's existence in the frame; NaN in tables that do not state it.
    """

    track_id: NDArray[np.int64]
    frame: NDArray[np.int64]
    t_s: NDArray[np.float64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]
    vx_um_s: NDArray[np.float64]
    vy_um_s: NDArray[np.float64]
    vz_um_s: NDArray[np.float64]
    sigma_x_um: NDArray[np.float64]
    sigma_y_um: NDArray[np.float64]
    sigma_z_um: NDArray[np.float64]
    observed: NDArray[np.int64]
    probability: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrackEvents(_Columns):
    """Merges and splits of tracks, one row per event.

    Every field has shape (N,); float64 but for the text `kind` and the int64 `frame`, `track_id` and `other_id`.

    Attributes
    ----------
    kind : ``"merge"`` or ``"split"``
    frame : merge: first frame in which the track was not seen; split: last one before the new track was seen
    t_s : time of that frame, s
    track_id : the track that ended, or that is new
    other_id : the track that it merged with or split from
    x_um, y_um, z_um : position of the other track in that frame, µm
    distance_um : between the two tracks in that frame, µm
    distance_sigma : the same, in standard deviations of both positions
    chance : probability that a place, drawn anywhere in the volume of the tracks, is this near to one of them
    """

    kind: NDArray[np.str_]
    frame: NDArray[np.int64]
    t_s: NDArray[np.float64]
    track_id: NDArray[np.int64]
    other_id: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]
    distance_um: NDArray[np.float64]
    distance_sigma: NDArray[np.float64]
    chance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth(_Columns):
    """Where emitters really are.

    Every field has shape (N,); float64 but for the int64 `frame` and `track_id` (-1 when it is not known who is who).
    """

    frame: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    z_um: NDArray[np.float64]
    track_id: NDArray[np.int64]
