"""The jobs process, a child of the supervisor: it starts a worker process for each job.

One job of each kind runs at a time, in the order of creation. A training takes
an hour and a calibration a minute, so a calibration waits only for another
calibration. This process computes nothing itself. A job that crashes or uses
all memory therefore ends only its own process.
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
from service.files.job import Fault, Job, JobKind, JobState
from service.files.jobs import Jobs
from service.files.sweep import clear_sweep
from service.jobs.worker import result_folder, worker_process
from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.errors import StoreError

__all__ = ["Runner", "jobs_process"]

_PERIOD_S = 0.25
_BEAT_S = 1.0

_NAMES: dict[JobKind, str] = {
    "calibrate": "Calibration",
    "train": "Training",
    "export": "Export",
    "focus": "Autofocus",
    "reprocess": "Reprocessing",
}

_INTERRUPTED = Fault("The service ended while the job was running.", "Start it again.")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a job ended, before its state is written."""

    job: Job
    state: JobState
    fault: Fault | None = None


@dataclass
class _Worker:
    """A job that is running, with its process."""

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
        # Endings that are not written yet, by job, as on a full disk. The job's file then still says "running".
        self._endings: dict[str, _Ending] = {}

    def begin(self) -> None:
        """Mark jobs as interrupted that were running when the service was killed."""
        for job in self._jobs.open_jobs():
            if job.step == "compute" and job.state == "running":
                self._endings[job.id] = _Ending(job, "interrupted", _INTERRUPTED)
        self._write_endings()

    def update(self) -> None:
        """Check the workers, write how jobs ended, and start queued jobs.

        Raises
        ------
        DataError, OSError
            When the disk is full. No ending is lost: call it again.
        """
        for worker in list(self._workers.values()):
            self._check(worker)
        self._write_endings()
        for job in self._jobs.open_jobs():
            if job.step != "compute" or job.state != "queued":
                continue
            if self._jobs.is_cancel_requested(job.id):
                self._endings[job.id] = _Ending(job, "cancelled")
                self._write_endings()
            elif job.kind not in self._workers:
                self._start(job)

    def end(self) -> None:
        """Kill the workers, and mark their jobs as interrupted. On a full disk they are marked at the next start.

        Raises
        ------
        DataError, OSError
            When the disk is full.
        """
        for worker in list(self._workers.values()):
            self._kill(worker)
            self._endings[worker.job.id] = _Ending(worker.job, "interrupted", _INTERRUPTED)
        self._write_endings()

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_process, args=(self._settings, job.id, theirs), name=f"bathyscope-{job.kind}", daemon=True
        )
        process.start()
        theirs.close()
        # Set before the state is written: on a full disk the job must not be started twice.
        self._workers[job.kind] = _Worker(job, process, ours)
        self._jobs.move(job.id, "running")
        if job.kind == "train":
            self._report("training_started", f"Training {job.id} started: {job.request.get('minutes')} minutes.", job)

    def _check(self, worker: _Worker) -> None:
        job = worker.job
        if not worker.process.is_alive():
            fault = _fault_of(worker)
            self._kill(worker)
            self._endings[job.id] = _Ending(job, "failed", fault)
        elif self._jobs.is_cancel_requested(job.id):
            self._kill(worker)
            self._endings[job.id] = _Ending(job, "cancelled")

    def _kill(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.process.close()
        worker.pipe.close()
        del self._workers[worker.job.kind]

    def _write_endings(self) -> None:
        """Write how jobs ended. A failed write does not prevent the others."""
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
        """Write how a job ended. A result folder that exists is complete, so the job is then done in any case."""
        folder = result_folder(self._data_dir, job)
        result = folder.relative_to(self._data_dir).as_posix() if folder.is_dir() else None
        if result is not None:
            state, fault = "done", None
        _remove_leftovers(folder, self._jobs.folder(job.id))
        self._jobs.move(job.id, state, result=result, error=fault)
        what = _NAMES[job.kind]
        why = "" if fault is None else f": {fault.problem.rstrip('.')}"
        endings = {
            "done": f"is done: {result}",
            "cancelled": "was cancelled",
            "failed": f"failed{why}",
            "interrupted": f"was interrupted{why}",
        }
        self._report(f"{what.lower()}_{state}", f"{what} {job.id} {endings[state]}.", job)

    def _report(self, kind: str, message: str, job: Job) -> None:
        """Log an event and store it. The database is open only during this call."""
        from service.store.store import Store

        _log.info(kind, message=message, job=job.id)
        try:
            with contextlib.closing(Store.open(self._settings.database)) as store:
                store.events.add(kind, message, details={"job": job.id})
        except StoreError as error:
            _log.warning("not_stored", message=message, error=str(error))


def _fault_of(worker: _Worker) -> Fault:
    """Why a worker ended without a result: the fault that it sent, or its exit status."""
    with contextlib.suppress(EOFError, OSError):
        if worker.pipe.poll():
            fault = worker.pipe.recv()
            if isinstance(fault, Fault):
                return fault
    return Fault(
        f"The worker was ended from outside (exit status {worker.process.exitcode}).",
        "The system ends processes when the memory runs out; see its log, and start the job again.",
    )


def _remove_leftovers(result: Path, folder: Path) -> None:
    """Remove the input of a worker, and incomplete output of a killed one."""
    clear_sweep(folder)
    for aside in result.parent.glob(f".{result.name}.*"):
        shutil.rmtree(aside, ignore_errors=True)


def jobs_process(settings: Settings, _address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: work until the supervisor stops it or dies."""
    ignore_signals()
    configure_logs(settings.log_level)
    stop = threading.Event()
    follow_parent(parent, lambda _: stop.set())
    runner = Runner(settings)
    beat_s = 0.0
    started = False
    logged = ""
    while True:
        try:
            if not started:
                runner.begin()
                started = True
            runner.update()
            logged = ""
        except (DataError, OSError) as error:  # a full disk: the same step is repeated in the next round
            if str(error) != logged:  # logged once, not in every round
                logged = str(error)
                _log.warning("jobs_wait", error=logged)
        now_s = time.monotonic()
        if now_s - beat_s >= _BEAT_S:
            beat_s = now_s
            with contextlib.suppress(OSError):
                parent.send({"state": "running"})
        if stop.wait(_PERIOD_S):
            break
    try:
        runner.end()
    except (DataError, OSError) as error:
        _log.warning("endings_not_written", error=str(error))
