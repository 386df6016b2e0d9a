"""Runs, calibrations, models and properties of devices as the service describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.files.job import Fault, Job, Progress

__all__ = ["CalibrationRecord", "Event", "FocusCurveRecord", "ModelRecord", "PropertyRecord", "RunRecord", "read_job"]


@dataclass(frozen=True)
class _Record:
    """Reads a record from JSON; fields of a newer service are in `raw`."""

    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Make a record of its JSON."""
        known = {each.name for each in fields(cls)} - {"raw"}
        given = {name: _value(name, value) for name, value in values.items() if name in known}
        return cls(**given, raw=dict(values))


@dataclass(frozen=True)
class RunRecord(_Record):
    """A run.

    Attributes
    ----------
    id, name, notes : of the run
    state : ``"running"``, ``"finished"``, ``"interrupted"`` or ``"failed"``
    started_at, ended_at : UTC; None while it runs
    model_id : the model that it began with
    duration_s : as asked; None: until it is stopped
    recording : path in the data directory of the service; None without one
    fps : frames analysed per second
    revision : newest complete revision of its tracks; 1 is the live one
    ledger : number of frames by what became of them
    latency_ms : stage to p50, p95, p99 and max, ms from mid-exposure
    accuracy : scores against the truth, where it is known
    problem : why it was interrupted or failed
    raw : everything that the service states
    """

    id: str
    name: str
    notes: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    model_id: str
    duration_s: float | None
    recording: str | None
    fps: float | None
    revision: int
    ledger: dict[str, int | None]
    latency_ms: dict[str, dict[str, float | None]]
    accuracy: dict[str, Any] | None
    problem: str | None


@dataclass(frozen=True)
class CalibrationRecord(_Record):
    """A calibration: depths that it covers, pixel size, focus in the coordinates of the sweep (µm); `raw` has all."""

    id: str
    name: str
    z_range_um: tuple[float, float]
    pixel_size_um: float
    focus_um: float


@dataclass(frozen=True)
class ModelRecord(_Record):
    """A model of the service: its calibration, depths that it covers, pixel size (µm); `raw` has all."""

    id: str
    name: str
    calibration_id: str
    z_range_um: tuple[float, float]
    pixel_size_um: float


@dataclass(frozen=True)
class Event(_Record):
    """Something that happened: when (UTC), its kind, and a sentence about it."""

    id: int
    occurred_at: datetime
    kind: str
    message: str
    run_id: str | None
    details: dict[str, Any] | None


@dataclass(frozen=True)
class FocusCurveRecord(_Record):
    """What an autofocus found.

    Attributes
    ----------
    focus_um, start_um : position of the sharpest image, and where the drive was before
    focus_drive : label of the drive
    contrast : sharpness of the sharpest image of the first search over that of the median one
    stage_um, sharpness : ndarray of float64, shape (N,)
        Positions of all images, rising, and their fine detail (counts²).
    """

    focus_um: float
    start_um: float
    focus_drive: str
    contrast: float
    stage_um: NDArray[np.float64] = field(repr=False)
    sharpness: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class PropertyRecord(_Record):
    """A property of a device.

    Attributes
    ----------
    device, kind, name : label and kind of the device, and name of the property
    value : as the device reports it
    type : ``"text"``, ``"number"`` or ``"integer"``
    limits : lowest and highest value of a number, or None
    allowed : values to choose from; empty: any
    not_settable : why the service does not set it; None: `set_property` does
    """

    device: str
    kind: str
    name: str
    value: str
    type: str
    limits: tuple[float, float] | None
    allowed: tuple[str, ...]
    not_settable: str | None


def read_job(values: Mapping[str, Any]) -> Job:
    """A job from its JSON."""
    known = {each.name for each in fields(Job)}
    given = {name: _value(name, value) for name, value in values.items() if name in known}
    progress, fault = given["progress"], given["error"]
    return Job(
        **{
            **given,
            "progress": None if progress is None else Progress(**progress),
            "error": None if fault is None else Fault(**fault),
        }
    )


def _value(name: str, value: Any) -> Any:
    if value is not None and name.endswith("_at"):
        return datetime.fromisoformat(value)
    if name in ("stage_um", "sharpness"):
        return np.array(value, np.float64)
    return tuple(value) if name in ("z_range_um", "limits", "allowed") and value is not None else value
