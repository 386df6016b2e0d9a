"""Runs: start, stop, list, rename, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.background.mode import StaticLightMode
from service.api.deletions import Deletions
from service.api.dependencies import Engine, PageParameters, ReadsOfStore, RunDeletions, StoreOfRuns
from service.api.quantities import DurationS, Id, Line, Lines, Moment, PathId
from service.store.removals import RemovalPart
from service.store.run_query import RunOrder, RunQuery, RunState
from service.store.runs import Run
from service.store.schema import LIVE_REVISION
from service.tracking_settings import TrackingRequest

__all__ = ["RunList", "RunRequest", "router"]

router = APIRouter(prefix="/runs", tags=["runs"])

_START_TIMEOUT_S = 60.0
"""The model is warmed up before a run starts."""

_STOP_TIMEOUT_S = 60.0
"""Grabbed frames are analysed, recorded and stored before a run is finished."""


class RunRequest(BaseModel):
    """Options of a new run."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Id | None = Field(None, description="Id of the model; absent: the active one.")
    record: bool = Field(False, description="Keep every frame, as OME-Zarr.")
    duration_s: DurationS | None = Field(None, description="Seconds; absent: until stopped.")
    name: Line = Field("", description="A name for display.")
    notes: Lines = Field("", description="Free text, stored with the run.")
    static_light: StaticLightMode | None = Field(
        None, description="Whether light that stands still is removed; absent: as in the settings."
    )
    fit: Literal["auto", "off"] | None = Field(
        None,
        description="auto: fit emitters to the camera images, as time allows; absent: as in the setting tracking.fit.",
    )
    tracking: TrackingRequest | None = Field(
        None, description="How localizations become tracks; absent: as in the settings."
    )


class RunChange(BaseModel):
    """New texts of a run; absent ones stay as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Line = Field("", description="A name for display.")
    notes: Lines = Field("", description="Free text.")


class RunParameters(PageParameters):
    """Selection and order of runs."""

    search: Line | None = Field(None, description="Only runs with this text in id, name or notes.")
    state: RunState | None = Field(None, description="Only runs in this state.")
    model: Id | None = Field(None, description="Only runs that began with this model.")
    recorded: bool | None = Field(None, description="Only runs with a recording, or only those without.")
    started_from: Moment | None = Field(None, description="Only runs that began at this date or later.")
    started_to: Moment | None = Field(None, description="Only runs that began at this date or earlier.")
    order: RunOrder = Field("newest", description="newest, oldest, name, or longest.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        begin, end = self.started_from, self.started_to
        if begin is not None and end is not None and begin > end:
            raise ValueError(f"started_from is {begin} and started_to {end}; the first must not be later")
        return self

    def query(self) -> RunQuery:
        """The query of the store."""
        return RunQuery(
            self.search, self.state, self.model, self.recorded, self.started_from, self.started_to, self.order
        )


class RunList(BaseModel):
    """Runs, in the order that was asked for."""

    items: list[Run]
    next: str | None


class Revision(BaseModel):
    """One revision of the tracks of a run."""

    id: int = Field(description="Number of the revision; 1: as tracked live.")
    made_at: datetime | None = Field(description="UTC; the live tracks: end of the run, null while it is on.")
    form: str = Field(description="live, smoothed, or as live (computed again).")
    model_ids: list[str] = Field(description="Models that localized; the live tracks: the first of them.")
    tracking: dict[str, Any] | None = Field(description="Settings of the tracking; null in runs of older versions.")
    version: str | None = Field(description="Of Bathyscope; null in runs of older versions.")


class RevisionList(BaseModel):
    """Revisions, newest first."""

    items: list[Revision]
    next: str | None


@router.get("", response_model=RunList)
async def list_runs(store: StoreOfRuns, reads: ReadsOfStore, parameters: Annotated[RunParameters, Query()]) -> Response:
    """Runs of this data directory, newest first unless `order` says otherwise."""

    def read() -> Response:
        page = store.runs.list(parameters.limit, parameters.cursor, parameters.query())
        return Response(RunList(items=page.items, next=page.next).model_dump_json(), media_type="application/json")

    return await reads.light.run(read)


@router.post("", status_code=201)
async def start_run(wanted: RunRequest, engine: Engine, store: StoreOfRuns, response: Response) -> Run:
    """Start streaming; 409 naming the owner while the microscope is in use."""
    asked = wanted.model_dump(exclude={"tracking"})
    if wanted.tracking is not None:
        asked["tracking"] = wanted.tracking.model_dump(exclude_none=True)
    started: dict[str, Any] = await engine.request("run.start", asked, _START_TIMEOUT_S)
    response.headers["Location"] = f"/api/v1/runs/{started['id']}"
    return await run_in_threadpool(store.runs.get, started["id"])


@router.get("/{run}")
async def get_run(run: PathId, store: StoreOfRuns, reads: ReadsOfStore) -> Run:
    """One run, with its ledger and latencies as of the last commit."""
    return await reads.light.run(store.runs.get, run)


@router.patch("/{run}")
async def change_run(run: PathId, wanted: RunChange, store: StoreOfRuns) -> Run:
    """Change name or notes, also while the run is on."""
    return await run_in_threadpool(store.runs.describe, run, **wanted.model_dump(exclude_unset=True))


@router.delete("/{run}", status_code=204)
async def delete_run(run: PathId, deletions: RunDeletions) -> None:
    """Delete a run: tracks, localizations, recording; 409 while something uses it.

    The run is gone when the response comes; its files and rows are deleted in the background.
    """
    await _delete(run, "run", deletions)


@router.delete("/{run}/recording", status_code=204)
async def delete_recording(run: PathId, deletions: RunDeletions) -> None:
    """Delete the recording of a run, and keep its tracks; 409 while something uses the run."""
    await _delete(run, "recording", deletions)


@router.get("/{run}/revisions")
async def list_revisions(run: PathId, store: StoreOfRuns, reads: ReadsOfStore) -> RevisionList:
    """The revisions of the tracks, newest first, with what made each."""
    found = await reads.light.run(store.runs.get, run)
    return RevisionList(items=[_revision(found, each) for each in (*reversed(found.revisions), {})], next=None)


@router.post("/{run}/stop")
async def stop_run(run: PathId, engine: Engine, store: StoreOfRuns) -> Run:
    """Stop a run and wait until all is stored; stopping one that has ended changes nothing."""
    # Outside the limits of reads, so that a run can be stopped however many reads are waiting.
    if (await run_in_threadpool(store.runs.get, run)).state == "running":
        await engine.request("run.stop", {"id": run}, _STOP_TIMEOUT_S)
    return await run_in_threadpool(store.runs.get, run)


async def _delete(run: str, part: RemovalPart, deletions: Deletions) -> None:
    await run_in_threadpool(deletions.remover.remove, run, part, "by request")
    deletions.wake()


def _revision(run: Run, made: dict[str, Any]) -> Revision:
    """A revision as the run states it; what made the live one is stated by the run itself."""
    if not made:
        return Revision(
            id=LIVE_REVISION,
            made_at=run.ended_at,
            form="live",
            model_ids=[run.model_id],
            tracking=run.settings.get("tracking"),
            version=run.settings.get("version"),
        )
    return Revision(
        id=made["revision"],
        made_at=made["made_at"],
        form=made.get("form", ""),
        model_ids=made.get("model_ids", []),
        tracking=made.get("tracking"),
        version=made.get("version"),
    )
