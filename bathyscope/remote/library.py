"""Calibrations and models of the service."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bathyscope.remote.problems import ServiceError
from bathyscope.remote.progress import following
from bathyscope.remote.records import CalibrationRecord, ModelRecord, read_job
from bathyscope.remote.steps import Endpoint, Request, Steps, get, id_of, pages
from bathyscope.remote.transports import as_json
from bathyscope.remote.uploads import Upload, as_zip
from service.files.job import Job

__all__ = ["CalibrationMethods", "ModelMethods"]

_START_S = 60.0
_TRANSFER_S = 600.0
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
    camera: Mapping[str, Any] | str | None = None,
    object_diameter_um: float | None = None,
    bead_diameter_um: float | None = None,
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
    camera : mapping or str, optional
        The part ``camera`` of a camera description, or the name of a known camera; absent: estimated from the sweep.
    object_diameter_um, bead_diameter_um : float, optional
        Diameter of the objects that will be tracked, when they are larger than the beads, and of the beads, µm.

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
        "object_diameter_um": object_diameter_um,
        "bead_diameter_um": bead_diameter_um,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return read_job((yield Request("POST", "/calibrations", json=given, timeout_s=_START_S)).json())


def upload_sweep(
    files: str | Path | Sequence[str | Path],
    *,
    z_range_um: tuple[float, float] | None = None,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    z_start_um: float | None = None,
    focus_um: float | None = None,
    axial_scale: float = 1.0,
    flip_z: bool = False,
    camera: Mapping[str, Any] | str | None = None,
    object_diameter_um: float | None = None,
    bead_diameter_um: float | None = None,
    name: str = "",
    progress: bool = True,
) -> Steps[Job]:
    """Send a recorded sweep, and compute a calibration from it, with the checks of ``bathyscope calibrate``.

    Parameters
    ----------
    files : str, Path or sequence of them
        A file (TIFF, ND2, CZI, LIF), all files of a set, or a folder (OME-Zarr, NDTiff, single images), which is sent
        as a ZIP file.
    z_range_um : (low, high), optional
        Depths to localize, µm from focus; absent: the larger side of the sweep.
    pixel_size_um, z_step_um : float, optional
        Camera pixel at the sample and step, µm; needed when the file does not state them.
    z_start_um, focus_um : float, optional
        Sweep coordinates of the first plane (absent: 0) and of focus (absent: it is measured), µm.
    axial_scale : float
        Depth per step of the sweep.
    flip_z : bool
        The sweep runs toward the objective.
    camera : mapping or str, optional
        The part ``camera`` of a camera description, or the name of a known camera; absent: estimated from the sweep.
    object_diameter_um, bead_diameter_um : float, optional
        Diameter of the objects that will be tracked, when they are larger than the beads, and of the beads, µm.
    name : str
        For people.
    progress : bool
        Show the progress of the sending.

    Returns
    -------
    Job
        It waits or has begun; `jobs.wait` follows it. The id of the calibration is that of the job.

    Raises
    ------
    ServiceError
        As the service refuses: a file that is too large, lengths that are not plausible.
    OSError
        When a file cannot be read.
    """
    body = {
        "name": name,
        "z_range_um": None if z_range_um is None else list(z_range_um),
        "pixel_size_um": pixel_size_um,
        "z_step_um": z_step_um,
        "z_start_um": z_start_um,
        "focus_um": focus_um,
        "axial_scale": axial_scale,
        "flip_z": flip_z,
        "camera": camera,
        "object_diameter_um": object_diameter_um,
        "bead_diameter_um": bead_diameter_um,
    }
    given = as_json({key: value for key, value in body.items() if value is not None})
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    with tempfile.TemporaryDirectory(prefix="bathyscope-") as aside:
        if len(paths) == 1 and paths[0].is_dir():
            paths = [as_zip(paths[0], Path(aside) / f"{paths[0].name}.zip")]
        response = yield from _send("/calibrations", paths, "sweep", given, progress)
    return read_job(response.json())


def _send(
    path: str, files: Sequence[Path], field: str | None, request: str, progress: bool, **query: Any
) -> Steps[Any]:
    """The response to a request that sends files."""
    with following(f"sending {files[0].name}", shown=progress) as show:
        upload = Upload(tuple(files), field, request, lambda done, total: show("sent", done / 1e6, total / 1e6, "MB"))
        return (yield Request("POST", path, query, upload=upload, timeout_s=_TRANSFER_S))


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


def export_model(model: ModelRecord | Job | str, path: str | Path) -> Steps[Path]:
    """Write a model to one ZIP file, check its digest, and return its path; `add` of another service takes it.

    Raises
    ------
    ServiceError
        Kind ``"digest"`` when the file was damaged on its way.
    OSError
        When the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        request = Request("GET", f"/models/{id_of(model)}/archive", save_to=part, timeout_s=_TRANSFER_S)
        stated = (yield request).headers["repr-digest"]
        with part.open("rb") as file:
            digest = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
        if stated != f"sha-256=:{digest}:":
            raise ServiceError(f"The file of model {id_of(model)} was damaged on its way.", "Try again.", kind="digest")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def add_model(path: str | Path, *, progress: bool = True) -> Steps[ModelRecord]:
    """Import a model that was exported to a file.

    Raises
    ------
    ServiceError
        Kind ``"conflict"`` when the service has a model of its id; kind ``"data"`` when the file is no whole export.
    OSError
        When the file cannot be read.
    """
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    response = yield from _send("/models", [Path(path)], None, "", progress, sha256=digest)
    return ModelRecord.read(response.json())


def rename_calibration(calibration: CalibrationRecord | Job | str, name: str) -> Steps[None]:
    """Give a calibration a name for people."""
    yield Request("PATCH", f"/calibrations/{id_of(calibration)}", json={"name": name})


def delete_calibration(calibration: CalibrationRecord | Job | str) -> Steps[None]:
    """Delete a calibration; refused while a model or a job needs it."""
    yield Request("DELETE", f"/calibrations/{id_of(calibration)}")


def rename_model(model: ModelRecord | Job | str, name: str) -> Steps[None]:
    """Give a model of the library a name for people."""
    yield Request("PATCH", f"/models/{id_of(model)}", json={"name": name})


def delete_model(model: ModelRecord | Job | str) -> Steps[None]:
    """Delete a model of the library; refused while it is active, or a job or a run needs it."""
    yield Request("DELETE", f"/models/{id_of(model)}")


class CalibrationMethods:
    """Calibrations: what the patterns of the microscope look like at each depth."""

    list = Endpoint(list_calibrations)
    get = Endpoint(get_calibration)
    report = Endpoint(read_report)
    start = Endpoint(start_calibration)
    upload = Endpoint(upload_sweep)
    rename = Endpoint(rename_calibration)
    delete = Endpoint(delete_calibration)


class ModelMethods:
    """Models: networks trained for a calibration."""

    list = Endpoint(list_models)
    get = Endpoint(get_model)
    train = Endpoint(train_model)
    activate = Endpoint(activate_model)
    export = Endpoint(export_model)
    add = Endpoint(add_model)
    rename = Endpoint(rename_model)
    delete = Endpoint(delete_model)
