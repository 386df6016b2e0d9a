"""Copies the finished recordings of a data directory, oldest first, and goes on after any failure.

A place that is away is tried again after 1, 2, 4 … 60 s. What is wrong with
one recording (a damaged file, a digest that differs) does not hold up the
others; it is tried again after ten minutes. Both are events, and stand in the
run. Nothing in the engine waits for a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import structlog

from bathyscope_errors import BathyscopeError
from hardware.remote import RemoteAway
from service.copies.copying import CopyProgress, CopyStopped, copy_recording
from service.copies.journal import CopyJournal
from service.copies.mark import check_mark
from service.copies.places import CopyPlace, open_place
from service.store.copies import RecordedRun
from service.store.errors import InUse, StoreError, UnknownItem
from service.store.store import Store

__all__ = ["COPIES", "Copier", "CopierFigures"]

COPIES = "copies"
"""Folder in the data directory with the records of copies."""

_PERIOD_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_FAILED_PAUSE_S = 600.0
_NOTED_S = 2.0
"""Time between two notes of the progress in the database."""

_log = structlog.get_logger(__name__)


@dataclass
class CopierFigures:
    """What the copier does, for the metrics.

    Attributes
    ----------
    place_up : whether the place could be used at the last attempt; None before the first
    problem : why not
    sent_bytes, verified_bytes, verified_recordings : since the start of the process
    failures : failed attempts since then, of a place or a recording
    copying : run that is being copied
    progressed_s : Unix seconds of the last file or attempt
    """

    place_up: bool | None = None
    problem: str | None = None
    sent_bytes: int = 0
    verified_bytes: int = 0
    verified_recordings: int = 0
    failures: int = 0
    copying: str | None = None
    progressed_s: float = field(default_factory=time.time)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Copier:
    """Copies recordings to one place.

    Parameters
    ----------
    store : Store
    data_dir : Path
    url : str
        Of the place.
    stopped : callable
        Asked before each file.
    watch : callable, optional
        Receives the progress after each file.

    Attributes
    ----------
    figures : CopierFigures
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        url: str,
        stopped: Callable[[], bool] = lambda: False,
        watch: Callable[[CopyProgress], None] = lambda _: None,
    ) -> None:
        self.figures = CopierFigures()
        self._store = store
        self._data_dir = data_dir
        self._url = url
        self._stopped = stopped
        self._watch = watch
        self._pause_s = _FIRST_PAUSE_S
        self._due_s: dict[str, float] = {}
        self._noted_s = 0.0

    def copy_due(self) -> float:
        """Copy the recordings that are due; the time until it is to be called again, s.

        Raises
        ------
        StoreError
            When the database does not respond.
        """
        for run in self._store.copies.due():
            if time.monotonic() < self._due_s.get(run.run_id, 0.0):
                continue
            try:
                self.copy(run)
            except CopyStopped:
                return 0.0
            except RemoteAway as error:
                return self._put_off(run, error)
            except (InUse, UnknownItem):  # it is being deleted, or copied by a command
                continue
            except StoreError:
                raise
            except (BathyscopeError, OSError) as error:
                self._fail(run, error)
        return _PERIOD_S

    def copy(self, run: RecordedRun) -> CopyProgress:
        """Copy one recording, and note in its run that it is verified.

        Raises
        ------
        CopyStopped
        RemoteAway
            When the place cannot be used now.
        DataError
            As `copy_recording`.
        InUse, UnknownItem
            When another process copies it, or it is being deleted.
        """
        folder = self._data_dir / COPIES
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{run.run_id}.lock", blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise InUse(f"The recording of run {run.run_id} is being copied.", "Wait until that has ended.") from None
        try:
            return self._copy(run, folder)
        finally:
            lock.release()
            self.figures.copying = None

    def _copy(self, run: RecordedRun, folder: Path) -> CopyProgress:
        began_s = time.monotonic()
        recording = self._data_dir / run.recording
        self.figures.copying, self.figures.progressed_s = run.run_id, time.time()
        place = open_place(self._url)
        url = f"{place.url}/{recording.name}"
        if run.copy is None:
            self._store.copies.note(run.run_id, "waiting", url=url)
        check_mark(place, folder)
        self._come_back(place)
        journal = CopyJournal(folder / f"{run.run_id}.jsonl", url)
        self._store.copies.note(run.run_id, "copying", url=url)
        before = 0

        def report(progress: CopyProgress) -> None:
            nonlocal before
            self.figures.sent_bytes += progress.sent_bytes - before
            self.figures.progressed_s, before = time.time(), progress.sent_bytes
            self._come_back(place)
            self._watch(progress)
            if time.monotonic() - self._noted_s > _NOTED_S:
                self._noted_s = time.monotonic()
                self._store.copies.note(run.run_id, "copying", **_counts(progress))

        progress = copy_recording(recording, place, journal, report, self._stopped)
        self._store.copies.note(run.run_id, "verified", **_counts(progress))
        journal.remove()
        self._due_s.pop(run.run_id, None)
        self.figures.verified_bytes += progress.bytes
        self.figures.verified_recordings += 1
        took_s = time.monotonic() - began_s
        self._report(
            "recording_copied",
            f"The recording of run {run.run_id} was copied to {url} and verified: {progress.bytes / 1e9:.2f} GB.",
            run.run_id,
            {"url": url, "seconds": round(took_s, 1), "sent_bytes": progress.sent_bytes, **_counts(progress)},
        )
        return progress

    def _come_back(self, place: CopyPlace) -> None:
        if self.figures.place_up is False:
            self._report("copy_place_back", f"{place.url} can be used again; copying goes on.", None, {})
        self.figures.place_up, self.figures.problem, self._pause_s = True, None, _FIRST_PAUSE_S

    def _put_off(self, run: RecordedRun, error: RemoteAway) -> float:
        """Note that the place is away; the pause until the next attempt, s."""
        text = f"{error.problem} {error.remedy}"
        self.figures.failures += 1
        self.figures.progressed_s = time.time()
        if self.figures.place_up is not False:
            message = f"Recordings cannot be copied: {text} It is tried again, and nothing is deleted meanwhile."
            self._report("copy_place_away", message, None, {"url": self._url})
        self.figures.place_up, self.figures.problem = False, text
        self._note_problem(run, "waiting", text)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return pause_s

    def _fail(self, run: RecordedRun, error: Exception) -> None:
        text = f"{error.problem} {error.remedy}" if isinstance(error, BathyscopeError) else str(error)
        self.figures.failures += 1
        known = run.copy is not None and run.copy.state == "failed" and run.copy.problem == text
        self._due_s[run.run_id] = time.monotonic() + _FAILED_PAUSE_S
        self._note_problem(run, "failed", text)
        if not known:
            message = f"The recording of run {run.run_id} could not be copied: {text} It is tried again."
            self._report("copy_failed", message, run.run_id, {"url": self._url})

    def _note_problem(self, run: RecordedRun, state: Any, text: str) -> None:
        try:
            url = run.copy.url if run.copy is not None else f"{self._url.rstrip('/')}/{Path(run.recording).name}"
            self._store.copies.note(run.run_id, state, url=url, problem=text)
        except (InUse, UnknownItem):
            return

    def _report(self, kind: str, message: str, run_id: str | None, details: dict[str, Any]) -> None:
        log = _log.info if kind in ("recording_copied", "copy_place_back") else _log.warning
        log(kind, message=message, run_id=run_id)
        self._store.events.add(kind, message, run_id=run_id, details=details)


def _counts(progress: CopyProgress) -> dict[str, int]:
    return {
        "files": progress.files,
        "bytes": progress.bytes,
        "done_files": progress.done_files,
        "done_bytes": progress.done_bytes,
    }
