"""Models: networks trained for a calibration, and the one that is active."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from starlette.background import BackgroundTask

from models.networks import available_architectures
from service.api.dependencies import (
    Engine,
    FileIntake,
    FolderChanges,
    FolderLibrary,
    JobFolders,
    LiveViews,
    PageParameters,
    ServiceSettings,
)
from service.api.item_change import ItemChange
from service.api.live import Live
from service.api.problems import NotReady
from service.api.quantities import Id, Line, PathId, Seed, Sha256, TrainingMinutes
from service.api.uploads import ZIP, ArchiveRoute
from service.files.descriptions import Unreadable
from service.files.job import Job
from service.files.library import Library, ModelItem
from service.files.model_archive import MOST_ARCHIVE_BYTES, PackedModel, export_model, import_model
from service.model_fit import ModelOptics, PresentOptics, misfits

__all__ = ["ActiveModel", "TrainingRequest", "router", "uploads"]

router = APIRouter(prefix="/models", tags=["models"])
uploads = APIRouter(prefix="/models", tags=["models"], route_class=ArchiveRoute)
"""Routes of the same paths that take files."""

_SWAP_TIMEOUT_S = 120.0
"""Loading and warming up beside a run, on a computer that is busy with it."""

_SIZES = available_architectures()
_LIVE = "live"


class TrainingRequest(BaseModel):
    """A training for a calibration; it may run beside tracking."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    calibration: Id = Field(description="Id of the calibration.")
    minutes: TrainingMinutes = Field(10.0, description="Wall time of the training, minutes.")
    architecture: Line = Field(
        "cascade",
        description="The network; vgg and fcn are the published ones. matched has none and is ready in seconds: "
        "tracks begin where the fit of an image misses light.",
        json_schema_extra={"enum": [*_SIZES]},
    )
    size: Line | None = Field(
        None,
        validate_default=True,
        description="cascade: live keeps up with a camera, full localizes best; vgg: narrow, quarter, wide or printed; "
        "fcn: narrow or wide; matched: filter. Absent: live, where there is one, or the first.",
        json_schema_extra={"enum": [*dict.fromkeys(size for sizes in _SIZES.values() for size in sizes), None]},
    )
    seed: Seed = Field(1, description="Equal seeds draw equal frames.")
    name: Line = Field("", description="A name for display.")

    @field_validator("architecture")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in _SIZES:
            raise ValueError(f"must be one of {', '.join(_SIZES)}")
        return name

    @field_validator("size")
    @classmethod
    def _sized(cls, size: str | None, known: ValidationInfo) -> str | None:
        name = known.data.get("architecture")
        if name is None:
            # The error of the architecture is reported by its own validator.
            return size
        sizes = _SIZES[name]
        if size is None:
            return _LIVE if _LIVE in sizes else sizes[0]
        if size not in sizes:
            raise ValueError(f"must be one of the sizes of {name}: {', '.join(sizes)}")
        return size


