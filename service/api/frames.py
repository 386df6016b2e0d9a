"""Recorded frames of a run, one at a time: as a picture, as a TIFF file, or as plain counts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import imagecodecs
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.dependencies import ReadsOfStore, ServiceSettings, StoreOfRuns
from service.api.forms import wanted_form
from service.api.quantities import CountsAdu, PathFrame, PathId
from service.files.recording import RecordedImage, place_of_recording
from service.pictures import contrast_limits, stretched
from service.store.errors import UnknownItem
from service.store.frames import PlacedFrame
from service.store.store import Store

__all__ = ["router"]

router = APIRouter(prefix="/runs/{run}", tags=["runs"])

Form = Literal["image/png", "image/tiff", "application/octet-stream"]

_PNG: Form = "image/png"
_TIFF: Form = "image/tiff"
_FORMS: tuple[Form, ...] = (_PNG, _TIFF, "application/octet-stream")
_SUFFIXES = {_PNG: "png", _TIFF: "tif", "application/octet-stream": "raw"}


class FrameParameters(BaseModel):
    """Contrast of a picture."""

    model_config = ConfigDict(extra="forbid")

    low_adu: CountsAdu | None = Field(None, description="PNG: counts shown as black; absent: the darkest 1 %.")
    high_adu: CountsAdu | None = Field(None, description="PNG: counts shown as white; absent: all but 0.2 %.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_adu is not None and self.high_adu is not None and self.low_adu >= self.high_adu:
            raise ValueError(f"low_adu is {self.low_adu:g} and high_adu {self.high_adu:g}; the first must be lower")
        return self


@router.get(
    "/frames/{frame}",
    response_class=Response,
    responses={200: {"content": {form: {} for form in _FORMS}, "description": "The frame"}},
)
async def get_frame(
    run: PathId,
    frame: PathFrame,
    request: Request,
    store: StoreOfRuns,
    reads: ReadsOfStore,
    settings: ServiceSettings,
    parameters: Annotated[FrameParameters, Query()],
) -> Response:
    """A recorded frame by its number, as Accept says: PNG (8 bits, for display), OME-TIFF, or plain counts.

    The plain counts are 16-bit integers, little-endian, row by row; the header `Bathyscope-Shape` has rows and columns.
    """
    form = wanted_form(request, _FORMS)
    return await reads.heavy.run(_frame, store, settings.data_dir, run, frame, form, parameters)


def _frame(store: Store, data_dir: Path, run: str, number: int, form: Form, parameters: FrameParameters) -> Response:
    found = store.runs.get(run)
    if found.recording is None:
        raise UnknownItem(
            f"Run {run} has no recording.", "Start runs with record: true to keep their frames; one may be deleted too."
        )
    placed = store.frames.find(run, number)
    image = RecordedImage(place_of_recording(data_dir, found))
    pixels = image.plane(placed.plane)
    rows, columns = pixels.shape
    headers = {
        "Bathyscope-Shape": f"{rows}, {columns}",
        "Content-Disposition": f'inline; filename="{run}-frame-{number}.{_SUFFIXES[form]}"',
    }
    if form == _PNG:
        low, high = _contrast(pixels, parameters)
        headers |= {"Bathyscope-Low-Adu": f"{low:g}", "Bathyscope-High-Adu": f"{high:g}"}
        content = bytes(imagecodecs.png_encode(stretched(pixels, low, high), level=1))
    elif form == _TIFF:
        content = _tiff(pixels, image.pixel_size_um, placed)
    else:
        content = np.ascontiguousarray(pixels, "<u2").tobytes()
    return Response(content, headers=headers, media_type=form)


def _contrast(pixels: NDArray[np.uint16], parameters: FrameParameters) -> tuple[float, float]:
    low, high = contrast_limits(pixels)
    low = low if parameters.low_adu is None else parameters.low_adu
    return low, max(high, low + 1.0) if parameters.high_adu is None else parameters.high_adu


def _tiff(pixels: NDArray[np.uint16], pixel_size_um: float | None, placed: PlacedFrame) -> bytes:
    import tifffile

    about: dict[str, Any] = {"axes": "YX", "Plane": {"TheC": 0, "TheZ": 0, "TheT": 0, "DeltaT": placed.time_s}}
    if pixel_size_um is not None:
        about |= {"PhysicalSizeX": pixel_size_um, "PhysicalSizeY": pixel_size_um}
        about |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, ome=True, metadata=about)
    return file.getvalue()
