"""The types of all numbers, texts and lists of requests, each with its bounds.

Numbers without bounds are harmful: a step of 1e-7 µm means millions of planes,
and a training of 1e-300 minutes gives an untrained network. So request models
take their numbers, texts and lists from here, and a test checks that the
OpenAPI document has none without bounds. Quantities that commands and settings
have too get their range from `models.quantities`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic.config import JsonDict

from models import quantities
from models.quantities import Quantity
from service.store.pages import MOST_KEY
from service.whole_numbers import WHOLE

__all__ = [
    "LONGEST_ID",
    "MOST_POINTS",
    "AxialScale",
    "BinningFactor",
    "CameraOffsetAdu",
    "CountsAdu",
    "Cursor",
    "DepthUm",
    "DurationS",
    "ElectronsPerAdu",
    "ExposureS",
    "FocusRangeUm",
    "Id",
    "Limit",
    "Line",
    "Lines",
    "Moment",
    "ObjectDiameterUm",
    "PathFrame",
    "PathId",
    "PathTrack",
    "PixelCount",
    "PixelSizeUm",
    "PointLimit",
    "PositionUm",
    "PropertyNumber",
    "ReadNoiseE",
    "Repeats",
    "Revision",
    "RunTimeS",
    "Seed",
    "SettleS",
    "Sha256",
    "StageUm",
    "StepUm",
    "TrackId",
    "TrackLength",
    "TrainingMinutes",
]


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def _plausible(quantity: Quantity) -> tuple[Any, ...]:
    """What checks a number and states its range in the API's description."""
    bounds: JsonDict = {"minimum": quantity.low, "maximum": quantity.high}
    return AfterValidator(quantity.check), Field(json_schema_extra=bounds, description=f"Plausible: {quantity.reason}.")


# ---- quantities that commands and settings take too ----

DepthUm = Annotated[float, *_plausible(quantities.DEPTH_UM)]
StageUm = Annotated[float, *_plausible(quantities.STAGE_UM)]
StepUm = Annotated[float, *_plausible(quantities.Z_STEP_UM)]
FocusRangeUm = Annotated[float, *_plausible(quantities.FOCUS_RANGE_UM)]
ObjectDiameterUm = Annotated[float, *_plausible(quantities.OBJECT_DIAMETER_UM)]
PixelSizeUm = Annotated[float, *_plausible(quantities.PIXEL_SIZE_UM)]
ExposureS = Annotated[float, *_plausible(quantities.EXPOSURE_S)]
SettleS = Annotated[float, *_plausible(quantities.SETTLE_S)]
TrainingMinutes = Annotated[float, *_plausible(quantities.TRAINING_MINUTES)]
Repeats = Annotated[int, *_plausible(quantities.REPEATS), WHOLE]
AxialScale = Annotated[float, *_plausible(quantities.AXIAL_SCALE)]
CameraOffsetAdu = Annotated[float, *_plausible(quantities.CAMERA_OFFSET_ADU)]
ElectronsPerAdu = Annotated[float, *_plausible(quantities.ELECTRONS_PER_ADU)]
ReadNoiseE = Annotated[float, *_plausible(quantities.READ_NOISE_E)]

# ---- places and times ----

PositionUm = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""A place in the field of view, as a bound of a search, or of an XY stage: up to a metre."""

PixelCount = Annotated[int, Field(ge=0, le=100_000), WHOLE]
"""A place or length on the sensor: the largest scientific sensors have about 15,000 pixels a side."""

CountsAdu = Annotated[float, Field(ge=0, le=65_535, allow_inf_nan=False)]
"""Counts of a pixel, as a limit of the contrast: those of 16 bits."""

PropertyNumber = Annotated[int, Field(ge=-(10**12), le=10**12)] | Annotated[float, Field(ge=-1e12, le=1e12)]
"""Value of a device's property, such as a gain or a delay; the device states its own limits."""

BinningFactor = Annotated[int, Field(ge=1, le=8), WHOLE]

DurationS = Annotated[float, Field(ge=0.01, le=30 * 86_400)]
"""Length of a run: from one frame at 100 fps to a month."""

RunTimeS = Annotated[float, Field(ge=-1e6, le=1e9, allow_inf_nan=False)]
"""A time within a run, as a bound of a search: up to 30 years, and a margin before its start."""


def _only_text(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a date with its time, as 2026-11-22T01:15:00Z")


def _with_zone(date: datetime) -> datetime:
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


Moment = Annotated[
    datetime, BeforeValidator(_only_text), AfterValidator(_with_zone), Field(json_schema_extra={"maxLength": 40})
]
"""A date with its time, ISO 8601; without a zone it is UTC. Seconds as a number are refused."""

# ---- counts and names ----

Seed = Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE]
Revision = Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE]
TrackLength = Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE]
PathFrame = Annotated[int, Path(ge=0, le=MOST_KEY, description="Image number of the camera, from 0.")]
PathTrack = Annotated[int, Path(ge=0, le=MOST_KEY)]
TrackId = Annotated[int, Field(ge=0, le=2**53), WHOLE]
"""In JSON; numbers are exact up to here."""

LONGEST_ID = 64
"""Characters of the id of a run, job, calibration or model."""

# Line breaks and tabs are allowed; other control characters are not, and PostgreSQL refuses NUL.
Line = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Lines = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")]
PathId = Annotated[str, Path(max_length=LONGEST_ID)]
Sha256 = Annotated[str, StringConstraints(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]
Cursor = Annotated[str, StringConstraints(max_length=2 * LONGEST_ID)]
"""The `next` of a list: an id, or keys with a revision."""

# ---- size of a response ----

MOST_POINTS = 50_000
"""Points of tracks, or localizations, of one JSON response: about 10 MB, made within a second."""

Limit = Annotated[int, Field(ge=1, le=1000), WHOLE]
"""Items of one page, of every list."""

PointLimit = Annotated[int, Field(ge=1, le=MOST_POINTS), WHOLE]
"""Points of one page of one track."""
