"""The HTTP application, assembled from its arguments.

Nothing here is global: engine, store, settings and page come in as
arguments, so a test builds the same application that the service runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import APIRouter, FastAPI

from service.api import (
    acquisitions,
    audit,
    calibrations,
    cameras,
    control,
    events,
    exports,
    frames,
    health,
    identity,
    jobs,
    measures,
    metrics,
    microscope,
    models,
    pages,
    reprocessing,
    retention,
    runs,
    stream,
    system,
    track_events,
    tracks,
)
from service.api.access import Access
from service.api.audit import AuditTrail
from service.api.auth import Guard
from service.api.deletions import Deletions
from service.api.live import Live
from service.api.openapi import PROBLEMS, install_description
from service.api.prefix import PathPrefix
from service.api.problems import install_problems
from service.api.reads import Reads
from service.api.refusals import RefusalCounter
from service.api.run_readers import CountReaders, RunReaders
from service.api.uploads import Intake
from service.files.jobs import Jobs
from service.files.library import Library
from service.process.storage import Storage
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store
from service.version import installed_version

__all__ = ["create_app"]

_THREADS = 10
"""Requests at a time that read files; those that read the database have threads of their own (`Reads`)."""

_DESCRIPTION = "Live 3D tracking on a wide-field microscope. Lengths in µm, times in s, frames from 0."


def create_app(engine: EngineClient, store: Store, settings: Settings, page: Path) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    engine : EngineClient
        Client of the engine; the application closes it when it ends.
    store : Store
        The database, with its tables made.
    settings : Settings
        Access key, hosts and data directory.
    page : Path
        Folder of the built page; may be missing.
    """
    live = Live(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        async with live.running(), jobs.follow_jobs(app.state.jobs, live), app.state.deletions.running():
            await anyio.to_thread.run_sync(app.state.intake.clear)
            yield
        await engine.close()

    app = FastAPI(
        title="Bathyscope",
        version=installed_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": settings.path_prefix}] if settings.path_prefix else None,
    )
    app.state.engine, app.state.store, app.state.settings = engine, store, settings
    app.state.reads = Reads()
    app.state.storage = Storage(settings)
    app.state.jobs = Jobs(settings.data_dir)
    app.state.library = Library(settings.data_dir, settings.model)
    app.state.intake = Intake(settings)
    app.state.page, app.state.live = page, live
    readers = RunReaders()
    app.state.deletions = Deletions(store, settings, live, readers)
    app.state.refusals = RefusalCounter()
    app.state.metrics = metrics.Metrics(live, engine, settings.data_dir, app.state.refusals)
    app.state.access, app.state.audit = Access(settings), AuditTrail(store)

    api = APIRouter(prefix="/api/v1")
    for part in (calibrations, models):  # before the routes of the same paths that take JSON
        api.include_router(part.uploads)
    of_runs = (runs, acquisitions, frames, tracks, track_events, measures, exports, reprocessing, retention)
    for part in (system, microscope, cameras, calibrations, models, *of_runs, jobs, events, identity, audit):
        api.include_router(part.router)
    app.include_router(health.router, responses=PROBLEMS)
    app.include_router(api, responses=PROBLEMS)
    for part in (stream, control, metrics, pages):
        app.include_router(part.router)
    pages.install_page(app, page)

    install_problems(app)
    install_description(app)
    app.add_middleware(CountReaders, readers=readers)
    app.add_middleware(
        Guard,
        access=app.state.access,
        hosts={settings.host, *settings.allowed_hosts},
        public=pages.public_paths(page),
        refusals=app.state.refusals,
        audit=app.state.audit,
        requests_per_s=settings.requests_per_s,
    )
    if settings.path_prefix:
        app.add_middleware(PathPrefix, prefix=settings.path_prefix)
    return app