class ActiveModel(BaseModel):
    """The model that new runs use, unless they name another."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Id = Field(description="Id of the model.")


class Misfit(BaseModel):
    """Why a model does not fit the microscope."""

    problem: str
    remedy: str


class ListedModel(BaseModel):
    """A model, and whether it fits the microscope as it is set."""

    id: str
    name: str
    created_at: datetime
    source: Literal["library", "settings", "shipped"] = Field(
        description="Of this data directory, of the setting model, or shipped."
    )
    architecture: str
    size: str | None
    calibration_id: str
    z_range_um: tuple[float, float] = Field(description="Depths that it covers, µm from focus.")
    pixel_size_um: float = Field(description="Camera pixel at the sample, µm.")
    bit_depth: int = Field(description="Bits of a count of its camera.")
    minutes: float | None = Field(description="How long it was trained.")
    scores: dict[str, Any] = Field(description="On validation frames.")
    fits: bool | None = Field(
        description="Whether it fits the pixel size and the bit depth of the microscope; null while that is away."
    )
    misfits: list[Misfit] = Field(description="Why it does not fit.")


class ModelList(BaseModel):
    """Models, newest first."""

    active: str | None = Field(description="Id of the active model; null while the engine is away.")
    items: list[ListedModel]
    next: str | None
    unreadable: list[Unreadable] = Field(description="Folders that cannot be read as a model, and why.")


@router.get("")
def list_models(library: FolderLibrary, live: LiveViews, parameters: Annotated[PageParameters, Query()]) -> ModelList:
    """All models that can be used here, newest first."""
    page = library.models.page(parameters.limit, parameters.cursor)
    active = (live.status or {}).get("active_model_id")
    present = _present_optics(live)
    items = [_listed(item, present) for item in page.items]
    return ModelList(active=active, items=items, next=page.next, unreadable=page.unreadable)


_ARCHIVE_BODY = {
    "requestBody": {
        "content": {ZIP: {"schema": {"type": "string", "format": "binary", "maxLength": MOST_ARCHIVE_BYTES}}}
    }
}
Digest = Annotated[Sha256 | None, Query(description="SHA-256 digest that a sent archive must have.")]


@uploads.post("", status_code=201, include_in_schema=False)
async def take_archive(
    request: Request,
    intake: FileIntake,
    library: FolderLibrary,
    settings: ServiceSettings,
    response: Response,
    sha256: Digest = None,
) -> dict[str, Any]:
    """Import a model that was exported; 409 when there is a model of its id."""
    async with intake.folder() as folder:
        file = folder / "model.zip"
        await intake.save(request, file, MOST_ARCHIVE_BYTES)
        model = await run_in_threadpool(import_model, file, settings.data_dir, library, sha256)
    response.headers["Location"] = f"/api/v1/models/{model}"
    return await run_in_threadpool(library.models.description, model)


@router.post(
    "",
    status_code=202,
    openapi_extra=_ARCHIVE_BODY,
    responses={201: {"description": "An archive was imported: the model, as of GET /models/{model}"}},
)
def start_training(
    wanted: TrainingRequest, library: FolderLibrary, jobs: JobFolders, response: Response, sha256: Digest = None
) -> Job:
    """Train a model, or import one that is sent as application/zip.

    Trainings wait for each other, and use only the processor time that tracking leaves. An archive is checked file by
    file and imported at once: 201, or 409 when there is a model of its id.
    """
    if sha256 is not None:
        rule = "it is the digest of a sent archive; a training has none"
        raise RequestValidationError(
            [{"type": "value_error", "loc": ("query", "sha256"), "msg": rule, "input": sha256}]
        )
    _check_calibration(library, wanted.calibration)
    request = wanted.model_dump(exclude={"name"})
    job = jobs.create("train", wanted.name, request, step="compute")
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("/active")
async def get_active_model(live: LiveViews, library: FolderLibrary) -> dict[str, Any]:
    """The model that new runs use; 503 while the engine is away."""
    active = (live.status or {}).get("active_model_id")
    if active is None:
        raise NotReady("The engine does not state the active model (yet).", "Try again in a few seconds.")
    return await run_in_threadpool(library.models.description, active)


@router.put("/active")
async def activate_model(wanted: ActiveModel, engine: Engine, library: FolderLibrary) -> dict[str, Any]:
    """Load a model, warm it up, and swap; a running run continues with it, and its live tracks end."""
    await engine.request("model.activate", {"id": wanted.id}, _SWAP_TIMEOUT_S)
    return await run_in_threadpool(library.models.description, wanted.id)


@router.get("/{model}")
def get_model(model: PathId, library: FolderLibrary) -> dict[str, Any]:
    """One model, with the log of its training."""
    return library.models.description(model)


@router.patch("/{model}")
def change_model(model: PathId, wanted: ItemChange, changes: FolderChanges) -> ModelItem:
    """Change the name of a model of the library; 409 for a shipped model, and for that of the settings."""
    return changes.rename_model(model, wanted.name)


@router.delete("/{model}", status_code=204)
def delete_model(model: PathId, changes: FolderChanges) -> None:
    """Delete a model of the library; 409 while it is active, or a job or a run needs it."""
    changes.delete_model(model)


@router.get(
    "/{model}/archive",
    response_class=FileResponse,
    responses={200: {"content": {ZIP: {}}, "description": "The model in one file"}},
)
async def get_archive(model: PathId, library: FolderLibrary, intake: FileIntake) -> FileResponse:
    """A model as one ZIP file, for POST /models of another service. Repr-Digest has its SHA-256 digest."""
    folder = await run_in_threadpool(library.models.folder, model)
    file = await run_in_threadpool(intake.outgoing_file)
    try:
        packed = await run_in_threadpool(export_model, folder, file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return FileResponse(
        file,
        media_type=ZIP,
        filename=_file_name(packed),
        headers=_digest_headers(packed),
        background=BackgroundTask(file.unlink, missing_ok=True),
    )


def _file_name(packed: PackedModel) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in packed.id) + ".zip"


def _digest_headers(packed: PackedModel) -> dict[str, str]:
    """The digest as RFC 9530 states it, and as a tag."""
    digest = base64.b64encode(bytes.fromhex(packed.sha256)).decode()
    return {"Repr-Digest": f"sha-256=:{digest}:", "ETag": f'"{packed.sha256}"'}


def _present_optics(live: Live) -> PresentOptics | None:
    """The optics of the microscope, by the last status of the engine; None while it is away."""
    microscope = (live.status or {}).get("microscope") or {}
    description, camera = microscope.get("description"), microscope.get("camera")
    if microscope.get("state") == "away" or not description or not camera:
        return None
    pixel_um = description["pixel_size_um"]
    return PresentOptics(None if pixel_um is None else pixel_um * camera["binning"], description["bit_depth"])


def _listed(item: ModelItem, present: PresentOptics | None) -> ListedModel:
    optics = ModelOptics(item.id, item.pixel_size_um, item.bit_depth)
    found = [] if present is None else misfits(optics, present)
    return ListedModel(
        **asdict(item),
        fits=None if present is None else not found,
        misfits=[Misfit(problem=each.problem, remedy=each.remedy) for each in found],
    )


def _check_calibration(library: Library, calibration: str) -> None:
    """Refuse a calibration that does not exist before a job is made."""
    library.calibrations.folder(calibration)
