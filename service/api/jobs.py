"""Jobs: long computations, with progress and result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, TypeAdapter

from service.api.dependencies import JobFolders, PageParameters
from service.api.live import Live
from service.api.quantities import PathId
from service.files.descriptions import FolderUnreadable, Unreadable
from service.files.job import Fault, Job
from service.files.jobs import Jobs
from service.store.errors import UnknownItem

__all__ = ["JobList", "follow_jobs", "router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

_INTERVAL_S = 0.5
"""Time between two messages about running jobs in the feed."""

_PLAIN = TypeAdapter(Job)


class JobList(BaseModel):
    """Jobs, newest first."""

    items: list[Job]
    next: str | None
    unreadable: list[Unreadable] = Field(description="Folders among these that cannot be read as a job, and why.")


@router.get("")
def list_jobs(jobs: JobFolders, parameters: Annotated[PageParameters, Query()]) -> JobList:
    """All jobs of this data directory, newest first."""
    page = jobs.page(parameters.limit, parameters.cursor)
    return JobList(items=page.items, next=page.next, unreadable=page.unreadable)


@router.get("/{job}")
def get_job(job: PathId, jobs: JobFolders) -> Job:
    """One job: state, progress, log, result or error."""
    return jobs.get(job)


@router.delete("/{job}")
def cancel_job(job: PathId, jobs: JobFolders) -> Job:
    """Request the end of a job and return its state; cancelling one that has ended changes nothing."""
    return jobs.cancel(job)


@asynccontextmanager
async def follow_jobs(jobs: Jobs, live: Live) -> AsyncIterator[None]:
    """Send every change of a job to the feed while the block runs."""
    sent: dict[str, Job] = {}

    async def follow() -> None:
        nonlocal sent
        while True:
            now = await anyio.to_thread.run_sync(_changed, jobs, list(sent.values()))
            for job in now:
                if sent.get(job.id) != job:
                    live.publish({"type": "job", **_PLAIN.dump_python(job, mode="json")})
            sent = {job.id: job for job in now if not job.is_over}
            await asyncio.sleep(_INTERVAL_S)

    async with live.keep_running("jobs", follow):
        yield


def _changed(jobs: Jobs, before: list[Job]) -> list[Job]:
    """Jobs that run now, and jobs that ran at the check before and have ended since."""
    now = jobs.open_jobs()
    known = {job.id for job in now}
    return [*now, *(_ended(jobs, job) for job in before if job.id not in known)]


def _ended(jobs: Jobs, before: Job) -> Job:
    """State of a job that no longer runs; one whose folder was removed or damaged counts as interrupted."""
    try:
        return jobs.get(before.id)
    except UnknownItem:
        fault = Fault(f"The folder of job {before.id} was removed while the job was running.", "Start it again.")
    except FolderUnreadable as error:
        fault = Fault(error.problem, error.remedy)
    return replace(before, state="interrupted", ended_at=datetime.now(UTC), error=fault)
