"""Where each track was seen: its measured positions, without the smoothing of the tracker.

A tracker smooths. The steps of smoothed positions are correlated, and shorter
than the steps of the emitter, so diffusion is measured on the localizations
that a track is made of. A table of tracks does not name them: they are found
again as the nearest localization of the frame.

Without localizations the observed points of the table take their place. Then
the figures hold for times longer than the memory of the tracker's filter, and
the sightings are thinned accordingly (`Sightings.thin`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from models.tables import Localizations, Tracks

__all__ = ["Sightings"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_SMALLEST_SIGMA_UM = 0.005
_FARTHEST_SIGMAS = 6.0
"""A localization farther from the point of the track than this, along any axis, is not the one that it was made of."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """Measured positions of tracks, ordered by track and frame.

    Attributes
    ----------
    ids : int64, shape (N,), increasing
        Numbers of the tracks.
    starts : int64, shape (N + 1,)
        First row of each track, and the number of rows.
    frame : int64, shape (R,)
    t_s : float64, shape (R,), s
    position_um : float64, shape (R, 3), µm
    variance_um2 : float64, shape (R, 3), µm²
        Stated variance of the localization error.
    """

    ids: I64
    starts: I64
    frame: I64
    t_s: F64
    position_um: F64
    variance_um2: F64

    @classmethod
    def of(cls, tracks: Tracks, found: Localizations | None = None) -> Sightings:
        """Sightings of all tracks.

        Parameters
        ----------
        tracks : Tracks
        found : Localizations, optional
            Those that the tracks were made from. Without them the observed points of the table are taken.

        Returns
        -------
        Sightings
            Also of tracks without any sighting, which have no rows.
        """
        ids = np.unique(tracks.track_id)
        order = np.lexsort((tracks.frame, tracks.track_id))
        order = order[tracks.observed[order] == 1]
        seen = tracks.select(order)
        fresh = np.ones(len(seen), bool)
        fresh[1:] = (np.diff(seen.track_id) > 0) | (np.diff(seen.frame) > 0)
        seen = seen.select(fresh)
        position = np.column_stack([seen.x_um, seen.y_um, seen.z_um])
        sigma = np.column_stack([seen.sigma_x_um, seen.sigma_y_um, seen.sigma_z_um])
        if found is not None:
            hit = _nearest(seen.frame, position, found)
            seen, hit = seen.select(hit >= 0), hit[hit >= 0]
            position, sigma = found.xyz_um[hit], found.sigma_um[hit]
        finite = np.isfinite(position).all(axis=1) & np.isfinite(seen.t_s)
        seen, position, sigma = seen.select(finite), position[finite], sigma[finite]
        sigma = np.maximum(np.nan_to_num(sigma, nan=0.0), _SMALLEST_SIGMA_UM)
        starts = np.searchsorted(seen.track_id, np.append(ids, np.iinfo(np.int64).max))
        return cls(ids, starts.astype(np.int64), seen.frame, seen.t_s, position, sigma**2)

    @staticmethod
    def rows_of(tracks: Tracks, found: Localizations) -> I64:
        """Rows of the localizations that the observed points of tracks were made of, increasing."""
        seen = tracks.select(tracks.observed == 1)
        hit = _nearest(seen.frame, np.column_stack([seen.x_um, seen.y_um, seen.z_um]), found)
        return np.sort(hit[hit >= 0])

    @property
    def counts(self) -> I64:
        """Sightings of each track, shape (N,)."""
        return np.diff(self.starts)

    @property
    def track(self) -> I64:
        """Row of its track in `ids`, for each sighting; shape (R,)."""
        return np.repeat(np.arange(len(self.ids)), self.counts)

    @property
    def frame_s(self) -> float:
        """Time between frames, s; 0.01 where no track has two sightings."""
        together = self.track[1:] == self.track[:-1]
        frames, times = np.diff(self.frame)[together], np.diff(self.t_s)[together]
        good = (frames > 0) & (times > 0)
        return float(np.median(times[good] / frames[good])) if good.any() else 0.01

    def select(self, rows: NDArray[np.bool_]) -> Sightings:
        """The sightings of a mask, shape (R,); all tracks stay."""
        kept = np.bincount(self.track[rows], minlength=len(self.ids))
        starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return Sightings(
            self.ids, starts, self.frame[rows], self.t_s[rows], self.position_um[rows], self.variance_um2[rows]
        )

    def thin(self, frames: I64) -> Sightings:
        """At most one sighting in so many frames of each track; `frames` has shape (N,)."""
        spacing = np.maximum(frames, 1)[self.track]
        first = self.frame[np.minimum(self.starts[:-1], max(len(self.frame) - 1, 0))] if len(self.frame) else self.frame
        block = (self.frame - first[self.track]) // spacing if len(self.frame) else self.frame
        fresh = np.ones(len(block), bool)
        fresh[1:] = (np.diff(self.track) > 0) | (np.diff(block) > 0)
        return self.select(fresh)


def _nearest(frame: I64, position_um: F64, found: Localizations) -> I64:
    """Row of the localization that a point of a track was made of; -1 where there is none. No row twice."""
    hit = np.full(len(frame), -1, np.int64)
    if len(found) == 0 or len(frame) == 0:
        return hit
    sigma = np.maximum(found.sigma_um, _SMALLEST_SIGMA_UM)
    scale = np.median(sigma, axis=0)
    middle = np.median(position_um, axis=0)
    # Frames are so far apart that the nearest localization is of the same frame wherever that has one near enough.
    reach = 4 * _FARTHEST_SIGMAS * float(np.sqrt(3.0))
    origin = int(frame.min())
    places = np.column_stack([(found.xyz_um - middle) / scale, (found.frame - origin) * 2 * reach])
    wanted = np.column_stack([(position_um - middle) / scale, (frame - origin) * 2 * reach])
    distance, row = cKDTree(places).query(wanted, distance_upper_bound=reach)
    near = np.flatnonzero(np.isfinite(distance))
    row = row[near]
    away = np.abs(found.xyz_um[row] - position_um[near])
    good = (found.frame[row] == frame[near]) & (away <= _FARTHEST_SIGMAS * sigma[row]).all(axis=1)
    near, row = near[good], row[good]
    # Where two tracks are nearest to the same localization, it belongs to the nearer one.
    order = np.argsort(distance[near], kind="stable")
    near, row = near[order], row[order]
    _, once = np.unique(row, return_index=True)
    hit[near[once]] = row[once]
    return hit
