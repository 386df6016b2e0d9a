"""Figures of the tracks of a run: diffusion, speed, straightness and others, with confidence intervals.

They are computed when they are asked for, from the tracks of one page and the
localizations that these were made from, so an answer costs as much as a page.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from models.errors import DataError
from models.measures import Ensemble, Measures, Sightings, TrackMeasures, measure
from models.tables import Localizations, Tracks
from service.api.dependencies import ReadsOfStore, StoreOfRuns
from service.api.quantities import MOST_POINTS, Cursor, ExposureS, Limit, PathId, Revision, RunTimeS, TrackLength
from service.api.tables import json_response
from service.store.store import Store
from service.store.tracks import TrackQuery

__all__ = ["router"]

router = APIRouter(prefix="/runs/{run}", tags=["tracks"])

_MOST_LOCALIZATIONS = 1_000_000
"""Rows that are searched for those of the tracks of a page: some seconds."""

Source = Literal["localizations", "points"]


class MeasureParameters(BaseModel):
    """Which tracks."""

    model_config = ConfigDict(extra="forbid")

    t_from_s: RunTimeS | None = Field(None, description="From this time of the run on, s.")
    t_to_s: RunTimeS | None = Field(None, description="Up to this time of the run, s.")
    min_length: TrackLength = Field(1, description="Only tracks with so many points in all.")
    exposure_s: ExposureS | None = Field(None, description="Exposure whose blur is removed, s; absent: none.")
    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")
    limit: Limit = Field(100, description="Most tracks on the page; a page has at most 50,000 points.")
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.t_from_s, self.t_to_s
        if low is not None and high is not None and low > high:
            raise ValueError(f"t_from_s is {low} and t_to_s {high}; the first must not be greater")
        return self


class _Axes(BaseModel):
    x: list[float | None]
    y: list[float | None]
    z: list[float | None]


class _MeasuresHead(BaseModel):
    msd_um2: _Axes = Field(description="Mean squared displacement at the lags `lag_s`, localization error removed.")
    msd_standard_error_um2: _Axes = Field(description="Its standard error, for a Brownian track.")


_WHOLE = frozenset({"track_id", "points", "observed"})

MeasuresItem = create_model(
    "MeasuresItem",
    __base__=_MeasuresHead,
    **{name: (int if name in _WHOLE else float | None, ...) for name in TrackMeasures.names()},  # type: ignore[call-overload]
)


class MeasuresList(BaseModel):
    """Figures of tracks, newest first. Intervals (`_low`, `_high`, `low`, `high`) are those of 95 %."""

    revision: int = Field(description="Of the tracks; the pages of a list are of one revision.")
    source: Source = Field(
        description="What diffusion is measured on: the localizations of the tracks, or, where those are not stored, "
        "the filtered points."
    )
    lag_s: list[float] = Field(description="Lags of the mean squared displacements, s.")
    items: list[MeasuresItem]  # type: ignore[valid-type]
    ensemble: Ensemble = Field(description="Of the tracks of this page together.")
    next: str | None


@router.get("/measures", response_model=None, responses={200: {"model": MeasuresList, "description": "Measured"}})
async def list_measures(
    run: PathId, store: StoreOfRuns, reads: ReadsOfStore, parameters: Annotated[MeasureParameters, Query()]
) -> Response:
    """Figures of tracks by time and length: one item per track, and all tracks of the page together.

    A track that does not fit into a page is measured in parts. For the figures of all tracks of a long run, download
    tracks and localizations, and run `bathyscope measure`.
    """
    return await reads.heavy.run(_measures, store, run, parameters)


def _measures(store: Store, run: str, parameters: MeasureParameters) -> Response:
    query = TrackQuery(
        parameters.t_from_s, parameters.t_to_s, min_length=parameters.min_length, revision=parameters.revision
    )
    page = store.tracks.query(run, query, parameters.limit, parameters.cursor, most_points=MOST_POINTS)
    points = store.tracks.read(page.selection)
    points = points.select(np.isfinite(points.t_s))
    found = _localizations(store, run, points)
    seen = Sightings.of(points, found)
    source: Source = "localizations" if 2 * seen.counts.sum() > np.count_nonzero(points.observed) else "points"
    figures = measure(points, found if source == "localizations" else None, parameters.exposure_s or 0.0)
    answer = {
        "revision": page.revision,
        "source": source,
        "lag_s": figures.displacements.lag_s.tolist(),
        "items": _items(figures),
        "ensemble": figures.ensemble.as_dict(),
        "next": page.next,
    }
    return json_response(answer, page.revision)


def _localizations(store: Store, run: str, points: Tracks) -> Localizations:
    """The localizations that the points were made of."""
    if not len(points):
        return Localizations.empty()
    parts, rows = [], 0
    for part in store.localizations.stream(run, float(points.t_s.min()), float(points.t_s.max())):
        rows += len(part)
        if rows > _MOST_LOCALIZATIONS:
            raise DataError(
                f"The tracks of this page span more than {_MOST_LOCALIZATIONS} localizations.",
                "Ask for a shorter window of time (t_from_s, t_to_s) or fewer tracks (limit).",
            )
        parts.append(part.select(Sightings.rows_of(points, part)))
    return Localizations.concatenate(parts)


def _items(figures: Measures) -> list[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in figures.tracks.columns().items()}
    msd, errors = figures.displacements.msd_um2, figures.standard_error_um2
    items = []
    for row in reversed(range(len(figures.tracks))):
        item: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        item["msd_um2"] = {axis: msd[row, place].tolist() for place, axis in enumerate("xyz")}
        item["msd_standard_error_um2"] = {axis: errors[row, place].tolist() for place, axis in enumerate("xyz")}
        items.append(item)
    return items
