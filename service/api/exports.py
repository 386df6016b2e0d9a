"""Exports: tracks of a run as a file for another program, written by a job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import JobFolders, ReadsOfStore, ServiceSettings, StoreOfRuns
from service.api.quantities import ExposureS, PathId, Revision, TrackId
from service.export.formats import FORMATS, FormatName
from service.files.job import Job
from service.files.jobs import Jobs
from service.settings import Settings
from service.store.errors import UnknownItem
from service.store.store import Store
from service.store.tracks import TrackQuery

__all__ = ["ExportRequest", "router"]

router = APIRouter(tags=["exports"])

_WITH_FIGURES = ("focus", "reprocess")
"""Jobs whose result is a JSON file."""


_MOST_TRACKS = 3_000
"""Tracks that one request names: with numbers of 16 digits they fit into the longest body (`service.api.bodies`)."""


class ExportRequest(BaseModel):
    """Which tracks of a run are exported, and how."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: FormatName = Field(description="csv, parquet, geff (zipped), trackmate (XML), or napari (CSV).")
    revision: Revision | None = Field(None, description="1: as tracked live; absent: the newest complete one.")
    measures: bool = Field(False, description="With duration, displacement, speed, straightness and diffusion.")
    tracks: Annotated[list[TrackId], Field(min_length=1, max_length=_MOST_TRACKS)] | None = Field(
        None, description="Only these tracks, by their ids; absent: all tracks."
    )
    exposure_s: ExposureS | None = Field(None, description="Exposure whose blur is removed from diffusion, s.")


@router.post("/runs/{run}/export", status_code=202)
async def start_export(
    run: PathId,
    wanted: ExportRequest,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    jobs: JobFolders,
    response: Response,
) -> Job:
    """Write the tracks of a run in a format; the file is at /jobs/{job}/result when the job is done."""
    job = await reads.light.run(_create, store, jobs, run, wanted)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("/jobs/{job}/result", response_class=FileResponse, responses={200: {"description": "The file"}})
def get_result(job: PathId, jobs: JobFolders, settings: ServiceSettings) -> FileResponse:
    """The file of an export, or figures of an autofocus or reprocessing (JSON). Other jobs name theirs in `result`."""
    found = jobs.get(job)
    path = _file_of(found, settings)
    media_type = "application/json" if found.kind in _WITH_FIGURES else FORMATS[found.request["format"]].media_type
    return FileResponse(path, media_type=media_type, filename=path.name)


def _create(store: Store, jobs: Jobs, run: str, wanted: ExportRequest) -> Job:
    # The revision is fixed here: recomputed tracks may become the newest ones before the job begins.
    revision = store.tracks.select(run, TrackQuery(revision=wanted.revision)).revision
    request: dict[str, Any] = {"run": run, "format": wanted.format, "revision": revision}
    if wanted.tracks is not None:
        request["tracks"] = sorted(set(wanted.tracks))
    if wanted.measures:
        request |= {"measures": True, "exposure_s": wanted.exposure_s}
    return jobs.create("export", "", request, step="compute")


def _file_of(job: Job, settings: Settings) -> Path:
    if job.kind not in ("export", *_WITH_FIGURES):
        raise UnknownItem(
            f"Job {job.id} ({job.kind}) has no file here.",
            f"Its result is at /api/v1/{job.result}." if job.result else "See the job.",
        )
    if job.state != "done":
        raise UnknownItem(
            f"Job {job.id} is {job.state}; it has no file.",
            "Wait until its state is done." if not job.is_over else "Start it again.",
        )
    folder = settings.data_dir / "jobs" / job.id / "result"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if not files:
        raise UnknownItem(f"The file of job {job.id} was removed, as after a week.", "Start the export again.")
    return files[0]
