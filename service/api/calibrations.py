"""Calibrations: the optics as measured by a z-sweep of beads."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from service.api.cameras import KnownCameraName
from service.api.dependencies import Engine, FileIntake, FolderChanges, FolderLibrary, JobFolders, PageParameters
from service.api.form_files import read_form
from service.api.item_change import ItemChange
from service.api.quantities import (
    AxialScale,
    CameraOffsetAdu,
    DepthUm,
    ElectronsPerAdu,
    ExposureS,
    Line,
    ObjectDiameterUm,
    PathId,
    PixelSizeUm,
    ReadNoiseE,
    Repeats,
    SettleS,
    StageUm,
    StepUm,
)
from service.api.uploads import FORM, FormRoute
from service.files.descriptions import Unreadable
from service.files.job import Job
from service.files.library import CalibrationItem
from service.whole_numbers import WHOLE

__all__ = ["CalibrationRequest", "SweepFileRequest", "router", "uploads"]

router = APIRouter(prefix="/calibrations", tags=["calibrations"])
uploads = APIRouter(prefix="/calibrations", tags=["calibrations"], route_class=FormRoute)
"""Routes of the same paths that take files."""

_START_TIMEOUT_S = 10.0


class CameraDescription(BaseModel):
    """A camera as `bathyscope camera` measured it: the part `camera` of the file that it wrote."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    offset_adu: CameraOffsetAdu = Field(description="Count of a pixel without light, ADU.")
    electrons_per_adu: ElectronsPerAdu = Field(description="Photo-electrons per count.")
    read_noise_e: ReadNoiseE = Field(description="Read noise, photo-electrons.")
    bit_depth: Annotated[int, Field(ge=1, le=16), WHOLE] = Field(16, description="Bits of a count.")
    source: Line = Field("given", description="Where the figures came from.")


def _kind_of_camera(value: Any) -> str:
    return "name" if isinstance(value, str) else "description"


Camera = Annotated[
    Annotated[CameraDescription, Tag("description")] | Annotated[KnownCameraName, Tag("name")],
    Discriminator(_kind_of_camera),
]


