"""The plausible range of every quantity that a request can state, each declared once.

A number without bounds is a fault: a step of 1e-7 µm asks for millions of
planes, and a training of 1e-300 minutes makes a network that has learned
nothing. So request models take their numbers, texts and lists from here, and
a test walks the API's whole description for any that are not bounded. The
ranges are wider than any instrument, so that only slips of the unit or of the
keyboard are refused.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field, StringConstraints

from service.store.pages import MOST_KEY

__all__ = [
    "LONGEST_ID",
    "MOST_PICTURES",
    "MOST_POINTS",
    "BinningFactor",
    "Cursor",
    "DepthUm",
    "DurationS",
    "ExposureS",
    "Id",
    "Limit",
    "Line",
    "Lines",
    "PathId",
    "PathTrack",
    "PixelCount",
    "PixelSizeUm",
    "PointLimit",
    "PositionUm",
    "Repeats",
    "Revision",
    "RunTimeS",
    "Seed",
    "SettleS",
    "StageUm",
    "StepUm",
    "TrackLength",
    "TrainingMinutes",
    "pictures_of_a_sweep",
]

# ---- lengths ----

DepthUm = Annotated[float, Field(ge=-10_000, le=10_000)]
"""A depth from focus: no objective works through more than a centimetre."""

StageUm = Annotated[float, Field(ge=-100_000, le=100_000)]
"""A position of the focus drive: none travels further than 10 cm. The drive's own limits are checked by the engine."""

StepUm = Annotated[float, Field(ge=0.001, le=100)]
"""A step of the focus drive: closed-loop piezo drives resolve about 1 nm."""

PixelSizeUm = Annotated[float, Field(ge=0.001, le=100)]
"""A camera pixel at the sample: 3 µm pixels behind 100x are 0.03 µm, 25 µm pixels behind 0.5x are 50 µm."""

PositionUm = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""A place in the field of view, as a bound of a search: up to a metre."""

PixelCount = Annotated[int, Field(ge=0, le=100_000)]
"""A place or length on the sensor: the largest scientific sensors have about 15,000 pixels a side."""

BinningFactor = Annotated[int, Field(ge=1, le=8)]

# ---- times ----

ExposureS = Annotated[float, Field(ge=1e-6, le=60)]
"""An exposure: scientific cameras begin at about 1 µs."""

SettleS = Annotated[float, Field(ge=0, le=10)]
"""A wait after each move of the focus drive."""

DurationS = Annotated[float, Field(ge=0.01, le=30 * 86_400)]
"""Length of a run: from one frame at 100 fps to a month."""

RunTimeS = Annotated[float, Field(ge=-1e6, le=1e9, allow_inf_nan=False)]
"""A time within a run, as a bound of a search: up to 30 years, and a margin before its start."""

TrainingMinutes = Annotated[float, Field(ge=0.05, le=7 * 24 * 60)]
"""Wall time of a training: a single step takes a second on a slow machine; a week is more than any network uses."""

# ---- counts and names ----

Repeats = Annotated[int, Field(ge=1, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Revision = Annotated[int, Field(ge=1, le=2**31 - 1)]
TrackLength = Annotated[int, Field(ge=1, le=2**31 - 1)]
PathTrack = Annotated[int, Path(ge=0, le=MOST_KEY)]

LONGEST_ID = 64
"""Characters of the id of a run, job, calibration or model."""

# Line breaks and tabs are text; other control characters are not, and PostgreSQL takes no NUL.
Line = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Lines = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")]
PathId = Annotated[str, Path(max_length=LONGEST_ID)]
Cursor = Annotated[str, StringConstraints(max_length=2 * LONGEST_ID)]
"""What a list gives as `next`: an id, or keys with a revision."""

# ---- what an answer costs ----

MOST_POINTS = 50_000
"""Points of tracks, or localizations, of one JSON answer: about 10 MB, made within a second."""

Limit = Annotated[int, Field(ge=1, le=1000)]
"""Items of one page, of every list."""

PointLimit = Annotated[int, Field(ge=1, le=MOST_POINTS)]
"""Points of one page of one track."""

# ---- what a sweep costs ----

MOST_PICTURES = 10_000
"""Exposures of one sweep: 400 planes with 25 repeats. The engine also checks the bytes against its memory and disk."""

_PICTURE_BYTES = 2048 * 2048 * 2
"""One picture of a common scientific camera: 4 megapixels of 16 bits."""


def pictures_of_a_sweep(z_range_um: tuple[float, float], z_step_um: float, repeats: int) -> int:
    """How many pictures a sweep takes, about; the exact depths depend on the focus that is found.

    Raises
    ------
    ValueError
        When they are more than `MOST_PICTURES`; the message names planes and bytes.
    """
    planes = int((z_range_um[1] - z_range_um[0]) / z_step_um) + 1
    pictures = planes * repeats
    if pictures > MOST_PICTURES:
        raise ValueError(
            f"z_range_um {z_range_um[0]:g} to {z_range_um[1]:g} in steps of z_step_um {z_step_um:g} is {planes:,} "
            f"planes, with {repeats} repeats {pictures:,} pictures, {pictures * _PICTURE_BYTES / 1e9:,.0f} GB from a "
            f"camera of 2048 x 2048 pixels; at most {MOST_PICTURES:,} pictures can be taken. Take a larger step, a "
            "smaller range or fewer repeats (is the step in µm?)"
        )
    return pictures
