"""Deletion of runs and recordings: refused while they are in use, and finished after a kill.

A run or its recording is first noted in the database, and from then on not
found any more. Then its files are deleted, and last its rows. A file that
cannot be deleted is tried again later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from service.files.jobs import Jobs
from service.files.recording import delete_folder, folder_bytes
from service.store.errors import InUse
from service.store.removals import Removal, RemovalPart
from service.store.store import Store

__all__ = ["RunRemover", "job_of_run", "nobody"]

_RECORDINGS = "recordings"

_EVENTS: dict[RemovalPart, str] = {
    "run": "run_deleted",
    "recording": "recording_deleted",
    "local": "recording_freed",
}

_log = structlog.get_logger(__name__)


def nobody(_run_id: str) -> str | None:
    """For a process that is alone with its data directory: nothing else uses a run."""
    return None


class RunRemover:
    """Deletes runs of one data directory.

    Parameters
    ----------
    store : Store
    data_dir : Path
    used_by : callable
        Returns what uses a run now, as a clause ("it is being read"), or None. Jobs are checked in any case.
    """

    def __init__(self, store: Store, data_dir: Path, used_by: Callable[[str], str | None]) -> None:
        self._store = store
        self._data_dir = data_dir
        self._jobs = Jobs(data_dir)
        self._used_by = used_by
        self._logged: set[str] = set()

    def use_of(self, run_id: str) -> str | None:
        """What uses a run now, as a clause; None when nothing does."""
        return self._used_by(run_id) or job_of_run(self._jobs, run_id)

    def remove(self, run_id: str, part: RemovalPart, why: str) -> Removal:
        """Begin the deletion of a run or of its recording; `work` finishes it.

        Parameters
        ----------
        run_id : str
        part : ``"run"``, ``"recording"`` or ``"local"``
        why : str
            Who asked for it, or which rule: for the event.

        Raises
        ------
        UnknownItem
            When there is no such run.
        InUse
            When it is on, or something uses it; for its local files also when they have no verified copy.
        """
        use = self.use_of(run_id)
        if use is not None:
            raise InUse(f"Run {run_id} cannot be deleted: {use}.", "Try again when that has ended.")
        removal = self._store.removals.request(run_id, part)
        size = 0 if removal.recording is None else folder_bytes(self._data_dir / removal.recording)
        self._store.events.add(
            _EVENTS[part],
            _message(removal, why, size),
            run_id=run_id,
            details={"part": part, "why": why, "bytes": size},
        )
        return removal

    def work(self) -> Iterator[None]:
        """Finish all deletions, in steps of some ms; what cannot be deleted now is left for the next call.

        Raises
        ------
        StoreError
            When the database does not respond.
        """
        for removal in self._store.removals.pending():
            try:
                yield from self._delete_files(removal)
            except OSError as error:
                if removal.run_id not in self._logged:
                    self._logged.add(removal.run_id)
                    _log.warning("not_deleted", run_id=removal.run_id, error=str(error))
                continue
            while self._store.removals.step(removal):
                yield

    def _delete_files(self, removal: Removal) -> Iterator[None]:
        if removal.recording is None:
            return
        folder = self._data_dir / removal.recording
        if folder.parent != self._data_dir / _RECORDINGS:  # a path that someone changed in the database
            _log.warning("recording_elsewhere", run_id=removal.run_id, recording=removal.recording)
            return
        yield from delete_folder(folder)


def _message(removal: Removal, why: str, size: int) -> str:
    where = "" if removal.copy is None else f" The copy is {removal.copy.url}."
    if removal.part == "local":
        return f"The local files of the recording of run {removal.run_id} were deleted ({why}): {_gb(size)}.{where}"
    what = f"Run {removal.run_id}" if removal.part == "run" else f"The recording of run {removal.run_id}"
    return f"{what} was deleted ({why}); its recording had {_gb(size)} here.{where}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def job_of_run(jobs: Jobs, run_id: str) -> str | None:
    """The job that uses a run, as a clause; None when no job does."""
    for job in jobs.open_jobs():
        if job.request.get("run") == run_id:
            return f"job {job.id} ({job.kind}) uses it"
    return None
