"""Figures of tracks from a table of tracks, with or without the localizations that they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.measures.diffusion import Curves, Estimates, likelihood_curves, noise_scales
from models.measures.exponents import Displacements, common_exponent, exponents
from models.measures.sightings import Sightings
from models.measures.table import Ensemble, Interval, TrackMeasures
from models.tables import Localizations, Tracks

__all__ = ["Measures", "measure"]

F64 = NDArray[np.float64]

_MEMORIES = 3.0
"""Sightings of a filtered table are thinned to one in so many memories of the filter."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Figures of tracks.

    Attributes
    ----------
    tracks : TrackMeasures
        One row per track, by its number.
    displacements : Displacements
        Mean squared displacements of the tracks, in the same order.
    standard_error_um2 : ndarray of float64, shape (N, 3, L), µm²
        Of the mean squared displacements.
    ensemble : Ensemble
    """

    tracks: TrackMeasures
    displacements: Displacements
    standard_error_um2: F64
    ensemble: Ensemble


def measure(tracks: Tracks, found: Localizations | None = None, exposure_s: float = 0.0) -> Measures:
    """Figures of all tracks.

    Duration, displacement, path, speed, direction and straightness are computed from the points of the table, also
    those of frames in which a track was not seen. Noise makes a path longer: take smoothed tracks for it.

    Diffusion coefficients, mean squared displacements and exponents are computed from the localizations along the
    tracks when these are given. Without them the observed points of the table are used. These are filtered: their
    error is smaller than that of localizations, but correlated, and their steps are too short. They are therefore
    thinned to distances of three memories of the filter, which costs precision, and leaves short tracks without
    figures.

    Parameters
    ----------
    tracks : Tracks
    found : Localizations, optional
        Localizations that the tracks were made from; others in the table do no harm.
    exposure_s : float
        Length of the exposure, s, whose blur is removed; 0 for instantaneous positions.

    Returns
    -------
    Measures

    Raises
    ------
    DataError
        When the exposure is negative or longer than the time between frames.
    """
    sightings = Sightings.of(tracks, found)
    if not 0 <= exposure_s <= sightings.frame_s * 1.01:
        raise DataError(
            f"The exposure is {exposure_s:g} s; it must be from 0 to the time between frames, {sightings.frame_s:g} s.",
            "Give the exposure in seconds, or leave it out.",
        )
    thinned = [sightings] * 3 if found is not None else _thinned(sightings)
    scale = np.ones(3)
    each, everything = Estimates.undefined((len(sightings.ids), 4)), Estimates.undefined((4,))
    if len(sightings.ids):
        scale, moved_scale = _by_axis(noise_scales(part, exposure_s, filtered=found is None) for part in thinned)
        curves = _curves(thinned, exposure_s, scale)
        shifted = _curves(thinned, exposure_s, moved_scale)
        each = curves.tracks().widen(shifted.tracks())
        everything = curves.ensemble().widen(shifted.ensemble())
    farthest = min(thinned, key=lambda part: len(part.frame))
    # The ratio of true and stated variances is estimated from diffusion. Other motion would distort it.
    stated = np.ones(3) if found is not None else scale
    moved = Displacements.of(farthest, exposure_s, stated, each.value[:, :3])
    errors = moved.standard_errors(each.value[:, :3])
    table = _table(tracks, sightings, each, exponents(moved, each.value[:, :3]))
    return Measures(table, moved, errors, _ensemble(table, moved, errors, everything, scale))


def _by_axis(parts: Iterator[tuple[F64, F64]]) -> tuple[F64, F64]:
    """The x of the first, the y of the second, the z of the third."""
    scales, shifted = zip(*parts, strict=True)
    return np.array(scales).diagonal().copy(), np.array(shifted).diagonal().copy()


def _curves(thinned: list[Sightings], exposure_s: float, scale: F64) -> Curves:
    if thinned[0] is thinned[1] is thinned[2]:
        return likelihood_curves(thinned[0], exposure_s, scale)
    first = likelihood_curves(thinned[0], exposure_s, scale)
    grid = first.diffusion_um2_s
    whole = [first, *(likelihood_curves(part, exposure_s, scale, grid) for part in thinned[1:])]
    return Curves(grid, np.stack([curves.log_likelihood[:, axis] for axis, curves in enumerate(whole)], axis=1))


def _thinned(sightings: Sightings) -> list[Sightings]:
    """Sightings of filtered positions at the distance of several memories of the filter, for x, y and z."""
    moved = Displacements.of(sightings, 0.0, np.zeros(3), np.zeros((len(sightings.ids), 3)))
    # The longest lag that the exponent would be fitted to: there the random walk is longest beside the error.
    lags = np.where(moved.usable(), moved.lag_frames, 0)
    column = lags.argmax(axis=1)
    step = np.take_along_axis(moved.msd_um2, column[:, None, None], axis=2)[..., 0] / moved.lag_frames[column, None]
    variance = (
        np.stack(
            [np.bincount(sightings.track, sightings.variance_um2[:, axis], len(sightings.ids)) for axis in range(3)],
            axis=1,
        )
        / np.maximum(sightings.counts, 1)[:, None]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        # Steady state of a Kalman filter of a random walk: 1 / gain = 1 + P / Q.
        memory = 1 + variance / step
    spacing = np.ceil(_MEMORIES * np.nan_to_num(memory, nan=1.0, posinf=1e6)).clip(1, 1e6).astype(np.int64)
    return [sightings.thin(spacing[:, axis]) for axis in range(3)]


def _table(tracks: Tracks, sightings: Sightings, each: Estimates, exponent: Estimates) -> TrackMeasures:
    order = np.lexsort((tracks.frame, tracks.track_id))
    ordered = tracks.select(order)
    ids, starts, points = np.unique(ordered.track_id, return_index=True, return_counts=True)
    ends = starts + points - 1
    place = np.column_stack([ordered.x_um, ordered.y_um, ordered.z_um])
    variance = np.column_stack([ordered.sigma_x_um, ordered.sigma_y_um, ordered.sigma_z_um]) ** 2
    steps = np.zeros(len(ordered))
    steps[1:] = np.linalg.norm(np.diff(place, axis=0), axis=1)
    steps[starts] = 0.0
    path = np.add.reduceat(steps, starts) if len(ids) else np.zeros(0)
    net = place[ends] - place[starts]
    length = np.linalg.norm(net, axis=1)
    duration = ordered.t_s[ends] - ordered.t_s[starts]
    with np.errstate(invalid="ignore", divide="ignore"):
        direction = net / length[:, None]
        spread = np.sqrt((direction**2 * (variance[starts] + variance[ends])).sum(axis=1))
        speed, straightness = path / duration, np.minimum(length / path, 1.0)
    alone = points < 2
    for undefined in (spread, speed, straightness):
        undefined[alone | ~np.isfinite(undefined)] = np.nan
    diffusion = {
        f"diffusion_{axis}um2_s{end}": getattr(each, name)[:, column]
        for column, axis in enumerate(("x_", "y_", "z_", ""))
        for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return TrackMeasures(
        track_id=ids,
        points=points.astype(np.int64),
        observed=sightings.counts,
        t_from_s=ordered.t_s[starts],
        duration_s=duration,
        displacement_um=length,
        displacement_sigma_um=spread,
        path_um=path,
        speed_um_s=speed,
        direction_x=direction[:, 0],
        direction_y=direction[:, 1],
        direction_z=direction[:, 2],
        straightness=straightness,
        exponent=exponent.value,
        exponent_low=exponent.low,
        exponent_high=exponent.high,
        **diffusion,
    )


def _ensemble(table: TrackMeasures, moved: Displacements, errors: F64, each: Estimates, scale: F64) -> Ensemble:
    way = np.column_stack([table.direction_x, table.direction_y, table.direction_z]) * table.displacement_um[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity = way / table.duration_s[:, None]
    mean, spread = moved.pooled(), _pooled_errors(moved, errors)
    known = moved.pairs.sum(axis=0) > 0
    return Ensemble(
        tracks=len(table),
        duration_s=Interval.of_mean(table.duration_s),
        displacement_um=Interval.of_mean(table.displacement_um),
        speed_um_s=Interval.of_mean(table.speed_um_s),
        straightness=Interval.of_mean(table.straightness),
        velocity_um_s={axis: Interval.of_mean(velocity[:, column]) for column, axis in enumerate("xyz")},
        diffusion_um2_s={
            name: Interval.of(each.value[column], each.low[column], each.high[column])
            for column, name in enumerate(("x", "y", "z", "all"))
        },
        exponent=Interval.of(*common_exponent(moved, each.value[:3])),
        noise_scale={axis: float(scale[column]) for column, axis in enumerate("xyz")},
        lag_s=moved.lag_s[known].tolist(),
        msd_um2={axis: _finite(mean[column, known]) for column, axis in enumerate("xyz")},
        msd_standard_error_um2={axis: _finite(spread[column, known]) for column, axis in enumerate("xyz")},
    )


def _pooled_errors(moved: Displacements, errors: F64) -> F64:
    """Standard errors (3, L) of the means over tracks: from how the tracks differ, and not below those of the model."""
    weight = moved.pairs[:, None, :] * np.isfinite(moved.msd_um2)
    total = np.maximum(weight.sum(axis=0), 1)
    away = np.nan_to_num(moved.msd_um2 - moved.pooled())
    tracks = np.maximum((weight > 0).sum(axis=0), 1)
    between = np.sqrt(((weight * away) ** 2).sum(axis=0)) / total
    between *= np.sqrt(tracks / np.maximum(tracks - 1, 1))
    within = np.sqrt(((weight * np.nan_to_num(errors)) ** 2).sum(axis=0)) / total
    result: F64 = np.maximum(between, within)
    return result


def _finite(values: F64) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
