"""Calibrations and models of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bathyscope.remote.records import CalibrationRecord, ModelRecord, read_job
from bathyscope.remote.steps import Endpoint, Request, Steps, get, id_of, pages
from service.files.job import Job

__all__ = ["CalibrationMethods", "ModelMethods"]

_START_S = 60.0
_SWAP_S = 150.0
"""Another model is loaded and warmed up beside the run."""


def list_calibrations(limit: int | None = 100) -> Steps[list[CalibrationRecord]]:
    """Calibrations, newest first; `limit` None: all of them."""
    return (yield from pages("/calibrations", CalibrationRecord.read, limit))


def get_calibration(calibration: CalibrationRecord | Job | str) -> Steps[CalibrationRecord]:
    """One calibration, by its id or by the job that made it; `raw` has every figure."""
    return CalibrationRecord.read((yield from get(f"/calibrations/{id_of(calibration)}")))


def read_report(calibration: CalibrationRecord | Job | str) -> Steps[str]:
    """The report of a calibration, an HTML page."""
    return (yield Request("GET", f"/calibrations/{id_of(calibration)}/report")).text


def start_calibration(
    z_range_um: tuple[float, float],
    z_step_um: float,
    *,
    name: str = "",
    repeats: int = 2,
    settle_s: float = 0.05,
    exposure_s: float | None = None,
    pixel_size_um: float | None = None,
    camera: Mapping[str, Any] | None = None,
) -> Steps[Job]:
    """Sweep the live microscope through the sample, then compute a calibration from the sweep.

    Parameters
    ----------
    z_range_um : (low, high)
        Depths from focus, µm. The sweep searches focus around the present position of the drive.
    z_step_um : float
        Distance of the planes, µm.
    name : str
        For people.
    repeats : int
        Exposures at each plane.
    settle_s : float
        Wait after each move, s.
    exposure_s : float, optional
        Absent: as the camera is set.
    pixel_size_um : float, optional
        Needed when the microscope does not know it.
    camera : mapping, optional
        The part ``camera`` of a camera description; absent: estimated from the sweep.

    Returns
    -------
    Job
        It has begun; `jobs.wait` follows it. The id of the calibration is that of the job.
    """
    body = {
        "name": name,
        "z_range_um": list(z_range_um),
        "z_step_um": z_step_um,
        "repeats": repeats,
        "settle_s": settle_s,
        "exposure_s": exposure_s,
        "pixel_size_um": pixel_size_um,
        "camera": camera,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return read_job((yield Request("POST", "/calibrations", json=given, timeout_s=_START_S)).json())


def list_models(limit: int | None = 100) -> Steps[list[ModelRecord]]:
    """Models, newest first; `limit` None: all of them."""
    return (yield from pages("/models", ModelRecord.read, limit))


def get_model(model: ModelRecord | Job | str) -> Steps[ModelRecord]:
    """One model, by its id or by the job that trained it; `raw` has the log of its training."""
    return ModelRecord.read((yield from get(f"/models/{id_of(model)}")))


def train_model(
    calibration: CalibrationRecord | Job | str,
    *,
    minutes: float = 10.0,
    name: str = "",
    architecture: str = "cascade",
    size: str | None = None,
    seed: int = 1,
) -> Steps[Job]:
    """Train a model for a calibration; live tracking goes on meanwhile.

    Parameters
    ----------
    calibration : CalibrationRecord, Job or str
        The calibration, the job that made it, or its id.
    minutes : float
        Wall time of the training.
    name : str
        For people.
    architecture, size : str
        The network; see the API guide.
    seed : int
        Equal seeds draw equal training frames.

    Returns
    -------
    Job
        It waits or has begun; `jobs.wait` follows it. The id of the model is that of the job.
    """
    body = {
        "calibration": id_of(calibration),
        "minutes": minutes,
        "name": name,
        "architecture": architecture,
        "size": size,
        "seed": seed,
    }
    return read_job((yield Request("POST", "/models", json=body)).json())


def activate_model(model: ModelRecord | Job | str) -> Steps[ModelRecord]:
    """Make a model the active one; a run that is on continues with it, and its live tracks end."""
    request = Request("PUT", "/models/active", json={"id": id_of(model)}, timeout_s=_SWAP_S)
    return ModelRecord.read((yield request).json())


class CalibrationMethods:
    """Calibrations: what the patterns of the microscope look like at each depth."""

    list = Endpoint(list_calibrations)
    get = Endpoint(get_calibration)
    report = Endpoint(read_report)
    start = Endpoint(start_calibration)


class ModelMethods:
    """Models: networks trained for a calibration."""

    list = Endpoint(list_models)
    get = Endpoint(get_model)
    train = Endpoint(train_model)
    activate = Endpoint(activate_model)
