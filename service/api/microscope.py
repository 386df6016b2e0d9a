"""The microscope: what it is, setting it, moving its stages, single frames, and the stop."""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from service.api.dependencies import Engine, JobFolders
from service.api.quantities import (
    BinningFactor,
    DurationS,
    ExposureS,
    FocusRangeUm,
    Line,
    PixelCount,
    PositionUm,
    PropertyNumber,
    SettleS,
    StageUm,
    StepUm,
)
from service.files.job import Job
from service.protocol.errors import EngineAway, EngineRefusal

__all__ = ["StageMove", "as_engine_values", "router"]

router = APIRouter(prefix="/microscope", tags=["microscope"])

_STOP_TIMEOUT_S = 5.0
"""The engine replies after 3 s even if the driver hangs; a longer wait means that the engine is away."""

_START_TIMEOUT_S = 10.0

_CHANGE_TIMEOUT_S = 60.0
"""Long enough for slow drives and filter wheels."""


class PresetChoice(BaseModel):
    """A preset of Micro-Manager's configuration groups."""

    model_config = ConfigDict(extra="forbid", strict=True)

    group: Line = Field(min_length=1, description="The configuration group.")
    name: Line = Field(min_length=1, description="One of its presets.")


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
    preset: PresetChoice | None = Field(
        default=None, description="Set a preset, which may change several devices; to be given alone."
    )
    focus_drive: Line | None = Field(
        default=None, min_length=1, description="Use another focus drive, which has limits; to be given alone."
    )

    @model_validator(mode="after")
    def _alone(self) -> Self:
        for name in ("preset", "focus_drive"):
            others = sorted(self.model_fields_set - {name})
            if getattr(self, name) is not None and others:
                raise ValueError(f"{name} is given together with {', '.join(others)}; give it alone, then the others")
        return self


class StageMove(BaseModel):
    """Targets of focus drive and XY stage, within their limits; an axis that is absent stays."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    stage_um: StageUm | None = Field(default=None, description="Position of the focus drive, µm.")
    by_um: StageUm | None = Field(default=None, description="Distance of the focus drive from where it is, µm.")
    x_um: PositionUm | None = Field(default=None, description="Position of the XY stage in x, µm.")
    x_by_um: PositionUm | None = Field(default=None, description="Distance in x from where it is, µm.")
    y_um: PositionUm | None = Field(default=None, description="Position of the XY stage in y, µm.")
    y_by_um: PositionUm | None = Field(default=None, description="Distance in y from where it is, µm.")

    @model_validator(mode="after")
    def _one_target_each(self) -> Self:
        for place, distance in (("stage_um", "by_um"), ("x_um", "x_by_um"), ("y_um", "y_by_um")):
            if getattr(self, place) is not None and getattr(self, distance) is not None:
                raise ValueError(f"{place} and {distance} are both given; give the position or the distance")
        if not self.model_dump(exclude_none=True, exclude={"id"}):
            raise ValueError("nothing is given; give at least one of stage_um, by_um, x_um, x_by_um, y_um, y_by_um")
        return self


class FocusRequest(BaseModel):
    """An autofocus by software on the live microscope."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: Line = Field("", description="A name for display.")
    range_um: FocusRangeUm = Field(60.0, description="Distance to each side of the present position, µm.")
    step_um: StepUm = Field(4.0, description="Step of the first search, µm; the second one has an eighth of it.")
    settle_s: SettleS = Field(0.05, description="Wait after each move, s.")
    exposure_s: ExposureS | None = Field(None, description="Exposure of the images, s; absent: the present setting.")


class LiveSwitch(BaseModel):
    """The camera view without a run, on or off."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    on: bool = Field(description="Whether the camera is shown while nothing else uses it.")
    duration_s: DurationS | None = Field(
        default=None, description="The view ends by itself after this time, s; absent: it stays on."
    )


def as_engine_values(wanted: BaseModel) -> dict[str, Any]:
    """The arguments of the engine's command: what was given, without the number of a command."""
    values = wanted.model_dump(exclude_unset=True, exclude={"id"})
    for name in ("preset", "focus_drive"):
        if values.get(name, "") is None:
            del values[name]
    if "shutter" in values:
        values["shutter_open"] = values.pop("shutter") == "open"
    return values


class PropertyParameters(BaseModel):
    """Selection of properties."""

    model_config = ConfigDict(extra="forbid")

    device: Line | None = Field(default=None, description="Only of this device.")
    trigger: bool = Field(default=False, description="Only those of the camera for trigger, strobe and other signals.")


