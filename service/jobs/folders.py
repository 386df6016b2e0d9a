"""Jobs as folders: what is asked, how far it is, what came of it.

A job is worked on by one process, started by another, watched by a third and
may be cancelled by any, and each of them may be killed. Files need no
arrangement between them: each file has one writer at a time, and is replaced
whole.

    jobs/<id>/job.json       what was asked; never changes
              state.json     state, step, result, error; written by whoever has the step
              progress.json  how far the step is
              log.txt        lines for people
              cancel         is there when somebody wants the job to end
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from models.errors import DataError
from models.identity import new_id
from service.outputs import write_json
from service.store.errors import UnknownItem
from service.store.pages import Page

__all__ = ["Fault", "Job", "JobKind", "JobState", "JobStep", "Jobs", "Progress", "is_id"]

JobKind = Literal["calibrate", "train"]

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

JobStep = Literal["sweep", "compute"]
"""``sweep``: the engine moves the microscope. ``compute``: a worker computes, beside whatever else is going on."""

_OVER = ("done", "failed", "cancelled", "interrupted")

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")

_TELL_EVERY_S = 0.25
"""Progress is written no more often: people do not read faster, and a sweep has more to do."""

_LOG_TAIL_BYTES = 4096


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
        return self.state in _OVER


def is_id(name: str) -> bool:
    """Whether `name` can be the id of something in the data directory; no path that leads elsewhere is one."""
    return _ID.fullmatch(name) is not None


class Jobs:
    """The jobs of one data directory. May be used from several threads and processes.

    Parameters
    ----------
    data_dir : Path
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "jobs"
        self._over: set[str] = set()
        self._told: dict[str, tuple[float, float, str]] = {}

    # ---- asking ----

    def create(
        self, kind: JobKind, name: str, request: Mapping[str, Any], *, step: JobStep, state: JobState = "queued"
    ) -> Job:
        """Write a new job down.

        Raises
        ------
        DataError
            When the data directory cannot be written.
        """
        job_id = new_id()
        now_s = time.time()
        write_json(
            self.folder(job_id) / "job.json",
            {"id": job_id, "kind": kind, "name": name, "request": dict(request), "created_s": now_s},
        )
        self.move(job_id, state, step=step)
        return self.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; one that is over stays as it is.

        Raises
        ------
        UnknownItem
            When there is no such job.
        """
        job = self.get(job_id)
        if not job.is_over:
            (self.folder(job_id) / "cancel").touch()
        return job

    # ---- looking ----

    def folder(self, job_id: str) -> Path:
        """Where its files are."""
        return self._root / job_id

    def get(self, job_id: str) -> Job:
        """One job.

        Raises
        ------
        UnknownItem
            When there is no such job.
        """
        folder = self.folder(job_id)
        asked = _read(folder / "job.json") if is_id(job_id) else None
        state = None if asked is None else _read(folder / "state.json")
        if asked is None or state is None:
            raise UnknownItem(f"There is no job {job_id[:64]!r}.", "See /api/v1/jobs for those that there are.")
        progress, error = _read(folder / "progress.json"), state["error"]
        return Job(
            id=asked["id"],
            kind=asked["kind"],
            name=asked["name"],
            state=state["state"],
            step=state["step"],
            request=asked["request"],
            created_at=_date(asked["created_s"]) or datetime.now(UTC),
            started_at=_date(state["started_s"]),
            ended_at=_date(state["ended_s"]),
            progress=None if progress is None else Progress(**progress),
            log=_tail(folder / "log.txt"),
            result=state["result"],
            error=None if error is None else Fault(**error),
        )

    def page(self, limit: int = 100, cursor: str | None = None) -> Page[Job]:
        """At most `limit` jobs, newest first.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave.
        """
        if cursor is not None and not is_id(cursor):
            raise DataError(f"cursor {cursor[:40]!r} is none that a list gave.", "Use the 'next' of the page before.")
        names = sorted((name for name in self._names() if cursor is None or name < cursor), reverse=True)
        return Page(self._those(names[:limit]), names[limit - 1] if len(names) > limit else None)

    def open_jobs(self) -> list[Job]:
        """Jobs that are not over, oldest first. Those known to be over are not read again."""
        jobs = self._those([name for name in self._names() if name not in self._over])
        self._over.update(job.id for job in jobs if job.is_over)
        return sorted((job for job in jobs if not job.is_over), key=lambda job: job.created_at)

    def is_to_end(self, job_id: str) -> bool:
        """Whether somebody has cancelled it."""
        return (self.folder(job_id) / "cancel").exists()

    # ---- working ----

    def move(
        self,
        job_id: str,
        state: JobState,
        *,
        step: JobStep | None = None,
        result: str | None = None,
        error: Fault | None = None,
    ) -> None:
        """Change the state of a job; a new step begins without progress."""
        path = self.folder(job_id) / "state.json"
        before = _read(path) or {"step": step, "started_s": None}
        now_s = time.time()
        if step is not None and step != before["step"]:
            (self.folder(job_id) / "progress.json").unlink(missing_ok=True)
        write_json(
            path,
            {
                "state": state,
                "step": step or before["step"],
                "started_s": before["started_s"] or (now_s if state == "running" else None),
                "ended_s": now_s if state in _OVER else None,
                "result": result,
                "error": None if error is None else asdict(error),
            },
        )

    def tell(self, job_id: str, done: float, total: float, unit: str) -> None:
        """Say how far the step is; a few times a second of what is told is written."""
        now_s = time.monotonic()
        began_s, last_s, of = self._told.get(job_id, (now_s, 0.0, unit))
        if of != unit or done <= 0:
            began_s = now_s
        if now_s - last_s < _TELL_EVERY_S and done < total and of == unit:
            return
        self._told[job_id] = (began_s, now_s, unit)
        spent_s = now_s - began_s
        eta_s = round(spent_s * (total - done) / done, 1) if done > 0 and spent_s > 0 else None
        write_json(
            self.folder(job_id) / "progress.json",
            {"done": round(done, 3), "total": total, "unit": unit, "eta_s": eta_s},
        )

    def log(self, job_id: str, text: str) -> None:
        """Add lines to the log."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with (self.folder(job_id) / "log.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{stamp} {line}\n" for line in text.splitlines())

    # ---- inside ----

    def _names(self) -> list[str]:
        try:
            return [entry.name for entry in self._root.iterdir() if is_id(entry.name)]
        except FileNotFoundError:
            return []

    def _those(self, names: list[str]) -> list[Job]:
        jobs = []
        for name in names:
            try:
                jobs.append(self.get(name))
            except UnknownItem:  # a folder that is being made, or was left by hand
                continue
        return jobs


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text if size <= _LOG_TAIL_BYTES else text.partition("\n")[2]


def _date(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