def _check_sizes(object_um: float | None, bead_um: float | None) -> None:
    if bead_um is not None and (object_um is None or object_um < bead_um):
        raise ValueError(
            f"bead_diameter_um is {bead_um:g}; it needs an object_diameter_um that is not smaller, since a pattern can "
            "be made wider, not narrower"
        )


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

    camera: Camera | None = Field(
        None, description="The measured camera, or the name of a known one; absent: it is estimated from the sweep."
    )

    object_diameter_um: ObjectDiameterUm | None = Field(
        None,
        description="Diameter of the objects that will be tracked, µm: the pattern becomes that of such spheres; "
        "absent: of the beads.",
    )
    bead_diameter_um: ObjectDiameterUm | None = Field(
        None, description="Diameter of the beads, with object_diameter_um; absent: points."
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        low, high = self.z_range_um
        if low >= high:
            raise ValueError(f"z_range_um is {low:g} to {high:g}; the low end must be below the high end")
        _check_sizes(self.object_diameter_um, self.bead_diameter_um)
        return self


class SweepFileRequest(BaseModel):
    """A z-sweep of beads in a file; lengths that the file states may be left out, and must agree with those given."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: Line = Field("", description="A name for display.")
    z_range_um: Annotated[list[DepthUm], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Range of depths to localize, µm from focus; absent: the larger side of the sweep."
    )
    pixel_size_um: PixelSizeUm | None = Field(None, description="Camera pixel at the sample, µm.")
    z_step_um: StepUm | None = Field(None, description="Step of the sweep, µm.")
    z_start_um: StageUm | None = Field(None, description="Sweep coordinate of the first plane, µm; absent: 0.")
    focus_um: StageUm | None = Field(None, description="Focus in sweep coordinates, µm; absent: it is measured.")
    axial_scale: AxialScale = Field(1.0, description="Depth per step of the sweep.")
    flip_z: bool = Field(False, description="The sweep runs toward the objective.")
    camera: Camera | None = Field(
        None, description="The measured camera, or the name of a known one; absent: it is estimated from the sweep."
    )

    object_diameter_um: ObjectDiameterUm | None = Field(
        None,
        description="Diameter of the objects that will be tracked, µm: the pattern becomes that of such spheres; "
        "absent: of the beads.",
    )
    bead_diameter_um: ObjectDiameterUm | None = Field(
        None, description="Diameter of the beads, with object_diameter_um; absent: points."
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.z_range_um is not None and self.z_range_um[0] >= self.z_range_um[1]:
            low, high = self.z_range_um
            raise ValueError(f"z_range_um is {low:g} to {high:g}; the low end must be below the high end")
        _check_sizes(self.object_diameter_um, self.bead_diameter_um)
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


_MOST_FILE_BYTES = 10**12
"""Bound of the description; the setting `upload_most_gb` is the limit of all files together."""


def _form_body() -> dict[str, Any]:
    """The form of a sweep file, for the description of the API."""
    wanted = SweepFileRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    wanted.pop("$defs", None)
    file = {"type": "string", "format": "binary", "maxLength": _MOST_FILE_BYTES}
    form = {
        "type": "object",
        "required": ["request", "sweep"],
        "additionalProperties": False,
        "properties": {"request": wanted, "sweep": {"type": "array", "minItems": 1, "maxItems": 64, "items": file}},
    }
    return {"requestBody": {"content": {FORM: {"schema": form, "encoding": {"request": {"contentType": _JSON}}}}}}


_JSON = "application/json"


@uploads.post("", status_code=202, include_in_schema=False)
async def take_sweep(request: Request, intake: FileIntake, jobs: JobFolders, response: Response) -> Job:
    """Compute a calibration from the files of a sweep."""
    async with intake.folder() as folder:
        text = await read_form(request, intake, folder, "sweep")
        wanted = _sweep_request(text)
        files = sorted(file.name for file in folder.iterdir())
        values = {**wanted.model_dump(exclude={"name"}), "files": files}
        job = await run_in_threadpool(jobs.create, "calibrate", wanted.name, values, step="compute", files=folder)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


def _sweep_request(text: bytes) -> SweepFileRequest:
    try:
        return SweepFileRequest.model_validate_json(text)
    except ValidationError as error:
        # Without the input: the bytes of a part that is no JSON would be taken for a body of another media type.
        faults = [
            {
                **fault,
                "loc": ("body", "request", *fault["loc"]),
                "input": None if fault["type"] == "json_invalid" else fault["input"],
            }
            for fault in error.errors(include_url=False)
        ]
        raise RequestValidationError(faults) from None


@router.post("", status_code=202, openapi_extra=_form_body())
async def start_calibration(wanted: CalibrationRequest, engine: Engine, jobs: JobFolders, response: Response) -> Job:
    """Sweep the live microscope, then compute; or compute from the files of a sweep, sent as multipart/form-data.

    409 names the owner while the microscope is in use; files need no microscope.
    """
    started = await engine.request("calibration.start", wanted.model_dump(), _START_TIMEOUT_S)
    response.headers["Location"] = f"/api/v1/jobs/{started['id']}"
    return await run_in_threadpool(jobs.get, started["id"])


@router.get("/{calibration}")
def get_calibration(calibration: PathId, library: FolderLibrary) -> dict[str, Any]:
    """One calibration, with every figure."""
    return library.calibrations.description(calibration)


@router.patch("/{calibration}")
def change_calibration(calibration: PathId, wanted: ItemChange, changes: FolderChanges) -> CalibrationItem:
    """Change the name of a calibration."""
    return changes.rename_calibration(calibration, wanted.name)


@router.delete("/{calibration}", status_code=204)
def delete_calibration(calibration: PathId, changes: FolderChanges) -> None:
    """Delete a calibration; 409 while a model or a job needs it."""
    changes.delete_calibration(calibration)


@router.get("/{calibration}/report", response_class=FileResponse)
def get_report(calibration: PathId, library: FolderLibrary) -> FileResponse:
    """Its report, an HTML page."""
    return FileResponse(library.report(calibration), media_type="text/html")
