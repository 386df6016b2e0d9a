"""The jobs of a data directory, each in a folder of its own.

Several processes use a job: one creates it, another works on it, a third
watches it, and each may cancel it. Each of these processes may be killed.
The jobs are therefore files, which need no lock (`service.files.job_folder`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from models.errors import DataError
from models.identity import new_id
from service.files.descriptions import FolderUnreadable, Listing, Unreadable, entries_of, shown_name, unreadable
from service.files.job import ENDED, Fault, Job, JobKind, JobState, JobStep
from service.files.job_folder import exists, is_incomplete, read_job, read_step
from service.files.outputs import write_json
from service.store.errors import UnknownItem

__all__ = ["INPUT", "Jobs", "is_id"]

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")

_PROGRESS_PERIOD_S = 0.25
"""Shortest time between two writes of a progress file: people do not read faster, and a sweep needs the time."""

_log = structlog.get_logger(__name__)


INPUT = "input"
"""Folder of the files that a job works on, in the folder of the job."""


def is_id(name: str) -> bool:
    """Whether `name` may be the id of a folder in the data directory. A path to another folder is not an id."""
    return _ID.fullmatch(name) is not None


class Jobs:
    """The jobs of one data directory. May be used from several threads and processes.

    Parameters
    ----------
    data_dir : Path
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "jobs"
        self._ended: set[str] = set()
        self._progress: dict[str, tuple[float, float, str]] = {}  # start of the step, last write, unit
        self._logged: set[str] = set()

    # ---- create and cancel ----

    def create(
        self,
        kind: JobKind,
        name: str,
        request: Mapping[str, Any],
        *,
        step: JobStep,
        state: JobState = "queued",
        files: Path | None = None,
    ) -> Job:
        """Create a job.

        Parameters
        ----------
        kind, name, request, step, state
            As of `Job`.
        files : Path, optional
            Folder on the same disk that becomes the job's folder `INPUT` before the job can begin.

        Raises
        ------
        DataError
            When the data directory cannot be written.
        """
        job_id = new_id()
        now_s = time.time()
        if files is not None:
            _move_input(files, self.folder(job_id))
        write_json(
            self.folder(job_id) / "job.json",
            {"id": job_id, "kind": kind, "name": name, "request": dict(request), "created_s": now_s},
        )
        self.move(job_id, state, step=step)
        return self.get(job_id)

    def cancel(self, job_id: str) -> Job:
        """Request that a job ends. A job that has ended does not change.

        Raises
        ------
        UnknownItem
            When there is no such job.
        FolderUnreadable
            When its files cannot be read.
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
                    "Correct the permissions of the data directory, or free space on its disk.",
                ) from error
        return job

    # ---- read ----

    def folder(self, job_id: str) -> Path:
        """Folder of a job's files."""
        return self._root / job_id

    def get(self, job_id: str) -> Job:
        """One job.

        Raises
        ------
        UnknownItem
            When there is no such job.
        FolderUnreadable
            When its files cannot be read.
        """
        if not is_id(job_id) or not exists(self.folder(job_id)):
            raise UnknownItem(f"There is no job {job_id[:64]!r}.", "See /api/v1/jobs for those that there are.")
        return read_job(self.folder(job_id))

    def page(self, limit: int = 100, cursor: str | None = None) -> Listing[Job]:
        """At most `limit` jobs, newest first, and the entries between them that cannot be read.

        Raises
        ------
        DataError
            When `cursor` is not from the page before, or the folder of all jobs cannot be read.
        """
        entries = {shown_name(entry.name): entry for entry in entries_of(self._root)}
        if cursor is not None and cursor not in entries:
            raise DataError(
                f"cursor {cursor[:64]!r} is not one that a list returned.",
                "Use the 'next' of the page before, or leave it out.",
            )
        names = sorted((name for name in entries if cursor is None or name < cursor), reverse=True)
        jobs, unreadables = self._read([entries[name] for name in names[:limit]])
        return Listing(jobs, names[limit - 1] if len(names) > limit else None, unreadables)

    def open_jobs(self) -> list[Job]:
        """Jobs that have not ended, oldest first. Jobs that ended before the last call are not read again.

        A folder that cannot be read is logged once.

        Raises
        ------
        FolderUnreadable
            When the folder of all jobs cannot be listed.
        """
        jobs, unreadables = self._read([entry for entry in entries_of(self._root) if entry.name not in self._ended])
        for other in unreadables:
            if other.folder not in self._logged:
                self._logged.add(other.folder)
                _log.warning("job_unreadable", problem=other.problem, remedy=other.remedy)
        self._ended.update(job.id for job in jobs if job.is_over)
        return sorted((job for job in jobs if not job.is_over), key=lambda job: job.created_at)

    def is_cancel_requested(self, job_id: str) -> bool:
        """Whether `cancel` was called for the job, by any process."""
        return (self.folder(job_id) / "cancel").exists()

    def _read(self, entries: list[Path]) -> tuple[list[Job], list[Unreadable]]:
        """The jobs in `entries`, and the entries that cannot be read. A folder that is still being made is left out."""
        jobs, unreadables = [], []
        for entry in entries:
            try:
                if not is_id(entry.name):
                    raise unreadable(entry, "no job has such a name")
                jobs.append(self.get(entry.name))
            except UnknownItem:  # removed since it was listed
                continue
            except FolderUnreadable as error:
                if not is_incomplete(entry):
                    unreadables.append(Unreadable(f"jobs/{shown_name(entry.name)}", error.problem, error.remedy))
        return jobs, unreadables

    # ---- write ----

    def move(
        self,
        job_id: str,
        state: JobState,
        *,
        step: JobStep | None = None,
        result: str | None = None,
        error: Fault | None = None,
    ) -> None:
        """Change the state of a job. A new step starts without progress."""
        folder = self.folder(job_id)
        before = read_step(folder)
        now_s = time.time()
        if step is not None and before is not None and step != before.step:
            (folder / "progress.json").unlink(missing_ok=True)
        started_s = None if before is None else before.started_s
        write_json(
            folder / "state.json",
            {
                "state": state,
                "step": step or (None if before is None else before.step),
                "started_s": started_s or (now_s if state == "running" else None),
                "ended_s": now_s if state in ENDED else None,
                "result": result,
                "error": None if error is None else asdict(error),
            },
        )

    def report_progress(self, job_id: str, done: float, total: float, unit: str) -> None:
        """Write the progress of the step, but not more often than every `_PROGRESS_PERIOD_S`."""
        now_s = time.monotonic()
        began_s, last_s, last_unit = self._progress.get(job_id, (now_s, 0.0, unit))
        if last_unit != unit or done <= 0:
            began_s = now_s
        if now_s - last_s < _PROGRESS_PERIOD_S and done < total and last_unit == unit:
            return
        self._progress[job_id] = (began_s, now_s, unit)
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


def _move_input(files: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        files.rename(folder / INPUT)
    except OSError as error:
        raise DataError(
            f"The files of a job cannot be moved to {folder} ({error.strerror}).",
            "Correct the permissions of the data directory, or free space on its disk.",
        ) from error
