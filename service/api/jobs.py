"""Jobs: long work, how far it is, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel, TypeAdapter

from service.api.dependencies import JobFolders, PageParameters
from service.api.live import Live
from service.api.quantities import PathId
from service.jobs.folders import Job, Jobs

__all__ = ["JobList", "follow_jobs", "router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

_LOOK_S = 0.5
"""How often the feed tells how far jobs are."""


_PLAIN = TypeAdapter(Job)


class JobList(BaseModel):
    """Jobs, newest first."""

    items: list[Job]
    next: str | None


@router.get("")
def list_jobs(jobs: JobFolders, parameters: Annotated[PageParameters, Query()]) -> JobList:
    """All jobs of this data directory, newest first."""
    page = jobs.page(parameters.limit, parameters.cursor)
    return JobList(items=page.items, next=page.next)


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

    async def follow() -> None:
        told: dict[str, Job] = {}
        while True:
            now = await anyio.to_thread.run_sync(_look, jobs, list(told))
            for job in now:
                if told.get(job.id) != job:
                    live.tell({"type": "job", **_PLAIN.dump_python(job, mode="json")})
            told = {job.id: job for job in now if not job.is_over}
            await asyncio.sleep(_LOOK_S)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _look(jobs: Jobs, before: list[str]) -> list[Job]:
    """Jobs that are on, and those that were on at the last look and have ended since."""
    now = jobs.open_jobs()
    known = {job.id for job in now}
    return [*now, *(jobs.get(job) for job in before if job not in known)]
