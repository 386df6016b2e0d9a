"""Scores of the experiment `moving`: one row for each movie and method, and their means over movies.

All scores are of the frames from the eleventh on. Movies have paths of their
own, so the standard errors are those of means over movies. Points within 10 µm
of the truth count for errors. The error over sigma is the median of |error| /
sigma, in units of that of a normal distribution: a point on a wrong emitter is
an error of detection and not of sigma.

The error over the posterior bound has the bounds of the same points below the
line, of the frames until then or of all frames as the method has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.moving_scenes import FIRST_SCORED, Movie
from evaluation.scores.over_bound import spread
from evaluation.scores.posterior_bound import PosteriorBound
from evaluation.scores.scoring import TOLERANCES_UM, Row
from evaluation.tracks.scores import track_columns
from models.metrics import chance_jaccard, match, score_table
from models.tables import Localizations, Tracks, Truth

__all__ = ["mean_rows", "movie_row", "scored"]

F64 = NDArray[np.float64]
Table = TypeVar("Table", bound=Localizations | Tracks | Truth)

_OF_TRACKS = ("hota", "idf1", "jsc_theta", "switches_per_1000_frames", "found_tracks", "true_tracks")
_ROOT_MEAN = ("rmse_lateral_um", "rmse_axial_um")
"""Of these the squares are averaged."""

_WITH_ERROR = ("jaccard_10", "rmse_axial_um", "over_fit")
"""Columns whose standard error over movies is in the table."""


def scored(table: Table) -> Table:
    """Points in the frames that are scored."""
    return table.select(table.frame >= FIRST_SCORED)  # type: ignore[return-value]


def movie_row(found: Localizations | Tracks, movie: Movie, bound: PosteriorBound | None, *, smoothed: bool) -> Row:
    """Scores of localizations or tracks in one movie.

    Parameters
    ----------
    found : Localizations or Tracks
        At the threshold.
    movie : Movie
    bound : PosteriorBound or None
        Of all emitters and frames of the movie.
    smoothed : bool
        Whether points are made from all frames, so that the bound of all frames is theirs.
    """
    points, truth = scored(found), scored(movie.truth)
    row: Row = {f"jaccard_{tolerance:g}": score_table(points, truth, tolerance).jaccard for tolerance in TOLERANCES_UM}
    score = score_table(points, truth)
    row |= {key: getattr(score, key) for key in ("precision", "recall", "rmse_lateral_um", "rmse_axial_um")}
    row["chance_jaccard"] = chance_jaccard(points, truth, TOLERANCES_UM[0])
    pairs = _pairs(points, movie)
    for axis, name in enumerate("xyz"):
        row[f"over_sigma_{name}"] = spread(pairs.error_um[:, axis] / pairs.sigma_um[:, axis])
    if bound is not None and len(pairs.frame):
        limit = (bound.smoothed_um if smoothed else bound.filtered_um)[pairs.frame, pairs.emitter]
        row["lateral_over_bound"] = _rms(pairs.error_um[:, :2]) / _rms(limit[:, :2])
        row["axial_over_bound"] = _rms(pairs.error_um[:, 2]) / _rms(limit[:, 2])
    if isinstance(points, Tracks):
        columns = track_columns(points, truth)
        row |= {key: columns[key] for key in _OF_TRACKS}
    return row


def mean_rows(rows: Sequence[Row], condition: Row, methods: Mapping[str, Row]) -> list[Row]:
    """Means over the movies of a condition, one row for each method.

    Parameters
    ----------
    rows : sequence of Row
        Of single movies; each has ``method``.
    condition : Row
        First columns.
    methods : mapping of str to Row
        Further columns of each method.
    """
    means = []
    for method, columns in methods.items():
        mine = [row for row in rows if row["method"] == method]
        keys = [key for key in dict.fromkeys(key for row in mine for key in row) if key not in ("method", "movie")]
        mean: Row = {"method": method} | condition | columns | {"movies": len(mine)}
        for key in keys:
            values = np.array([row[key] for row in mine if row.get(key) is not None], np.float64)
            mean[key] = _mean(values, squares=key in _ROOT_MEAN)
            if key in _WITH_ERROR:
                known = len(values) > 1
                mean[f"{key}_error"] = float(values.std(ddof=1) / np.sqrt(len(values))) if known else None
        means.append(mean)
    return means


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Points within 10 µm of the truth.

    Attributes
    ----------
    error_um, sigma_um : ndarray of float64, shape (P, 3)
    frame, emitter : ndarray of int64, shape (P,)
    """

    error_um: F64
    sigma_um: F64
    frame: NDArray[np.int64]
    emitter: NDArray[np.int64]


def _pairs(points: Localizations | Tracks, movie: Movie) -> _Pairs:
    places = np.column_stack([points.x_um, points.y_um, points.z_um])
    stated = np.column_stack([points.sigma_x_um, points.sigma_y_um, points.sigma_z_um])
    errors, sigmas, frames, emitters = [], [], [], []
    for frame in range(FIRST_SCORED, len(movie.frames)):
        rows = np.flatnonzero(points.frame == frame)
        real = movie.frames.emitters[frame][:, :3]
        mine, theirs = match(places[rows], real)
        errors.append(places[rows[mine]] - real[theirs])
        sigmas.append(stated[rows[mine]])
        frames.append(np.full(len(mine), frame))
        emitters.append(theirs)
    return _Pairs(*(np.concatenate(each) for each in (errors, sigmas, frames, emitters)))


def _mean(values: F64, *, squares: bool) -> float | None:
    if len(values) == 0:
        return None
    return float(np.sqrt(np.mean(values**2))) if squares else float(values.mean())


def _rms(values: F64) -> float:
    return float(np.sqrt(np.mean(values**2)))
