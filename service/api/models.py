"""Models: networks trained for a calibration, and the one that is active."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from models.networks import available_architectures
from service.api.dependencies import Engine, FolderLibrary, JobFolders, LiveViews, PageParameters
from service.api.problems import NotReady
from service.api.quantities import Id, Line, PathId, Seed, TrainingMinutes
from service.files.descriptions import Unreadable
from service.files.job import Job
from service.files.library import Library, ModelItem

__all__ = ["ActiveModel", "TrainingRequest", "router"]

router = APIRouter(prefix="/models", tags=["models"])

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


class ModelList(BaseModel):
    """Models, newest first."""

    active: str | None = Field(description="Id of the active model; null while the engine is away.")
    items: list[ModelItem]
    next: str | None
    unreadable: list[Unreadable] = Field(description="Folders that cannot be read as a model, and why.")


@router.get("")
def list_models(library: FolderLibrary, live: LiveViews, parameters: Annotated[PageParameters, Query()]) -> ModelList:
    """All models that can be used here, newest first."""
    page = library.models.page(parameters.limit, parameters.cursor)
    active = (live.status or {}).get("active_model_id")
    return ModelList(active=active, items=page.items, next=page.next, unreadable=page.unreadable)


@router.post("", status_code=202)
def start_training(wanted: TrainingRequest, library: FolderLibrary, jobs: JobFolders, response: Response) -> Job:
    """Train a model; trainings wait for each other, and use only the processor time that tracking leaves."""
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


def _check_calibration(library: Library, calibration: str) -> None:
    """Refuse a calibration that does not exist before a job is made."""
    library.calibrations.folder(calibration)
