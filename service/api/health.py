"""Whether the process is alive, and whether the instrument is ready."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.api.dependencies import Engine, LiveViews, ReadsOfStore, StorageOfService, StoreOfRuns
from service.api.pages import page_state
from service.api.problems import NotReady

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The API process is alive. The microscope does not count: restarting the API would not bring it back."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(
    request: Request,
    live: LiveViews,
    engine: Engine,
    storage: StorageOfService,
    store: StoreOfRuns,
    reads: ReadsOfStore,
) -> dict[str, Any]:
    """The instrument tracks, or could at once, and results can be stored; 503 with the reason otherwise."""
    status = live.require_ready()
    await reads.health.run(storage.check)
    if trouble := engine.address.trouble():
        raise NotReady(trouble, "See the log of the service; it tries again by itself.")
    await reads.health.run(store.check)
    return {
        "status": "ready",
        "state": status.get("state"),
        "run_id": status.get("run_id"),
        "page": page_state(request),
    }
