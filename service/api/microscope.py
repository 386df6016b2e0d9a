"""The microscope: what it is, setting it, moving its stage, and the stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import Engine
from service.api.quantities import BinningFactor, ExposureS, Line, PixelCount, StageUm
from service.protocol.errors import EngineAway, EngineRefusal

__all__ = ["router"]

router = APIRouter(prefix="/microscope", tags=["microscope"])

_STOP_TIMEOUT_S = 5.0
"""The engine replies after 3 s even if the driver hangs; a longer wait means that the engine is away."""

_CHANGE_TIMEOUT_S = 60.0
"""Long enough for slow drives and filter wheels."""


class MicroscopeChange(BaseModel):
    """New settings; absent ones stay as they are. They hold until the microscope is opened again."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    exposure_s: ExposureS = Field(default=0.01, description="Exposure, s.")
    roi: Annotated[list[PixelCount], Field(min_length=4, max_length=4)] | None = Field(
        default=None, description="Left, top, width, height on the sensor, binned pixels; null: the whole sensor."
    )
    binning: BinningFactor = Field(default=1, description="Pixels joined to one, each way; alone: the whole sensor.")
    channel: Line = Field(default="", description="Preset of the light.")
    shutter: Literal["open", "closed"] = Field(
        default="closed", description="From now on the shutter keeps this state, even if it followed the camera before."
    )


class StageMove(BaseModel):
    """Target of the focus drive."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    stage_um: StageUm = Field(description="Position of the focus drive, µm, within its limits.")


class StopAnswer(BaseModel):
    """Outcome of a stop."""

    confirmed: bool = Field(description="Whether the microscope has confirmed that stage and camera stand still.")
    detail: str
    remedy: str | None = Field(description="What to do when it is not confirmed.")


@router.get("")
async def microscope(engine: Engine) -> dict[str, Any]:
    """State, devices, camera settings, light, stage position and limits. Moves nothing."""
    return dict(await engine.request("microscope"))


@router.patch("")
async def change(wanted: MicroscopeChange, engine: Engine) -> dict[str, Any]:
    """Set camera and light, all or nothing; 409 naming the owner while the microscope is in use."""
    values = wanted.model_dump(exclude_unset=True)
    if "shutter" in values:
        values["shutter_open"] = values.pop("shutter") == "open"
    return dict(await engine.request("microscope.set", values, _CHANGE_TIMEOUT_S))


@router.post("/stage")
async def move_stage(wanted: StageMove, engine: Engine) -> dict[str, Any]:
    """Move the focus drive within its limits; 409 naming the owner while the microscope is in use."""
    return dict(await engine.request("stage.move", wanted.model_dump(), _CHANGE_TIMEOUT_S))


@router.post("/stop")
async def stop(engine: Engine) -> StopAnswer:
    """Halt stage and camera, which ends a run or a sweep too; always accepted.

    This is not an emergency stop: use the one of the microscope.
    """
    try:
        reply = await engine.request("microscope.stop", timeout_s=_STOP_TIMEOUT_S)
    except (EngineAway, EngineRefusal) as error:
        return _unconfirmed(error.problem)
    if not reply["confirmed"]:
        return _unconfirmed(reply["reason"])
    return StopAnswer(confirmed=True, detail="Stage and camera stand still.", remedy=None)


def _unconfirmed(detail: str) -> StopAnswer:
    remedy = "Look at the microscope, and use its own stop or switch when anything still moves."
    return StopAnswer(confirmed=False, detail=detail, remedy=remedy)
