"""Reading the folder of one job.

The files of a job, each of which has one writer at a time and is replaced as
a whole:

    jobs/<id>/job.json       the request; never changes
              state.json     state, step, result, error; written by the process that works on the step
              progress.json  progress of the step
              log.txt        lines for people
              cancel         exists when a client has asked to cancel the job
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from service.files.descriptions import FolderUnreadable, parse_description, read_bytes, read_description, unreadable
from service.files.job import Fault, Job, JobKind, JobState, JobStep, Progress

__all__ = ["StepStart", "exists", "is_incomplete", "read_job", "read_step"]

_LOG_TAIL_BYTES = 4096

_NEW_S = 60.0
"""A younger folder without all its files is still being made; an older one was left by a person or a killed process."""

_Schema = TypeVar("_Schema", bound=BaseModel)

UnixTime = Annotated[float, Field(ge=0, le=253402300799)]
"""Seconds since 1970, up to the end of the year 9999."""


class _File(BaseModel):
    """Base of the schemas of a job's files: types are strict, numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _JobFile(_File):
    kind: JobKind
    name: str
    request: dict[str, Any]
    created_s: UnixTime


class _FaultPart(_File):
    problem: str
    remedy: str


class _StateFile(_File):
    state: JobState
    step: JobStep
    started_s: UnixTime | None
    ended_s: UnixTime | None
    result: str | None
    error: _FaultPart | None


class _ProgressFile(_File):
    done: float
    total: float
    unit: str
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class StepStart:
    """Step of a job, and when the job began to run.

    Attributes
    ----------
    step : JobStep
    started_s : float or None
        Unix time, s; None before it runs.
    """

    step: JobStep
    started_s: float | None


def read_job(folder: Path) -> Job:
    """The job in `folder`.

    Raises
    ------
    FolderUnreadable
        When a file is missing or cannot be read.
    """
    request = _read(folder, "job.json", _JobFile)
    state = _read(folder, "state.json", _StateFile)
    try:
        progress = _read(folder, "progress.json", _ProgressFile)
    except FolderUnreadable:
        progress = None  # a damaged progress file must not hide the job
    if request is None or state is None:
        missing = "job.json" if request is None else "state.json"
        raise unreadable(folder, f"{missing} is missing")
    return Job(
        id=folder.name,
        kind=request.kind,
        name=request.name,
        state=state.state,
        step=state.step,
        request=request.request,
        created_at=_date(request.created_s),
        started_at=None if state.started_s is None else _date(state.started_s),
        ended_at=None if state.ended_s is None else _date(state.ended_s),
        progress=None if progress is None else Progress(**progress.model_dump()),
        log=_tail(folder / "log.txt"),
        result=state.result,
        error=None if state.error is None else Fault(**state.error.model_dump()),
    )


def read_step(folder: Path) -> StepStart | None:
    """Step and start of the job in `folder`; None when state.json is missing or cannot be read."""
    try:
        state = _read(folder, "state.json", _StateFile)
    except FolderUnreadable:
        return None
    return None if state is None else StepStart(state.step, state.started_s)


def exists(path: Path) -> bool:
    """Whether there is a file or folder of this name; a link counts even when its target is missing."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def is_incomplete(folder: Path) -> bool:
    """Whether a file is missing in `folder` because the folder is still being made."""
    try:
        complete = all(exists(folder / name) for name in ("job.json", "state.json"))
        return folder.is_dir() and not complete and 0 <= time.time() - folder.stat().st_mtime < _NEW_S
    except OSError:
        return False


def _read(folder: Path, name: str, schema: type[_Schema]) -> _Schema | None:
    """One file of a job; None when it is missing."""
    try:
        return parse_description(folder, name, read_description(folder / name), schema)
    except FileNotFoundError:
        return None


def _tail(path: Path) -> str:
    """The last complete lines of a log."""
    try:
        text = read_bytes(path, _LOG_TAIL_BYTES, tail=True).decode("utf-8", errors="replace")
        size = path.stat().st_size
    except OSError:
        return ""
    return text if size <= _LOG_TAIL_BYTES else text.partition("\n")[2]


def _date(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
