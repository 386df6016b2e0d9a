"""The child of the supervisor that lets workers do the jobs: one of each kind at a time, in the order they came.

A training takes an hour, a calibration a minute: so a calibration does not
wait for a training, only for another calibration. The child itself computes
nothing, and every job has a process of its own; so a job that crashes, or
takes all the memory, ends alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog

from models.errors import DataError
from service.files.jobs import Fault, Job, JobKind, Jobs, JobState
from service.files.sweep import clear_sweep
from service.jobs.worker import result_folder, worker_process
from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.errors import StoreError

__all__ = ["Runner", "jobs_process"]

_LOOK_S = 0.25
_BEAT_S = 1.0

_INTERRUPTED = Fault("The service ended while the job was on.", "Start it again.")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a job ended, before it is written down."""

    job: Job
    state: JobState
    fault: Fault | None = None


@dataclass
class _Worker:
    """A job at work."""

    job: Job
    process: SpawnProcess
    pipe: Connection


class Runner:
    """Starts, watches and ends workers.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir
        self._jobs = Jobs(settings.data_dir)
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[JobKind, _Worker] = {}
        # Endings that a full disk has not taken yet, by job; the words of a job stay "running" until it does.
        self._endings: dict[str, _Ending] = {}

    def begin(self) -> None:
        """Mark what was on when the service was killed."""
        for job in self._jobs.open_jobs():
            if job.step == "compute" and job.state == "running":
                self._endings[job.id] = _Ending(job, "interrupted", _INTERRUPTED)
        self._write_endings()

    def look(self) -> None:
        """See to the workers, write down how jobs ended, and start what can be started.

        Raises
        ------
        DataError, OSError
            When the disk takes nothing. Nothing is forgotten: call it again.
        """
        for worker in list(self._workers.values()):
            self._look_after(worker)
        self._write_endings()
        for job in self._jobs.open_jobs():
            if job.step != "compute" or job.state != "queued":
                continue
            if self._jobs.is_to_end(job.id):
                self._endings[job.id] = _Ending(job, "cancelled")
                self._write_endings()
            elif job.kind not in self._workers:
                self._start(job)

    def end(self) -> None:
        """Kill the workers, and mark their jobs; what a full disk does not take is marked at the next start.

        Raises
        ------
        DataError, OSError
            When the disk takes nothing.
        """
        for worker in list(self._workers.values()):
            self._dismiss(worker)
            self._endings[worker.job.id] = _Ending(worker.job, "interrupted", _INTERRUPTED)
        self._write_endings()

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_process, args=(self._data_dir, job.id, theirs), name=f"bathyscope-{job.kind}", daemon=True
        )
        process.start()
        theirs.close()
        # Known before it is written down: on a full disk a job must not be started twice.
        self._workers[job.kind] = _Worker(job, process, ours)
        self._jobs.move(job.id, "running")
        if job.kind == "train":
            self._tell("training_started", f"Training {job.id} started: {job.request.get('minutes')} minutes.", job)

    def _look_after(self, worker: _Worker) -> None:
        job = worker.job
        if not worker.process.is_alive():
            fault = _fault_of(worker)
            self._dismiss(worker)
            self._endings[job.id] = _Ending(job, "failed", fault)
        elif self._jobs.is_to_end(job.id):
            self._dismiss(worker)
            self._endings[job.id] = _Ending(job, "cancelled")

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.process.close()
        worker.pipe.close()
        del self._workers[worker.job.kind]

    def _write_endings(self) -> None:
        """Write down how jobs ended: each of them, whatever happens to the others."""
        trouble: DataError | OSError | None = None
        for ending in list(self._endings.values()):
            try:
                self._write_ending(ending.job, ending.state, ending.fault)
            except (DataError, OSError) as error:
                trouble = error
            else:
                del self._endings[ending.job.id]
        if trouble is not None:
            raise trouble

    def _write_ending(self, job: Job, state: JobState, fault: Fault | None) -> None:
        """Write down how a job ended. A result that is there is whole, whatever happened a moment later."""
        folder = result_folder(self._data_dir, job)
        result = f"{folder.parent.name}/{folder.name}" if folder.is_dir() else None
        if result is not None:
            state, fault = "done", None
        _clear_away(folder, self._jobs.folder(job.id))
        self._jobs.move(job.id, state, result=result, error=fault)
        what = "Calibration" if job.kind == "calibrate" else "Training"
        why = "" if fault is None else f": {fault.problem.rstrip('.')}"
        endings = {
            "done": f"is done: {result}",
            "cancelled": "was cancelled",
            "failed": f"failed{why}",
            "interrupted": f"was interrupted{why}",
        }
        self._tell(f"{what.lower()}_{state}", f"{what} {job.id} {endings[state]}.", job)

    def _tell(self, kind: str, message: str, job: Job) -> None:
        """An event, to the log and to the database, which is open for no longer than that."""
        from service.store.store import Store

        _log.info(kind, message=message, job=job.id)
        try:
            with contextlib.closing(Store.open(self._settings.database)) as store:
                store.events.add(kind, message, details={"job": job.id})
        except StoreError as error:
            _log.warning("not_stored", message=message, error=str(error))


def _fault_of(worker: _Worker) -> Fault:
    """Why a worker ended without a result: what it said last, or that it was ended."""
    with contextlib.suppress(EOFError, OSError):
        if worker.pipe.poll():
            fault = worker.pipe.recv()
            if isinstance(fault, Fault):
                return fault
    return Fault(
        f"The worker was ended from outside (exit status {worker.process.exitcode}).",
        "The system ends processes when the memory runs out; see its log, and start the job again.",
    )


def _clear_away(result: Path, folder: Path) -> None:
    """Remove what a worker needed, and what one that was killed left half-written."""
    clear_sweep(folder)
    for aside in result.parent.glob(f".{result.name}.*"):
        shutil.rmtree(aside, ignore_errors=True)


def jobs_process(settings: Settings, _address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: work until the parent says so or is gone."""
    ignore_signals()
    configure_logs(settings.log_level)
    stop = threading.Event()
    follow_parent(parent, lambda _: stop.set())
    runner = Runner(settings)
    beat_s = 0.0
    begun = False
    waiting = ""
    while True:
        try:
            if not begun:
                runner.begin()
                begun = True
            runner.look()
            waiting = ""
        except (DataError, OSError) as error:  # a full disk: what waits goes on waiting
            # Said once, not four times a second.
            if str(error) != waiting:
                waiting = str(error)
                _log.warning("jobs_wait", error=waiting)
        now_s = time.monotonic()
        if now_s - beat_s >= _BEAT_S:
            beat_s = now_s
            with contextlib.suppress(OSError):
                parent.send({"state": "running"})
        if stop.wait(_LOOK_S):
            break
    try:
        runner.end()
    except (DataError, OSError) as error:
        _log.warning("endings_not_written", error=str(error))
