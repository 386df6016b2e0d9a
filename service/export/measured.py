"""Figures of tracks beside their points: what is exported of `models.measures`, and under which names.

Formats that have only points repeat the figures of a track at each of its
points, with `track_` before the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from models.tables import Tracks

if TYPE_CHECKING:
    from models.measures import TrackMeasures

__all__ = ["COLUMNS", "FIGURES", "Measured"]

F64 = NDArray[np.float64]

FIGURES = {
    "duration_s": "second",
    "displacement_um": "micrometer",
    "path_um": "micrometer",
    "speed_um_s": "micrometer/second",
    "straightness": None,
    "diffusion_um2_s": "micrometer**2/second",
    "diffusion_um2_s_low": "micrometer**2/second",
    "diffusion_um2_s_high": "micrometer**2/second",
    "exponent": None,
    "exponent_low": None,
    "exponent_high": None,
}
"""Figure of `TrackMeasures` to unit."""

COLUMNS = {f"track_{name}": name for name in FIGURES}
"""Name of a column or property of points to figure."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of all tracks of an export.

    Attributes
    ----------
    ids : ndarray of int64, shape (N,), increasing
        Numbers of the tracks.
    figures : dict of str to ndarray of float64, shape (N,)
        By the names of `FIGURES`; NaN where a track does not define one.
    """

    ids: NDArray[np.int64]
    figures: dict[str, F64]

    @classmethod
    def of(cls, table: TrackMeasures) -> Self:
        """The figures that are exported."""
        columns = table.columns()
        return cls(table.track_id, {name: columns[name] for name in FIGURES})

    def of_points(self, points: Tracks) -> dict[str, F64]:
        """The columns of `COLUMNS` for points, shape (R,); NaN for points of a track that was not measured."""
        rows = np.searchsorted(self.ids, points.track_id)
        known = rows < len(self.ids)
        known[known] = self.ids[rows[known]] == points.track_id[known]
        found = {column: np.full(len(points), np.nan) for column in COLUMNS}
        for column, name in COLUMNS.items():
            found[column][known] = self.figures[name][rows[known]]
        return found

    def of_track(self, track_id: int) -> dict[str, float]:
        """The figures of a track that it defines."""
        row = int(np.searchsorted(self.ids, track_id))
        values = {name: float(column[row]) for name, column in self.figures.items()}
        return {name: value for name, value in values.items() if np.isfinite(value)}
