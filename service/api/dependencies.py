"""What route handlers receive as arguments: the engine, the store, the live views."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from service.api.deletions import Deletions
from service.api.live import Live
from service.api.quantities import Cursor, Limit
from service.api.reads import Reads
from service.api.uploads import Intake
from service.files.jobs import Jobs
from service.files.library import Library
from service.files.library_changes import LibraryChanges
from service.process.storage import Storage
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store

__all__ = [
    "Engine",
    "FileIntake",
    "FolderChanges",
    "FolderLibrary",
    "JobFolders",
    "LiveViews",
    "PageParameters",
    "ReadsOfStore",
    "RunDeletions",
    "ServiceSettings",
    "StorageOfService",
    "StoreOfRuns",
]


def _engine(connection: HTTPConnection) -> EngineClient:
    return cast(EngineClient, connection.app.state.engine)


def _store(connection: HTTPConnection) -> Store:
    return cast(Store, connection.app.state.store)


def _reads(connection: HTTPConnection) -> Reads:
    return cast(Reads, connection.app.state.reads)


def _storage(connection: HTTPConnection) -> Storage:
    return cast(Storage, connection.app.state.storage)


def _settings(connection: HTTPConnection) -> Settings:
    return cast(Settings, connection.app.state.settings)


def _jobs(connection: HTTPConnection) -> Jobs:
    return cast(Jobs, connection.app.state.jobs)


def _library(connection: HTTPConnection) -> Library:
    return cast(Library, connection.app.state.library)


def _deletions(connection: HTTPConnection) -> Deletions:
    return cast(Deletions, connection.app.state.deletions)


def _changes(connection: HTTPConnection) -> LibraryChanges:
    state = connection.app.state

    def used() -> set[str]:
        status = state.live.status or {}
        return {status[name] for name in ("model_id", "active_model_id") if status.get(name)}

    return LibraryChanges(state.library, state.store, state.jobs, used)


def _intake(connection: HTTPConnection) -> Intake:
    return cast(Intake, connection.app.state.intake)


def _live(connection: HTTPConnection) -> Live:
    return cast(Live, connection.app.state.live)


Engine = Annotated[EngineClient, Depends(_engine)]
StoreOfRuns = Annotated[Store, Depends(_store)]
ReadsOfStore = Annotated[Reads, Depends(_reads)]
StorageOfService = Annotated[Storage, Depends(_storage)]
ServiceSettings = Annotated[Settings, Depends(_settings)]
JobFolders = Annotated[Jobs, Depends(_jobs)]
FolderLibrary = Annotated[Library, Depends(_library)]
RunDeletions = Annotated[Deletions, Depends(_deletions)]
FileIntake = Annotated[Intake, Depends(_intake)]
FolderChanges = Annotated[LibraryChanges, Depends(_changes)]
LiveViews = Annotated[Live, Depends(_live)]


class PageParameters(BaseModel):
    """Selection of a page of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = Field(100, description="Most items on the page.")
    cursor: Cursor | None = Field(None, description="The `next` of the page before.")
