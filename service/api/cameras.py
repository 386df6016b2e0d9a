"""Known cameras: figures of common models, to give a sweep by name or as a start for one's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field

from models.errors import DataError
from models.known_cameras import KNOWN_CAMERAS, known_camera

__all__ = ["KnownCameraName", "router"]

router = APIRouter(prefix="/cameras", tags=["cameras"])


def _check_name(name: str) -> str:
    try:
        return known_camera(name).name
    except DataError as error:
        raise ValueError(f"{error.problem} {error.remedy}") from error


KnownCameraName = Annotated[
    str,
    Field(json_schema_extra={"enum": list(KNOWN_CAMERAS)}, description="A camera of `/cameras`."),
    AfterValidator(_check_name),
]


class KnownCameraItem(BaseModel):
    """Figures of a camera model in one of its modes."""

    name: str
    title: str = Field(description="Maker, model and mode.")
    offset_adu: float = Field(description="Count of a pixel without light, ADU.")
    electrons_per_adu: float = Field(description="Photo-electrons per count.")
    read_noise_e: float = Field(description="Read noise, photo-electrons.")
    bit_depth: int = Field(description="Bits of a count.")
    source: str = Field(description="Where the figures are published.")


class KnownCameraList(BaseModel):
    """All known cameras."""

    items: list[KnownCameraItem]


@router.get("")
def list_cameras() -> KnownCameraList:
    """Known cameras with their figures and sources; a measured camera is better."""
    return KnownCameraList(items=[KnownCameraItem(**asdict(each)) for each in KNOWN_CAMERAS.values()])
