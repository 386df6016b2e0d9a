"""Tracks and localizations of a run: JSON for looking, CSV and Parquet for taking along."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from models.tables import Localizations, Tracks
from service.api.dependencies import StoreOfRuns
from service.api.quantities import Cursor, PathId, PathTrack, PositionUm, Revision, RunTimeS, TrackLength
from service.api.tables import CSV, JSON, PARQUET, column_arrays, table_response, wanted_form
from service.store.localizations import Batch
from service.store.pages import MOST_KEY
from service.store.store import Store
from service.store.tracks import Bounds, TrackQuery, TrackSummary
from service.store.values import dump_json

__all__ = ["router"]

router = APIRouter(prefix="/runs/{run}", tags=["tracks"])

_DEFAULT_LIMIT = 100
_MOST_ITEMS = 1000
_MOST_POINTS = 200_000
"""A page of JSON of about 30 MB."""


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid")

    t_from_s: RunTimeS | None = Field(None, description="From this time of the run on, s.")
    t_to_s: RunTimeS | None = Field(None, description="Up to this time of the run, s.")
    limit: int | None = Field(
        None, ge=1, le=MOST_KEY, description="Most items. JSON: 100 by default, 1000 at most; files: all by default."
    )
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order("t_from_s", self.t_from_s, "t_to_s", self.t_to_s)
        return self


class LocalizationParameters(_Window):
    """Which batches of localizations."""


class TrackParameters(_Window):
    """Which tracks, and which of their points."""

    x_min_um: PositionUm | None = Field(None, description="Only points with x from here on, µm.")
    x_max_um: PositionUm | None = Field(None, description="Only points with x up to here, µm.")
    y_min_um: PositionUm | None = Field(None, description="Only points with y from here on, µm.")
    y_max_um: PositionUm | None = Field(None, description="Only points with y up to here, µm.")
    z_min_um: PositionUm | None = Field(None, description="Only points with z from here on, µm.")
    z_max_um: PositionUm | None = Field(None, description="Only points with z up to here, µm.")
    min_length: TrackLength = Field(1, description="Only tracks with so many points in all.")
    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")

    @model_validator(mode="after")
    def _box(self) -> Self:
        for axis in "xyz":
            low, high = f"{axis}_min_um", f"{axis}_max_um"
            _require_order(low, getattr(self, low), high, getattr(self, high))
        return self

    def query(self) -> TrackQuery:
        """As the store takes it."""
        bounds = Bounds(**{name: getattr(self, name) for name in Bounds.__slots__})
        return TrackQuery(self.t_from_s, self.t_to_s, bounds, self.min_length, self.revision)


def _require_order(low_name: str, low: float | None, high_name: str, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"{low_name} is {low} and {high_name} {high}; the first must not be greater")


def _array_fields(table: type[Localizations | Tracks], skip: str = "") -> dict[str, Any]:
    kinds = {
        name: list[int] if column.dtype.kind == "i" else list[float | None]
        for name, column in table.empty().columns().items()
    }
    return {name: (kind, ...) for name, kind in kinds.items() if name != skip}


class _TrackHead(BaseModel):
    id: int = Field(description="track_id of the tables.")
    points: int = Field(description="Points of the whole track; the arrays may hold fewer.")
    t_from_s: float
    t_to_s: float


class _BatchHead(BaseModel):
    id: int
    model_id: str
    frame_from: int
    frame_to: int
    t_from_s: float
    t_to_s: float


TrackItem = create_model("TrackItem", __base__=_TrackHead, **_array_fields(Tracks, "track_id"))
BatchItem = create_model("BatchItem", __base__=_BatchHead, **_array_fields(Localizations))


class TrackList(BaseModel):
    """Tracks, newest first, with their points as columns."""

    items: list[TrackItem]  # type: ignore[valid-type]
    next: str | None


class BatchList(BaseModel):
    """Localizations by batch of 100 ms, newest first, as columns."""

    items: list[BatchItem]  # type: ignore[valid-type]
    next: str | None


def _forms(model: Any) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": model, "content": {CSV: {"schema": {"type": "string"}}, PARQUET: {}}, "description": "Found"}
    }


@router.get("/tracks", response_model=None, responses=_forms(TrackList))
def list_tracks(
    run: PathId, request: Request, store: StoreOfRuns, parameters: Annotated[TrackParameters, Query()]
) -> Response:
    """Tracks by time, place and length. JSON: one item per track; CSV and Parquet: one row per point."""
    form, query = wanted_form(request), parameters.query()
    if form == JSON:
        return _json_tracks(store, run, parameters, query)
    page = store.tracks.query(run, query, parameters.limit, parameters.cursor)
    parts = store.tracks.stream(run, query, page.items)
    return table_response(parts, Tracks, form, f"{run}-tracks", _next_page(request, page.next))


@router.get("/tracks/{track}", response_model=None, responses=_forms(TrackItem))
def get_track(
    run: PathId,
    track: PathTrack,
    request: Request,
    store: StoreOfRuns,
    revision: Annotated[Revision | None, Query()] = None,
) -> Response:
    """One track with all its points."""
    form = wanted_form(request)
    summary, points = store.tracks.get(run, track, revision)
    if form == JSON:
        return Response(dump_json(_track_item(summary, points)), media_type=JSON)
    return table_response([points], Tracks, form, f"{run}-track-{track}")


@router.get("/localizations", response_model=None, responses=_forms(BatchList))
def list_localizations(
    run: PathId, request: Request, store: StoreOfRuns, parameters: Annotated[LocalizationParameters, Query()]
) -> Response:
    """Localizations of the batches that touch a window of time. JSON: one item per batch; files: one row each."""
    form = wanted_form(request)
    window = {"t_from_s": parameters.t_from_s, "t_to_s": parameters.t_to_s}
    if form != JSON and parameters.limit is None and parameters.cursor is None:
        store.runs.get(run)
        return table_response(store.localizations.stream(run, **window), Localizations, form, f"{run}-localizations")
    limit = min(parameters.limit or _DEFAULT_LIMIT, _MOST_ITEMS)
    page = store.localizations.list(run, limit, parameters.cursor, **window)
    if form == JSON:
        items = [_batch_item(batch) for batch in page.items]
        return Response(dump_json({"items": items, "next": page.next}), media_type=JSON)
    parts = [batch.localizations for batch in reversed(page.items)]
    return table_response(parts, Localizations, form, f"{run}-localizations", _next_page(request, page.next))


def _json_tracks(store: Store, run: str, parameters: TrackParameters, query: TrackQuery) -> Response:
    limit = min(parameters.limit or _DEFAULT_LIMIT, _MOST_ITEMS)
    page = store.tracks.query(run, query, limit, parameters.cursor, most_points=_MOST_POINTS)
    points = store.tracks.read(run, query, page.items)
    items = []
    for summary in page.items:
        low, high = points.track_id.searchsorted([summary.track_id, summary.track_id + 1])
        if low < high:
            items.append(_track_item(summary, points.select(slice(low, high))))
    return Response(dump_json({"items": items, "next": page.next}), media_type=JSON)


def _track_item(summary: TrackSummary, points: Tracks) -> dict[str, Any]:
    head = {"id": summary.track_id, "points": summary.points, "t_from_s": summary.t_from_s, "t_to_s": summary.t_to_s}
    return {**head, **column_arrays(points, skip=("track_id",))}


def _batch_item(batch: Batch) -> dict[str, Any]:
    head = {
        "id": batch.sequence,
        "model_id": batch.model_id,
        "frame_from": batch.frame_from,
        "frame_to": batch.frame_to,
    }
    times = {"t_from_s": batch.t_from_s, "t_to_s": batch.t_to_s}
    return {**head, **times, **column_arrays(batch.localizations)}


def _next_page(request: Request, cursor: str | None) -> str | None:
    return None if cursor is None else str(request.url.include_query_params(cursor=cursor))
