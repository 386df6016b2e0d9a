"""Who sent a request, as the service knows them: for programs that check their key before they act."""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.access import Access, Identity
from service.files.access_keys import Role

__all__ = ["router"]

router = APIRouter(prefix="/access", tags=["access"])


class AccessAnswer(BaseModel):
    """Owner and role of the key of a request."""

    who: str = Field(description="Name of the key; local: none is needed; access_key: that of the setting.")
    role: Role = Field(description="What it allows.")
    key_needed: bool = Field(description="Whether this service asks for keys.")


@router.get("")
async def access(request: Request) -> AccessAnswer:
    """Owner and role of the key that was sent."""
    known: Access = request.app.state.access
    # Whoever comes here has passed the check of keys.
    identity = cast(Identity, known.identify_header(request.headers.get("authorization")))
    return AccessAnswer(who=identity.name, role=identity.role, key_needed=known.is_needed)
