"""Events of the service, newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from service.api.dependencies import PageParameters, ReadsOfStore, StoreOfRuns
from service.api.quantities import LONGEST_ID
from service.store.events import Event

__all__ = ["EventList", "router"]

router = APIRouter(prefix="/events", tags=["events"])


class EventParameters(PageParameters):
    """Selection of events."""

    kind: str | None = Field(
        None, pattern=r"^[a-z0-9_.-]{1,64}$", max_length=LONGEST_ID, description="Only of this kind."
    )
    run: str | None = Field(
        None, pattern=r"^[0-9A-Za-z-]{1,64}$", max_length=LONGEST_ID, description="Only of this run."
    )


class EventList(BaseModel):
    """Events, newest first."""

    items: list[Event]
    next: str | None


@router.get("", response_model=EventList)
async def list_events(
    store: StoreOfRuns, reads: ReadsOfStore, parameters: Annotated[EventParameters, Query()]
) -> Response:
    """Events, newest first: device lost and recovered, frames dropped, runs interrupted."""

    def read() -> Response:
        page = store.events.list(parameters.limit, parameters.cursor, kind=parameters.kind, run_id=parameters.run)
        return Response(EventList(items=page.items, next=page.next).model_dump_json(), media_type="application/json")

    return await reads.light.run(read)
