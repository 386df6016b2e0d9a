"""Audit lines of all requests that change, move or delete something, and their list."""

from __future__ import annotations

from typing import Annotated

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from service.api.access import Identity
from service.api.dependencies import PageParameters, ReadsOfStore, StoreOfRuns
from service.api.quantities import Line
from service.store.audit import AuditLine
from service.store.errors import StoreError
from service.store.store import Store

__all__ = ["AuditTrail", "router"]

_LONGEST_BODY = 2000
"""Bytes of a body that are kept; the parameters of a request are shorter, its notes may be longer."""

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/audit", tags=["access"])


class AuditParameters(PageParameters):
    """Selection of audit lines."""

    who: Line | None = Field(None, description="Only of this key.")


class AuditList(BaseModel):
    """Audit lines, newest first."""

    items: list[AuditLine]
    next: str | None


@router.get("", response_model=AuditList)
async def list_audit(
    store: StoreOfRuns, reads: ReadsOfStore, parameters: Annotated[AuditParameters, Query()]
) -> Response:
    """Requests that changed, moved or deleted something, newest first, also refused ones. Needs the role administer."""

    def read() -> Response:
        page = store.audit.list(parameters.limit, parameters.cursor, who=parameters.who)
        return Response(AuditList(items=page.items, next=page.next).model_dump_json(), media_type="application/json")

    return await reads.light.run(read)


class AuditTrail:
    """Writes audit lines on a thread of their own; one that cannot be stored is in the log.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limiter: anyio.CapacityLimiter | None = None

    async def note(
        self, identity: Identity, client: str, method: str, path: str, body: bytes | None, status: int
    ) -> None:
        """Store one line, after the response was sent: a locked database must not delay the stop command."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        text = None if not body or len(body) > _LONGEST_BODY else body.decode("utf-8", "replace")
        await anyio.to_thread.run_sync(
            self._add, identity, client, method, path[:500], text, status, limiter=self._limiter
        )

    def _add(self, identity: Identity, client: str, method: str, path: str, body: str | None, status: int) -> None:
        _log.info("audit", who=identity.name, client=client, method=method, path=path, status=status)
        try:
            self._store.audit.add(identity.name, identity.role, client, method, path, body, status)
        except StoreError as error:
            _log.warning("audit_not_stored", who=identity.name, method=method, path=path, body=body, error=str(error))
