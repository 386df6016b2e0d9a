"""The process that computes one job, with low priority and on one thread.

A job has a process of its own, so that it can be cancelled at any time: the
process is killed, and its incomplete output is removed. It uses only the
processor time that live tracking leaves. It reports through files and its
pipe. It does not write to the database, so that neither waits for the other;
an export reads from it, in short transactions.

numpy and torch are imported after the number of their threads is set.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from bathyscope_errors import BathyscopeError
from service.files.job import Fault, Job
from service.files.jobs import Jobs
from service.files.outputs import complete_output, write_json
from service.files.sweep import sweep_of_job
from service.process.children import follow_parent, ignore_signals
from service.settings import Settings

__all__ = ["lower_priority", "result_folder", "worker_process"]

_SINGLE_THREADED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_LOWEST_NICENESS = 19

_EXPORTS_KEPT_S = 7 * 86_400.0
"""A week. Exports can be made again, and would fill the disk that recordings need."""

_OPTION = re.compile(r"--([a-z][a-z0-9-]+)")
_GB = 10**9

_FOLDERS = {"calibrate": "calibrations", "train": "models"}


def result_folder(data_dir: Path, job: Job) -> Path:
    """Folder of the result of a job; it exists only when the result is complete."""
    if job.kind in ("export", "reprocess"):
        return data_dir / "jobs" / job.id / "result"
    return data_dir / _FOLDERS[job.kind] / job.id


def lower_priority() -> None:
    """Give this process the lowest priority, and limit its computations to one thread."""
    os.environ.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.IDLE_PRIORITY_CLASS)
        return
    process.nice(_LOWEST_NICENESS)
    if sys.platform == "linux":
        # Some containers forbid these calls; the niceness is then the only setting.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError, psutil.Error):
            process.ionice(psutil.IOPRIO_CLASS_IDLE)


def worker_process(settings: Settings, job_id: str, parent: Connection) -> None:
    """Entry point of the process: compute the job, or send the reason of its failure.

    The reason is sent through the pipe, which also works on a full disk. It is written to the job's log if possible.
    """
    ignore_signals()
    lower_priority()
    follow_parent(parent, _exit_now)
    jobs = Jobs(settings.data_dir)
    fault: Fault | None = None
    try:
        job = jobs.get(job_id)
        if job.kind == "train":
            _train(job, jobs, settings.data_dir)
        elif job.kind == "export":
            _export(job, jobs, settings)
        elif job.kind == "reprocess":
            _reprocess(job, jobs, settings)
        else:
            _calibrate(job, jobs, settings)
    except BathyscopeError as error:
        fault = Fault(_as_fields(error.problem), _as_fields(error.remedy))
    except Exception as error:  # noqa: BLE001  the user must see every failure
        fault = Fault(f"{type(error).__name__}: {error}.", "See the job's log, and report it.")
        with contextlib.suppress(OSError):
            jobs.log(job_id, traceback.format_exc())
    if fault is not None:
        parent.send(fault)
        with contextlib.suppress(OSError):
            jobs.log(job_id, f"{fault.problem} {fault.remedy}")
        sys.exit(1)


def _exit_now(_interruption: str | None) -> None:
    """End the process: the jobs process has stopped or died, so the result is not needed."""
    os._exit(1)


def _calibrate(job: Job, jobs: Jobs, settings: Settings) -> None:
    from models.calibration.calibrating import calibrate
    from models.calibration.calibration import Calibration
    from models.calibration.report import with_report
    from models.object_size import ObjectSize
    from service.files.camera_choice import camera_of

    sweep, known = sweep_of_job(
        jobs.folder(job.id),
        job.request,
        int(settings.upload_most_gb * _GB),
        lambda text: jobs.log(job.id, f"Note: {_as_fields(text)}"),
    )
    z_range_um, camera = job.request["z_range_um"], job.request.get("camera")
    object_um = job.request.get("object_diameter_um")
    found = calibrate(
        sweep,
        z_range_um=None if z_range_um is None else (z_range_um[0], z_range_um[1]),
        focus_um=job.request.get("focus_um"),
        sign=known["sign"],
        axial_scale=known["axial_scale"],
        objects=None if object_um is None else ObjectSize(object_um, job.request.get("bead_diameter_um") or 0.0),
        camera=None if camera is None else camera_of(camera),
        progress=lambda done, what: jobs.report_progress(job.id, 100 * done, 100, "%"),
    )
    for text in found.report["notes"]:
        jobs.log(job.id, f"Note: {text}")
    jobs.log(
        job.id,
        f"{found.report['beads_used']} of {found.report['beads_found']} beads used, "
        f"focus at {found.focus_um:.2f} µm in the coordinates of the sweep.",
    )
    with complete_output(result_folder(settings.data_dir, job), Calibration.is_folder) as aside:
        with_report(replace(found, id=job.id)).save(aside)
        _write_about(aside, job)
    jobs.report_progress(job.id, 100, 100, "%")


def _as_fields(text: str) -> str:
    """Names of options as those of fields of a request: ``--z-step-um`` as ``z_step_um``."""
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)


def _train(job: Job, jobs: Jobs, data_dir: Path) -> None:
    from models.calibration.calibration import Calibration
    from models.training import TrainingSettings, train
    from service.files.library import Library

    request = job.request
    minutes = float(request["minutes"])
    calibration = Calibration.load(Library(data_dir).calibrations.folder(request["calibration"]))
    settings = TrainingSettings(
        architecture=request["architecture"], size=request["size"], minutes=minutes, seed=request["seed"]
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


def _export(job: Job, jobs: Jobs, settings: Settings) -> None:
    from service.export.blocks import counted
    from service.export.formats import FORMATS
    from service.export.source import tracks_of_run
    from service.files.library import Library
    from service.store.store import Store

    _remove_old_exports(settings.data_dir)
    form = FORMATS[job.request["format"]]
    with contextlib.closing(Store.open(settings.database)) as store:
        library = Library(settings.data_dir, settings.model)
        wanted = job.request
        source = tracks_of_run(
            store,
            library,
            wanted["run"],
            wanted["revision"],
            tracks=wanted.get("tracks"),
            measures=bool(wanted.get("measures")),
            exposure_s=float(wanted.get("exposure_s") or 0.0),
        )

        def report(done: int) -> None:
            jobs.report_progress(job.id, done, source.points, "points")

        with complete_output(result_folder(settings.data_dir, job), lambda _: False) as aside:
            aside.mkdir()
            stem = f"{source.origin.source}-tracks-{source.origin.revision}"
            written = form.write_file(aside, stem, counted(source.blocks, report), source.origin, source.measured)
    jobs.log(job.id, f"{written.name}: {source.tracks} tracks with {source.points} points.")


def _reprocess(job: Job, jobs: Jobs, settings: Settings) -> None:
    from service.files.library import Library
    from service.jobs.reprocessing import reprocess
    from service.store.store import Store

    with contextlib.closing(Store.open(settings.database)) as store:
        library = Library(settings.data_dir, settings.model)

        def report(done: int, total: int) -> None:
            jobs.report_progress(job.id, done, total, "frames")

        with complete_output(result_folder(settings.data_dir, job), lambda _: False) as aside:
            aside.mkdir()
            made = reprocess(
                store,
                library,
                settings.data_dir,
                job.request,
                report,
                scheduler=settings.reprocess.scheduler,
                note=lambda text: jobs.log(job.id, text),
            )
            write_json(aside / "revision.json", made)
    jobs.log(job.id, f"Revision {made['revision']}, from {made['frames']} recorded frames.")


def _remove_old_exports(data_dir: Path) -> None:
    """Remove the files of exports that were written more than a week ago."""
    for folder in (data_dir / "jobs").glob("*/result"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _EXPORTS_KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _write_about(folder: Path, job: Job) -> None:
    write_json(folder / "about.json", {"name": job.name, "job": job.id})
