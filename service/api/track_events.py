"""Merges and splits of the tracks of a run: JSON for display, CSV and Parquet for files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from models.tables import TrackEvents
from service.api.dependencies import ReadsOfStore, StoreOfRuns
from service.api.quantities import Cursor, Limit, PathId, Revision
from service.api.tables import CSV, JSON, PARQUET, json_response, next_page_address, table_response, wanted_form
from service.store.store import Store

__all__ = ["router"]

router = APIRouter(prefix="/runs/{run}", tags=["tracks"])

_DEFAULT_LIMIT = 100


class TrackEventParameters(BaseModel):
    """Selection of merges and splits."""

    model_config = ConfigDict(extra="forbid")

    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")
    limit: Limit | None = Field(None, description="Most events. JSON: 100 by default; files: all by default.")
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")


class TrackEventItem(BaseModel):
    """One merge or split."""

    id: int
    kind: Literal["merge", "split"]
    frame: int = Field(description="Merge: first frame in which the track was not seen; split: last one before it was.")
    t_s: float = Field(description="Time of that frame from the start of the run, s.")
    track_id: int = Field(description="The track that ended, or that is new.")
    other_id: int = Field(description="The track that it merged with or split from.")
    x_um: float = Field(description="Position of the other track, µm.")
    y_um: float
    z_um: float
    distance_um: float = Field(description="Between the two tracks, µm.")
    distance_sigma: float = Field(description="The same in standard deviations of both positions.")
    chance: float = Field(description="Probability that a place anywhere in the volume is so near to a track.")


class TrackEventList(BaseModel):
    """Merges and splits, newest first."""

    revision: int = Field(description="Of the tracks; 1: as tracked live. The pages of a list are of one revision.")
    items: list[TrackEventItem]
    next: str | None


_FORMS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": TrackEventList,
        "content": {CSV: {"schema": {"type": "string"}}, PARQUET: {}},
        "description": "Found",
    }
}


@router.get("/track-events", response_model=None, responses=_FORMS)
async def list_track_events(
    run: PathId,
    request: Request,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    parameters: Annotated[TrackEventParameters, Query()],
) -> Response:
    """Merges and splits of tracks, newest first; in files without a limit in the order in which they were found.

    All pages of a list are of the revision of its first one.
    """
    form, name = wanted_form(request), f"{run}-track-events"
    limit = parameters.limit or _DEFAULT_LIMIT
    if form == JSON:
        return await reads.light.run(_json, store, run, limit, parameters.cursor, parameters.revision)
    page = await reads.light.run(store.track_events.list, run, limit, parameters.cursor, revision=parameters.revision)
    if parameters.limit is None and parameters.cursor is None:
        parts = store.track_events.stream(run, page.revision)
        return table_response(parts, TrackEvents, form, name, reads, revision=page.revision)
    following = next_page_address(request, page.next)
    return table_response([page.events], TrackEvents, form, name, reads, next_page=following, revision=page.revision)


def _json(store: Store, run: str, limit: int, cursor: str | None, revision: int | None) -> Response:
    page = store.track_events.list(run, limit, cursor, revision=revision)
    columns = {"id": page.ids, **{name: column.tolist() for name, column in page.events.columns().items()}}
    items = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json_response({"revision": page.revision, "items": items, "next": page.next}, page.revision)
