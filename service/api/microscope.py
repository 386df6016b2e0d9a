"""The microscope: what it is, how it is set, and the stop."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.dependencies import Engine
from service.link import EngineAway, EngineRefusal

__all__ = ["router"]

router = APIRouter(prefix="/microscope", tags=["microscope"])

_STOP_TIMEOUT_S = 5.0
"""The engine answers after 3 s, whatever the driver does; more means that the engine is away."""


class StopAnswer(BaseModel):
    """What is known about a stop."""

    confirmed: bool = Field(description="Whether the microscope has said that stage and camera stand still.")
    detail: str
    remedy: str | None = Field(description="What to do when it is not confirmed.")


@router.get("")
async def microscope(engine: Engine) -> dict[str, Any]:
    """State, devices, camera settings, light, stage position and limits. Moves nothing."""
    return dict(await engine.request("microscope"))


@router.post("/stop")
async def stop(engine: Engine) -> StopAnswer:
    """Halt stage and camera; always accepted. This is not an emergency stop: use the one of the microscope."""
    try:
        answer = await engine.request("microscope.stop", timeout_s=_STOP_TIMEOUT_S)
    except (EngineAway, EngineRefusal) as error:
        return _unconfirmed(error.problem)
    if not answer["confirmed"]:
        return _unconfirmed(answer["reason"])
    return StopAnswer(confirmed=True, detail="Stage and camera stand still.", remedy=None)


def _unconfirmed(detail: str) -> StopAnswer:
    remedy = "Look at the microscope, and use its own stop or switch when anything still moves."
    return StopAnswer(confirmed=False, detail=detail, remedy=remedy)
