"""Jobs: long work, how far it is, and what came of it."""

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

_LOOK_S = 0.5
"""How often the feed tells how far jobs are."""


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
    """Ask for the end of a job, and answer how it stands; cancelling one that is over changes nothing."""
    return jobs.cancel(job)


@asynccontextmanager
async def follow_jobs(jobs: Jobs, live: Live) -> AsyncIterator[None]:
    """Tell the feed of every change of a job while the block runs."""
    told: dict[str, Job] = {}

    async def follow() -> None:
        nonlocal told
        while True:
            now = await anyio.to_thread.run_sync(_look, jobs, list(told.values()))
            for job in now:
                if told.get(job.id) != job:
                    live.tell({"type": "job", **_PLAIN.dump_python(job, mode="json")})
            told = {job.id: job for job in now if not job.is_over}
            await asyncio.sleep(_LOOK_S)

    async with live.going_on("jobs", follow):
        yield


def _look(jobs: Jobs, before: list[Job]) -> list[Job]:
    """Jobs that are on, and those that were on at the last look and have ended since."""
    now = jobs.open_jobs()
    known = {job.id for job in now}
    return [*now, *(_ended(jobs, job) for job in before if job.id not in known)]


def _ended(jobs: Jobs, before: Job) -> Job:
    """How a job that is no longer on stands; one whose folder was taken away or damaged has been interrupted."""
    try:
        return jobs.get(before.id)
    except UnknownItem:
        fault = Fault(f"The folder of job {before.id} was taken away while the job was on.", "Start it again.")
    except FolderUnreadable as error:
        fault = Fault(error.problem, error.remedy)
    return replace(before, state="interrupted", ended_at=datetime.now(UTC), error=fault)
