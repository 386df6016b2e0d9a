"""Tracks and localizations of a run: JSON for display, CSV and Parquet for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from models.errors import DataError
from models.tables import Localizations, Tracks
from service.api.dependencies import ReadsOfStore, StoreOfRuns
from service.api.forms import wanted_form
from service.api.quantities import (
    MOST_POINTS,
    Cursor,
    Limit,
    PathId,
    PathTrack,
    PointLimit,
    PositionUm,
    Revision,
    RunTimeS,
    TrackLength,
)
from service.api.tables import (
    CSV,
    JSON,
    PARQUET,
    TABLE_FORMS,
    column_arrays,
    json_response,
    next_page_address,
    table_response,
)
from service.store.localizations import Batch
from service.store.schema import POINT_COLUMNS
from service.store.store import Store
from service.store.tracks import Bounds, TrackPage, TrackQuery, TrackSummary

__all__ = ["router"]

router = APIRouter(prefix="/runs/{run}", tags=["tracks"])

_DEFAULT_LIMIT = 100


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid")

    t_from_s: RunTimeS | None = Field(None, description="From this time of the run on, s.")
    t_to_s: RunTimeS | None = Field(None, description="Up to this time of the run, s.")
    limit: Limit | None = Field(None, description="Most items. JSON: 100 by default; files: all by default.")
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order("t_from_s", self.t_from_s, "t_to_s", self.t_to_s)
        return self


class LocalizationParameters(_Window):
    """Selection of batches of localizations."""


TrackColumn = Literal[
    "frame", "t_s", "x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", "sigma_x_um", "sigma_y_um", "sigma_z_um",
    "observed", "probability",
]  # fmt: skip


class TrackParameters(_Window):
    """Selection of tracks and of their points."""

    x_min_um: PositionUm | None = Field(None, description="Only points with x from here on, µm.")
    x_max_um: PositionUm | None = Field(None, description="Only points with x up to here, µm.")
    y_min_um: PositionUm | None = Field(None, description="Only points with y from here on, µm.")
    y_max_um: PositionUm | None = Field(None, description="Only points with y up to here, µm.")
    z_min_um: PositionUm | None = Field(None, description="Only points with z from here on, µm.")
    z_max_um: PositionUm | None = Field(None, description="Only points with z up to here, µm.")
    min_length: TrackLength = Field(1, description="Only tracks with at least this number of points.")
    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")
    columns: Annotated[list[TrackColumn], Field(min_length=1, max_length=50)] | None = Field(
        None, description="JSON: only these columns of the points, named one by one; absent: all of them."
    )

    @model_validator(mode="after")
    def _box(self) -> Self:
        for axis in "xyz":
            low, high = f"{axis}_min_um", f"{axis}_max_um"
            _require_order(low, getattr(self, low), high, getattr(self, high))
        return self

    def query(self) -> TrackQuery:
        """The query of the store."""
        bounds = Bounds(**{name: getattr(self, name) for name in Bounds.__slots__})
        return TrackQuery(self.t_from_s, self.t_to_s, bounds, self.min_length, self.revision)


class OneTrackParameters(BaseModel):
    """Selection of points of one track."""

    model_config = ConfigDict(extra="forbid")

    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")
    limit: PointLimit | None = Field(None, description="Most points. JSON: 50,000 by default; files: all by default.")
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")


def _require_order(low_name: str, low: float | None, high_name: str, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"{low_name} is {low} and {high_name} {high}; the first must not be greater")


def _array_fields(table: type[Localizations | Tracks], skip: str = "", *, optional: bool = False) -> dict[str, Any]:
    kinds = {
        name: list[int] if column.dtype.kind == "i" else list[float | None]
        for name, column in table.empty().columns().items()
    }
    default: Any = Field(default_factory=list) if optional else ...
    return {name: (kind, default) for name, kind in kinds.items() if name != skip}


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


class _PageHead(_TrackHead):
    revision: int = Field(description="Of the tracks; 1: as tracked live.")
    next: str | None = Field(description="Cursor of the points that follow; null: there are no more.")


TrackItem = create_model("TrackItem", __base__=_TrackHead, **_array_fields(Tracks, "track_id", optional=True))
OneTrack = create_model("OneTrack", __base__=_PageHead, **_array_fields(Tracks, "track_id"))
BatchItem = create_model("BatchItem", __base__=_BatchHead, **_array_fields(Localizations))


class TrackList(BaseModel):
    """Tracks, newest first, with their points as columns."""

    revision: int = Field(description="Of the tracks; 1: as tracked live. The pages of a list are of one revision.")
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
async def list_tracks(
    run: PathId,
    request: Request,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    parameters: Annotated[TrackParameters, Query()],
) -> Response:
    """Tracks by time, place and length. JSON: one item per track; CSV and Parquet: one row per point.

    All pages of a list are of the revision of its first one.
    """
    form, query = wanted_form(request, TABLE_FORMS), parameters.query()
    limit, cursor = parameters.limit, parameters.cursor
    if form == JSON:
        columns = parameters.columns
        return await reads.heavy.run(_json_tracks, store, run, query, limit or _DEFAULT_LIMIT, cursor, columns)
    if parameters.columns is not None:
        raise DataError("Columns are chosen in JSON only; files have all.", "Leave columns out, or accept JSON.")
    if limit is None and cursor is None:
        selection, following = await reads.light.run(store.tracks.select, run, query), None
    else:
        page = await reads.light.run(store.tracks.query, run, query, limit or _DEFAULT_LIMIT, cursor)
        selection, following = page.selection, next_page_address(request, page.next)
    parts, revision = store.tracks.stream(selection), selection.revision
    return table_response(parts, Tracks, form, f"{run}-tracks", reads, next_page=following, revision=revision)


@router.get("/tracks/{track}", response_model=None, responses=_forms(OneTrack))
async def get_track(
    run: PathId,
    track: PathTrack,
    request: Request,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    parameters: Annotated[OneTrackParameters, Query()],
) -> Response:
    """One track with its points; a long one in pages, which are of one revision."""
    form, limit = wanted_form(request, TABLE_FORMS), parameters.limit
    where = run, track, parameters.revision, parameters.cursor
    if form == JSON:
        return await reads.heavy.run(_json_track, store, *where, limit or MOST_POINTS)
    page = await reads.light.run(store.tracks.get, *where, most_points=limit)
    parts, following = store.tracks.stream(page.selection), next_page_address(request, page.next)
    name = f"{run}-track-{track}"
    return table_response(parts, Tracks, form, name, reads, next_page=following, revision=page.revision)


@router.get("/localizations", response_model=None, responses=_forms(BatchList))
async def list_localizations(
    run: PathId,
    request: Request,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    parameters: Annotated[LocalizationParameters, Query()],
) -> Response:
    """Localizations of the batches that touch a window of time. JSON: one item per batch; files: one row each."""
    form, name = wanted_form(request, TABLE_FORMS), f"{run}-localizations"
    window = {"t_from_s": parameters.t_from_s, "t_to_s": parameters.t_to_s}
    limit, cursor = parameters.limit or _DEFAULT_LIMIT, parameters.cursor
    if form == JSON:
        return await reads.heavy.run(_json_localizations, store, run, limit, cursor, window)
    if parameters.limit is None and cursor is None:
        await reads.light.run(store.runs.get, run)
        return table_response(store.localizations.stream(run, **window), Localizations, form, name, reads)
    page = await reads.heavy.run(store.localizations.list, run, limit, cursor, **window, most_rows=MOST_POINTS)
    parts = [batch.localizations for batch in reversed(page.items)]
    return table_response(parts, Localizations, form, name, reads, next_page=next_page_address(request, page.next))


def _json_tracks(
    store: Store, run: str, query: TrackQuery, limit: int, cursor: str | None, columns: Sequence[str] | None
) -> Response:
    page = store.tracks.query(run, query, limit, cursor, most_points=MOST_POINTS)
    found = {"revision": page.revision, "items": list(_track_items(store, page, columns)), "next": page.next}
    return json_response(found, page.revision)


def _json_track(
    store: Store, run: str, track: int, revision: int | None, cursor: str | None, most_points: int
) -> Response:
    page = store.tracks.get(run, track, revision, cursor, most_points=most_points)
    points = store.tracks.read(page.selection)
    its = column_arrays(points, skip=("track_id",))
    found = {"revision": page.revision, **_track_head(page.items[0]), **its, "next": page.next}
    return json_response(found, page.revision)


def _track_items(store: Store, page: TrackPage, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    points = store.tracks.read_columns(page.selection, columns or POINT_COLUMNS)
    track_id = points.pop("track_id")
    for summary in page.items:
        low, high = track_id.searchsorted([summary.track_id, summary.track_id + 1])
        if low < high:
            yield {**_track_head(summary), **{name: column[low:high] for name, column in points.items()}}


def _track_head(summary: TrackSummary) -> dict[str, Any]:
    return {"id": summary.track_id, "points": summary.points, "t_from_s": summary.t_from_s, "t_to_s": summary.t_to_s}


def _json_localizations(
    store: Store, run: str, limit: int, cursor: str | None, window: dict[str, float | None]
) -> Response:
    page = store.localizations.list(run, limit, cursor, **window, most_rows=MOST_POINTS)
    return json_response({"items": [_batch_item(batch) for batch in page.items], "next": page.next})


def _batch_item(batch: Batch) -> dict[str, Any]:
    head = {
        "id": batch.sequence,
        "model_id": batch.model_id,
        "frame_from": batch.frame_from,
        "frame_to": batch.frame_to,
    }
    times = {"t_from_s": batch.t_from_s, "t_to_s": batch.t_to_s}
    return {**head, **times, **column_arrays(batch.localizations)}
