"""A job as the service sees it: what is to be computed, how far it has come, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = ["ENDED", "Fault", "Job", "JobKind", "JobState", "JobStep", "Progress"]

JobKind = Literal["calibrate", "train"]

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

JobStep = Literal["sweep", "compute"]
"""``sweep``: the engine moves the microscope. ``compute``: a worker computes, beside whatever else is going on."""

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled", "interrupted")
"""States that never change again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: `done` of `total`, in `unit`, and the seconds that are left (None: not known yet)."""

    done: float
    total: float
    unit: str
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job did not end as it should, and what to do about it."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands.

    Attributes
    ----------
    id : sorts by the time when it was asked for
    kind : what it makes
    name : for people
    state, step : where it is
    request : what was asked
    created_at, started_at, ended_at : UTC
    progress : of the present step; None before it has begun
    log : its last lines
    result : where the result is, in the data directory and in the API: ``calibrations/<id>``
    error : why it failed, was interrupted, or what a cancelled one could not put back
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
        """Whether nothing will change any more."""
        return self.state in ENDED
