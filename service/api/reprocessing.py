"""Reprocessing: tracks of a recorded run computed again from its frames, by a job."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import FolderLibrary, JobFolders, ReadsOfStore, StoreOfRuns
from service.api.quantities import Id, PathId
from service.files.job import Job
from service.files.jobs import Jobs
from service.files.library import Library
from service.jobs.reprocess_request import asked_tracking, check_reprocessing
from service.store.store import Store
from service.tracking_settings import TrackingRequest

__all__ = ["ReprocessRequest", "router"]

router = APIRouter(tags=["runs"])


class ReprocessRequest(BaseModel):
    """How a recorded run is analysed again. Values that are absent are those of the run."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Id | None = Field(None, description="Id of a model; absent: that of the run.")
    tracking: TrackingRequest | None = Field(
        None, description="Settings of the tracking; without smooth_lag_frames, as the tracks are smoothed as a whole."
    )


@router.post("/runs/{run}/reprocess", status_code=202)
async def start_reprocessing(
    run: PathId,
    wanted: ReprocessRequest,
    store: StoreOfRuns,
    library: FolderLibrary,
    reads: ReadsOfStore,
    jobs: JobFolders,
    response: Response,
) -> Job:
    """Compute the tracks of a recorded run from its frames: each image is fitted fully, and they are smoothed.

    They become the newest revision of the run when the job is done; earlier revisions stay.
    """
    job = await reads.light.run(_create, store, library, jobs, run, wanted)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


def _create(store: Store, library: Library, jobs: Jobs, run_id: str, wanted: ReprocessRequest) -> Job:
    run = store.runs.get(run_id)
    request: dict[str, Any] = {"run": run_id, "model": wanted.model, "tracking": None}
    if wanted.tracking is not None:
        request["tracking"] = wanted.tracking.model_dump(exclude_none=True)
    check_reprocessing(store, run, asked_tracking(run, request))
    library.models.folder(wanted.model or run.model_id)
    return jobs.create("reprocess", "", request, step="compute")