class PropertyItem(BaseModel):
    """One property of one device."""

    id: str
    device: str
    kind: str = Field(description="Kind of the device: camera, shutter, state device, focus drive, ...")
    name: str
    value: str = Field(description="As the device reports it.")
    type: Literal["text", "number", "integer"]
    limits: list[float] | None = Field(description="Lowest and highest value of a number; null: not stated.")
    allowed: list[str] = Field(description="Values to choose from; empty: any.")
    read_only: bool
    before_start: bool = Field(description="It is set in the hardware configuration, before the device is initialized.")
    of_stage: str | None = Field(description="The stage that this device moves; its properties are not set here.")
    is_trigger: bool = Field(description="By its name it concerns trigger, strobe or other signals of the camera.")
    not_settable: str | None = Field(description="Why it is not set here; null: PATCH sets it.")


class PropertyList(BaseModel):
    """Properties of the devices."""

    items: list[PropertyItem]
    next: None = Field(description="Always null: the list is complete.")


class PropertyChange(BaseModel):
    """A new value of one property. It holds until the microscope is opened again."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    device: Line = Field(min_length=1, description="Label of the device.")
    name: Line = Field(min_length=1, description="Name of the property.")
    value: Line | PropertyNumber = Field(description="The value, as text or number.")


_TIFF, _PNG = "image/tiff", "image/png"
_PICTURES: dict[str, Any] = {_TIFF: {}, _PNG: {}}


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
    return dict(await engine.request("microscope.set", as_engine_values(wanted), _CHANGE_TIMEOUT_S))


@router.get("/properties")
async def list_properties(engine: Engine, parameters: Annotated[PropertyParameters, Query()]) -> PropertyList:
    """Properties of all devices, read from the devices; 409 naming the owner while a run or sweep is on."""
    found = await engine.request("microscope.properties", {"device": parameters.device}, _CHANGE_TIMEOUT_S)
    items = [PropertyItem(**each) for each in found if each["is_trigger"] or not parameters.trigger]
    return PropertyList(items=items, next=None)


@router.patch("/properties")
async def change_property(wanted: PropertyChange, engine: Engine) -> PropertyItem:
    """Set one property and return it as the device reports it; those that can move a stage are refused."""
    arguments = {"device": wanted.device, "name": wanted.name, "value": str(wanted.value)}
    return PropertyItem(**await engine.request("microscope.property", arguments, _CHANGE_TIMEOUT_S))


@router.post("/stage")
async def move_stage(wanted: StageMove, engine: Engine) -> dict[str, Any]:
    """Move focus drive and XY stage within their limits; 409 naming the owner while the microscope is in use."""
    return dict(await engine.request("stage.move", wanted.model_dump(exclude_none=True), _CHANGE_TIMEOUT_S))


@router.post("/live")
async def switch_live(wanted: LiveSwitch, engine: Engine) -> dict[str, Any]:
    """Show the camera in the preview without a run, or end that; 409 naming the owner while a run or sweep is on."""
    return dict(await engine.request("microscope.live", wanted.model_dump(), _CHANGE_TIMEOUT_S))


@router.post("/focus", status_code=202)
async def start_focus(wanted: FocusRequest, engine: Engine, jobs: JobFolders, response: Response) -> Job:
    """Search the sharpest image along the focus drive and go there; 409 while the microscope is in use.

    A cancelled or failed job brings the drive back to where it was.
    """
    started = await engine.request("focus.start", wanted.model_dump(), _START_TIMEOUT_S)
    response.headers["Location"] = f"/api/v1/jobs/{started['id']}"
    return await run_in_threadpool(jobs.get, started["id"])


@router.post("/snap", response_class=Response, responses={200: {"description": "The frame", "content": _PICTURES}})
async def snap(engine: Engine, request: Request) -> Response:
    """Expose one frame: 16-bit counts as TIFF, or as PNG by Accept; 409 while the microscope is in use."""
    form = _picture_form(request.headers.get("accept", "*/*"))
    frame = await engine.request("microscope.snap", timeout_s=_CHANGE_TIMEOUT_S)
    headers = {"Bathyscope-Stage-Um": f"{frame['stage_um']:.4f}"}
    content = await run_in_threadpool(_picture, frame, form)
    return Response(content, media_type=form, headers=headers)


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


def _picture_form(accept: str) -> str:
    """The form of a frame by the Accept header: the first one that is known."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in _PICTURES:
            return kind
        if kind in ("*/*", "image/*"):
            return _TIFF
    raise HTTPException(406, f"Accept is {accept[:100]!r}; a frame is image/tiff or image/png")


def _picture(frame: dict[str, Any], form: str) -> bytes:
    pixels = np.frombuffer(frame["pixels"], "<u2").reshape(frame["shape"])
    if form == _PNG:
        import imagecodecs

        return bytes(imagecodecs.png_encode(pixels))
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack")
    return file.getvalue()


def _unconfirmed(detail: str) -> StopAnswer:
    remedy = "Look at the microscope, and use its own stop or switch when anything still moves."
    return StopAnswer(confirmed=False, detail=detail, remedy=remedy)
