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

import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field

from models.errors import DataError
from models.identity import new_id
from service.files.descriptions import (
    FolderUnreadable,
    Listing,
    Unreadable,
    entries_of,
    parse_description,
    read_bytes,
    read_description,
    shown_name,
    unreadable,
)
from service.files.job import ENDED, Fault, Job, JobKind, JobState, JobStep, Progress
from service.files.outputs import write_json
from service.store.errors import UnknownItem

__all__ = ["Jobs", "is_id"]

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")

_TELL_EVERY_S = 0.25
"""Progress is written no more often: people do not read faster, and a sweep has more to do."""

_LOG_TAIL_BYTES = 4096

_NEW_S = 60.0
"""A folder without all its files is being made; after a minute it was left by hand, or by a process that was killed."""

_log = structlog.get_logger(__name__)


_Described = TypeVar("_Described", bound=BaseModel)

UnixTime = Annotated[float, Field(ge=0, le=253402300799)]
"""Seconds since 1970, up to the end of the year 9999."""


class _File(BaseModel):
    """One of a job's files, as the service writes it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Asked(_File):
    kind: JobKind
    name: str
    request: dict[str, Any]
    created_s: UnixTime


class _Fault(_File):
    problem: str
    remedy: str


class _State(_File):
    state: JobState
    step: JobStep
    started_s: UnixTime | None
    ended_s: UnixTime | None
    result: str | None
    error: _Fault | None


class _Progress(_File):
    done: float
    total: float
    unit: str
    eta_s: float | None


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
        self._named: set[str] = set()

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
        FolderUnreadable
            When there is, and its files cannot be read.
        DataError
            When its folder cannot be written.
        """
        job = self.get(job_id)
        if not job.is_over:
            try:
                (self.folder(job_id) / "cancel").touch()
            except OSError as error:
                raise DataError(
                    f"Job {job_id} cannot be cancelled: its folder cannot be written ({error.strerror}).",
                    "Mend the permissions of the data directory, or free space on its disk.",
                ) from error
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
        FolderUnreadable
            When there is, and its files cannot be read.
        """
        folder = self.folder(job_id)
        if not is_id(job_id) or not _is_there(folder):
            raise UnknownItem(f"There is no job {job_id[:64]!r}.", "See /api/v1/jobs for those that there are.")
        asked = _described(folder, "job.json", _Asked)
        state = _described(folder, "state.json", _State)
        try:
            progress = _described(folder, "progress.json", _Progress)
        except FolderUnreadable:
            progress = None  # how far it was is not worth hiding what it is
        if asked is None or state is None:
            missing = "job.json" if asked is None else "state.json"
            raise unreadable(folder, f"{missing} is missing")
        return Job(
            id=job_id,
            kind=asked.kind,
            name=asked.name,
            state=state.state,
            step=state.step,
            request=asked.request,
            created_at=_date(asked.created_s),
            started_at=None if state.started_s is None else _date(state.started_s),
            ended_at=None if state.ended_s is None else _date(state.ended_s),
            progress=None if progress is None else Progress(**progress.model_dump()),
            log=_tail(folder / "log.txt"),
            result=state.result,
            error=None if state.error is None else Fault(**state.error.model_dump()),
        )

    def page(self, limit: int = 100, cursor: str | None = None) -> Listing[Job]:
        """At most `limit` jobs, newest first, and what lies between them and cannot be read.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave, or the folder of all jobs cannot be read.
        """
        entries = {shown_name(entry.name): entry for entry in entries_of(self._root)}
        if cursor is not None and cursor not in entries:
            raise DataError(
                f"cursor {cursor[:64]!r} is none that a list gave.",
                "Use the 'next' of the page before, or leave it out.",
            )
        names = sorted((name for name in entries if cursor is None or name < cursor), reverse=True)
        jobs, others = self._those([entries[name] for name in names[:limit]])
        return Listing(jobs, names[limit - 1] if len(names) > limit else None, others)

    def open_jobs(self) -> list[Job]:
        """Jobs that are not over, oldest first. Those known to be over are not read again.

        A folder that cannot be read is logged once.

        Raises
        ------
        FolderUnreadable
            When the folder of all jobs cannot be listed.
        """
        jobs, others = self._those([entry for entry in entries_of(self._root) if entry.name not in self._over])
        for other in others:
            if other.folder not in self._named:
                self._named.add(other.folder)
                _log.warning("job_unreadable", problem=other.problem, remedy=other.remedy)
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
        before = _standing(path) or {"step": step, "started_s": None}
        now_s = time.time()
        if step is not None and step != before["step"]:
            (self.folder(job_id) / "progress.json").unlink(missing_ok=True)
        write_json(
            path,
            {
                "state": state,
                "step": step or before["step"],
                "started_s": before["started_s"] or (now_s if state == "running" else None),
                "ended_s": now_s if state in ENDED else None,
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

    def _those(self, entries: list[Path]) -> tuple[list[Job], list[Unreadable]]:
        """The jobs that lie at `entries`, and what cannot be read; a folder that is being made is neither."""
        jobs, others = [], []
        for entry in entries:
            try:
                if not is_id(entry.name):
                    raise unreadable(entry, "no job has such a name")
                jobs.append(self.get(entry.name))
            except UnknownItem:  # removed meanwhile
                continue
            except FolderUnreadable as error:
                if not _is_being_made(entry):
                    others.append(Unreadable(f"jobs/{shown_name(entry.name)}", error.problem, error.remedy))
        return jobs, others


def _described(folder: Path, name: str, kind: type[_Described]) -> _Described | None:
    """One file of a job; None when it is missing."""
    try:
        return parse_description(folder, name, read_description(folder / name), kind)
    except FileNotFoundError:
        return None


def _standing(path: Path) -> dict[str, Any] | None:
    """Step and start of a job from its state.json; None when that is missing or cannot be read."""
    try:
        state = _described(path.parent, path.name, _State)
    except FolderUnreadable:
        return None
    return None if state is None else {"step": state.step, "started_s": state.started_s}


def _is_there(entry: Path) -> bool:
    """Whether there is anything of this name, be it a link that leads nowhere."""
    try:
        entry.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _is_being_made(folder: Path) -> bool:
    """Whether a file is missing in `folder`, and it was changed so lately that the file may still come."""
    try:
        whole = all(_is_there(folder / name) for name in ("job.json", "state.json"))
        return folder.is_dir() and not whole and 0 <= time.time() - folder.stat().st_mtime < _NEW_S
    except OSError:
        return False


def _tail(path: Path) -> str:
    """The last lines of a log, whole ones."""
    try:
        text = read_bytes(path, _LOG_TAIL_BYTES, tail=True).decode("utf-8", errors="replace")
        size = path.stat().st_size
    except OSError:
        return ""
    return text if size <= _LOG_TAIL_BYTES else text.partition("\n")[2]


def _date(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
