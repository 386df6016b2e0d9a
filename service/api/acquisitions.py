"""Acquisitions described in useq-schema: a time series becomes a run, a focal stack a calibration."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import Engine, JobFolders, StoreOfRuns
from service.api.quantities import Id, Line, Lines
from service.files.job import Job
from service.protocol.errors import EngineRefusal
from service.sequences import TimeSeries, check_channel, read_sequence
from service.store.runs import Run

__all__ = ["router"]

router = APIRouter(prefix="/acquisitions", tags=["acquisitions"])

_START_TIMEOUT_S = 60.0
"""The model is warmed up before a run starts."""


class AcquisitionRequest(BaseModel):
    """A sequence, and what a sequence does not say."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    sequence: Lines = Field(description="MDASequence of useq-schema, as JSON or YAML.")
    name: Line = Field("", description="A name for display.")
    record: bool = Field(True, description="Of a time series: keep every frame.")
    model: Id | None = Field(None, description="Of a time series: id of the model; absent: the active one.")


class Acquisition(BaseModel):
    """What a sequence became."""

    kind: Literal["run", "calibration"]
    run: Run | None = Field(description="Of a time series: the run, which has begun.")
    job: Job | None = Field(description="Of a focal stack: the job of the calibration, which has begun.")


@router.post("", status_code=201)
async def start_acquisition(
    wanted: AcquisitionRequest, engine: Engine, store: StoreOfRuns, jobs: JobFolders, response: Response
) -> Acquisition:
    """Run a sequence of useq-schema: a time series as a run, a focal stack around focus as the sweep of a calibration.

    422 says what of the sequence is not run; 409 names the owner while the microscope is in use.
    """
    sequence = await run_in_threadpool(read_sequence, wanted.sequence)
    microscope = dict(await engine.request("microscope"))
    check_channel(sequence.channel, microscope.get("light") or {})
    if isinstance(sequence, TimeSeries):
        asked = {
            "model": wanted.model,
            "record": wanted.record,
            "duration_s": sequence.duration_s(*_period_and_exposure_s(microscope)),
            "name": wanted.name,
        }
        started = await engine.request("run.start", asked, _START_TIMEOUT_S)
        response.headers["Location"] = f"/api/v1/runs/{started['id']}"
        return Acquisition(kind="run", run=await run_in_threadpool(store.runs.get, started["id"]), job=None)
    sweep: dict[str, Any] = {
        "name": wanted.name,
        "z_range_um": list(sequence.z_range_um),
        "z_step_um": sequence.z_step_um,
        "exposure_s": sequence.exposure_s,
    }
    started = await engine.request("calibration.start", sweep, _START_TIMEOUT_S)
    response.headers["Location"] = f"/api/v1/jobs/{started['id']}"
    return Acquisition(kind="calibration", run=None, job=await run_in_threadpool(jobs.get, started["id"]))


def _period_and_exposure_s(microscope: dict[str, Any]) -> tuple[float, float]:
    """Time from frame to frame, and exposure, as the camera is set."""
    camera = microscope.get("camera")
    if not camera:
        raise EngineRefusal(
            "unavailable",
            str(microscope.get("problem") or "There is no camera now."),
            "Wait until the microscope is back.",
        )
    exposure_s = float(camera["exposure_s"])
    return float(microscope.get("frame_period_s") or exposure_s), exposure_s
