"""A job (calibration, training, export, autofocus, reprocessing): its request, state, progress and result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = ["ENDED", "Fault", "Job", "JobKind", "JobState", "JobStep", "Progress"]

JobKind = Literal["calibrate", "train", "export", "focus", "reprocess"]

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

JobStep = Literal["sweep", "compute"]
"""``sweep``: the engine moves the focus and takes images. ``compute``: a worker process computes."""

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled", "interrupted")
"""States that never change again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a step: `done` of `total`, in `unit`, and the remaining time in seconds (None: not known yet)."""

    done: float
    total: float
    unit: str
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job failed or was interrupted, and the remedy."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job at the time of reading.

    Attributes
    ----------
    id : ids sort by creation time
    kind : a calibration, a training, an export of tracks, an autofocus, or a reprocessing of a run
    name : given by the user
    state, step : the step that it is in, and the state of that step
    request : the parameters of the request
    created_at, started_at, ended_at : UTC
    progress : of the current step; None before it starts
    log : its last lines
    result : path of the result, in the data directory and in the API: ``calibrations/<id>``, ``jobs/<id>/result``
    error : why it failed or was interrupted, or which device state could not be restored after a cancelled sweep
    """

    id: str
    kind: JobKind
    name: str
    state: JobState
    step: JobStep
    request: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: Progress | None
    log: str
    result: str | None
    error: Fault | None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended and will not change again."""
        return self.state in ENDED
