"""The process that computes one job: low priority, one thread, and gone when it is told to.

It is a process of its own, so that cancelling needs nobody's cooperation: it
is killed, and what it left half-written is removed. It takes only what live
tracking leaves of the processor. It reports through files and its pipe,
because it must not wait for the database, nor the database for it.

Nothing heavy is imported before the work begins: how many threads numpy and
torch start is settled by then.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from models.errors import DataError
from service.files.job import Fault, Job
from service.files.jobs import Jobs
from service.files.outputs import complete_output, write_json
from service.files.sweep import read_sweep
from service.process.children import follow_parent, ignore_signals

__all__ = ["result_folder", "step_back", "worker_process"]

_SINGLE_THREADED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_LOWEST_NICENESS = 19

_FOLDERS = {"calibrate": "calibrations", "train": "models"}


def result_folder(data_dir: Path, job: Job) -> Path:
    """Where the result of a job appears, whole."""
    return data_dir / _FOLDERS[job.kind] / job.id


def step_back() -> None:
    """Give this process and all its threads only the time that no other wants; it computes on one thread."""
    os.environ.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.IDLE_PRIORITY_CLASS)
        return
    process.nice(_LOWEST_NICENESS)
    if sys.platform == "linux":
        # Some containers forbid these; niceness alone must do there.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError, psutil.Error):
            process.ionice(psutil.IOPRIO_CLASS_IDLE)


def worker_process(data_dir: Path, job_id: str, parent: Connection) -> None:
    """Entry point of the process: do the job, or send the reason why not.

    The reason goes through the pipe, which takes it on a full disk too; the log of the job gets it where it can.
    """
    ignore_signals()
    step_back()
    follow_parent(parent, _leave)
    jobs = Jobs(data_dir)
    fault: Fault | None = None
    try:
        job = jobs.get(job_id)
        _train(job, jobs, data_dir) if job.kind == "train" else _calibrate(job, jobs, data_dir)
    except DataError as error:
        fault = Fault(error.problem, error.remedy)
    except Exception as error:  # noqa: BLE001  whatever it is, the user is told
        fault = Fault(f"{type(error).__name__}: {error}.", "See the job's log, and report it.")
        with contextlib.suppress(OSError):
            jobs.log(job_id, traceback.format_exc())
    if fault is not None:
        parent.send(fault)
        with contextlib.suppress(OSError):
            jobs.log(job_id, f"{fault.problem} {fault.remedy}")
        sys.exit(1)


def _leave(_interruption: str | None) -> None:
    """Nobody waits for the result any more."""
    os._exit(1)


def _calibrate(job: Job, jobs: Jobs, data_dir: Path) -> None:
    from models.calibration.calibrating import calibrate
    from models.calibration.calibration import Calibration
    from models.calibration.report import with_report
    from service.files.camera_choice import camera_of

    sweep, known = read_sweep(jobs.folder(job.id))
    low, high = job.request["z_range_um"]
    camera = job.request.get("camera")
    found = calibrate(
        sweep,
        z_range_um=(low, high),
        sign=known["sign"],
        axial_scale=known["axial_scale"],
        camera=None if camera is None else camera_of(camera),
        progress=lambda done, what: jobs.report_progress(job.id, 100 * done, 100, "%"),
    )
    for text in found.report["notes"]:
        jobs.log(job.id, f"Note: {text}")
    jobs.log(
        job.id,
        f"{found.report['beads_used']} of {found.report['beads_found']} beads used, "
        f"focus at {found.focus_um:.2f} µm (stage).",
    )
    with complete_output(result_folder(data_dir, job), Calibration.is_folder) as aside:
        with_report(replace(found, id=job.id)).save(aside)
        _write_about(aside, job)
    jobs.report_progress(job.id, 100, 100, "%")


def _train(job: Job, jobs: Jobs, data_dir: Path) -> None:
    from models.calibration.calibration import Calibration
    from models.training import TrainingSettings, train
    from service.files.library import Library

    asked = job.request
    minutes = float(asked["minutes"])
    calibration = Calibration.load(Library(data_dir).calibrations.folder(asked["calibration"]))
    settings = TrainingSettings(
        architecture=asked["architecture"], size=asked["size"], minutes=minutes, seed=asked["seed"]
    )
    last = ""

    def report(done: float, text: str) -> None:
        nonlocal last
        jobs.report_progress(job.id, min(done, minutes), minutes, "min")
        if text != last:
            jobs.log(job.id, text)
        last = text

    jobs.report_progress(job.id, 0.0, minutes, "min")
    with complete_output(result_folder(data_dir, job), lambda folder: (folder / "model.json").is_file()) as aside:
        train(calibration, aside, settings, model_id=job.id, report=report)
        _write_about(aside, job)


def _write_about(folder: Path, job: Job) -> None:
    write_json(folder / "about.json", {"name": job.name, "job": job.id})
