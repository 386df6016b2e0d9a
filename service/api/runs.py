"""Runs: start, stop, list."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from models.background.mode import StaticLightMode
from service.api.dependencies import Engine, PageParameters, ReadsOfStore, StoreOfRuns
from service.api.quantities import DurationS, Id, Line, Lines, PathId
from service.store.runs import Run
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
    tracking: TrackingRequest | None = Field(
        None, description="How localizations become tracks; absent: as in the settings."
    )


class RunList(BaseModel):
    """Runs, newest first."""

    items: list[Run]
    next: str | None


@router.get("", response_model=RunList)
async def list_runs(
    store: StoreOfRuns, reads: ReadsOfStore, parameters: Annotated[PageParameters, Query()]
) -> Response:
    """All runs of this data directory, newest first."""

    def read() -> Response:
        page = store.runs.list(parameters.limit, parameters.cursor)
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


@router.post("/{run}/stop")
async def stop_run(run: PathId, engine: Engine, store: StoreOfRuns) -> Run:
    """Stop a run and wait until all is stored; stopping one that has ended changes nothing."""
    # Outside the limits of reads, so that a run can be stopped however many reads are waiting.
    if (await run_in_threadpool(store.runs.get, run)).state == "running":
        await engine.request("run.stop", {"id": run}, _STOP_TIMEOUT_S)
    return await run_in_threadpool(store.runs.get, run)
