"""The HTTP application of a relay: the list of its scopes, and the WebSockets of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from service.api.access import Access
from service.api.auth import Guard
from service.api.live import FEED, PREVIEW, STREAM
from service.api.openapi import PROBLEMS, install_description
from service.api.prefix import PathPrefix
from service.api.problems import NotReady, http_problem, install_problems
from service.api.quantities import PathId
from service.api.refusals import RefusalCounter
from service.api.stream import serve_view
from service.relay.scopes import ScopeItem, Scopes
from service.settings import Settings
from service.store.errors import UnknownItem
from service.version import installed_version

__all__ = ["create_relay"]


class ScopeList(BaseModel):
    """The scopes of a relay."""

    items: list[ScopeItem]
    connected: bool
    losses: int
    refused: int


def _scopes(connection: HTTPConnection) -> Scopes:
    return cast(Scopes, connection.app.state.scopes)


ScopesOfRelay = Annotated[Scopes, Depends(_scopes)]

router = APIRouter()


@router.get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    """The relay is alive."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"])
async def readyz(scopes: ScopesOfRelay) -> dict[str, str]:
    """The NATS server is connected; 503 otherwise."""
    if not scopes.link.is_connected:
        raise NotReady("The NATS server is away.", "Start it; the relay connects by itself.")
    return {"status": "ready"}


@router.get("/api/v1/scopes", tags=["scopes"])
async def list_scopes(scopes: ScopesOfRelay) -> ScopeList:
    """All scopes that were heard since the start, by name.

    `connected` and `losses` are those of the NATS server; `refused` counts messages that belong to no scope.
    """
    items = [scope.item() for scope in scopes.all()]
    return ScopeList(items=items, connected=scopes.link.is_connected, losses=scopes.link.losses, refused=scopes.refused)


@router.get("/api/v1/scopes/{scope}", tags=["scopes"])
async def get_scope(scope: PathId, scopes: ScopesOfRelay) -> ScopeItem:
    """One scope."""
    return scopes.get(scope).item()


@router.websocket("/scopes/{scope}/api/v1/stream")
async def stream(socket: WebSocket, scope: str, scopes: ScopesOfRelay) -> None:
    """Live tracks of a scope, as `/api/v1/stream` of its own service."""
    await _serve(socket, scope, scopes, STREAM)


@router.websocket("/scopes/{scope}/api/v1/preview")
async def preview(socket: WebSocket, scope: str, scopes: ScopesOfRelay) -> None:
    """The newest camera frame of a scope."""
    await _serve(socket, scope, scopes, PREVIEW)


@router.websocket("/scopes/{scope}/api/v1/feed")
async def feed(socket: WebSocket, scope: str, scopes: ScopesOfRelay) -> None:
    """State and events of a scope as JSON text."""
    await _serve(socket, scope, scopes, FEED)


async def _serve(socket: WebSocket, name: str, scopes: Scopes, view: str) -> None:
    try:
        scope = scopes.get(name)
    except UnknownItem as error:
        await socket.send_denial_response(http_problem(404, error.problem, error.remedy))
        return
    await serve_view(socket, scope.live, view)


def create_relay(settings: Settings) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings : Settings
        With the address of the NATS server; access key, hosts and the file of keys.
    """
    scopes = Scopes(settings.relay)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with scopes.running():
            yield

    app = FastAPI(
        title="Bathyscope relay",
        version=installed_version(),
        description="Live views of several scopes.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": settings.path_prefix}] if settings.path_prefix else None,
    )
    app.state.scopes, app.state.settings = scopes, settings
    app.state.access, app.state.refusals = Access(settings), RefusalCounter()
    app.include_router(router, responses=PROBLEMS)
    install_problems(app)
    install_description(app)
    app.add_middleware(
        Guard,
        access=app.state.access,
        hosts={settings.host, *settings.allowed_hosts},
        public=(),
        refusals=app.state.refusals,
        audit=None,
        requests_per_s=settings.requests_per_s,
    )
    if settings.path_prefix:
        app.add_middleware(PathPrefix, prefix=settings.path_prefix)
    return app
