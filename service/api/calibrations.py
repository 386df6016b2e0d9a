"""Calibrations: the optics as measured by a z-sweep of beads."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.dependencies import Engine, FolderLibrary, JobFolders, PageParameters
from service.api.quantities import (
    CameraOffsetAdu,
    DepthUm,
    ElectronsPerAdu,
    ExposureS,
    Line,
    PathId,
    PixelSizeUm,
    ReadNoiseE,
    Repeats,
    SettleS,
    StepUm,
)
from service.files.descriptions import Unreadable
from service.files.job import Job
from service.files.library import CalibrationItem
from service.whole_numbers import WHOLE

__all__ = ["CalibrationRequest", "router"]

router = APIRouter(prefix="/calibrations", tags=["calibrations"])

_START_TIMEOUT_S = 10.0


class CameraDescription(BaseModel):
    """A camera as `bathyscope camera` measured it: the part `camera` of the file that it wrote."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    offset_adu: CameraOffsetAdu = Field(description="Count of a pixel without light, ADU.")
    electrons_per_adu: ElectronsPerAdu = Field(description="Photo-electrons per count.")
    read_noise_e: ReadNoiseE = Field(description="Read noise, photo-electrons.")
    bit_depth: Annotated[int, Field(ge=1, le=16), WHOLE] = Field(16, description="Bits of a count.")
    source: Line = Field("given", description="Where the figures came from.")


class CalibrationRequest(BaseModel):
    """A z-sweep of beads on the live microscope."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: Line = Field("", description="A name for display.")
    z_range_um: list[DepthUm] = Field(
        min_length=2, max_length=2, description="Range of depths to localize, low and high, µm from focus."
    )
    z_step_um: StepUm = Field(description="Step of the focus drive, µm.")
    repeats: Repeats = Field(2, description="Exposures at each plane.")
    settle_s: SettleS = Field(0.05, description="Wait after each move, s.")
    exposure_s: ExposureS | None = Field(None, description="Exposure of the sweep, s; absent: the present setting.")
    pixel_size_um: PixelSizeUm | None = Field(
        None, description="Camera pixel at the sample, µm; absent: the value of the microscope."
    )

    camera: CameraDescription | None = Field(
        None, description="The measured camera; absent: it is estimated from the sweep."
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        low, high = self.z_range_um
        if low >= high:
            raise ValueError(f"z_range_um is {low:g} to {high:g}; the low end must be below the high end")
        return self


class CalibrationList(BaseModel):
    """Calibrations, newest first."""

    items: list[CalibrationItem]
    next: str | None
    unreadable: list[Unreadable] = Field(description="Folders that cannot be read as a calibration, and why.")


@router.get("")
def list_calibrations(library: FolderLibrary, parameters: Annotated[PageParameters, Query()]) -> CalibrationList:
    """All calibrations of this data directory, newest first."""
    page = library.calibrations.page(parameters.limit, parameters.cursor)
    return CalibrationList(items=page.items, next=page.next, unreadable=page.unreadable)


@router.post("", status_code=202)
async def start_calibration(wanted: CalibrationRequest, engine: Engine, jobs: JobFolders, response: Response) -> Job:
    """Sweep the live microscope, then compute; 409 naming the owner while the microscope is in use."""
    started = await engine.request("calibration.start", wanted.model_dump(), _START_TIMEOUT_S)
    response.headers["Location"] = f"/api/v1/jobs/{started['id']}"
    return await run_in_threadpool(jobs.get, started["id"])


@router.get("/{calibration}")
def get_calibration(calibration: PathId, library: FolderLibrary) -> dict[str, Any]:
    """One calibration, with every figure."""
    return library.calibrations.description(calibration)


@router.get("/{calibration}/report", response_class=FileResponse)
def get_report(calibration: PathId, library: FolderLibrary) -> FileResponse:
    """Its report, an HTML page."""
    return FileResponse(library.report(calibration), media_type="text/html")
