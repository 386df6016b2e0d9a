"""Jobs of the service: calibrations, trainings, exports; following one to its end with a progress bar."""

from __future__ import annotations

from bathyscope.remote.problems import ServiceAway, ServiceError
from bathyscope.remote.progress import Show, following
from bathyscope.remote.records import read_job
from bathyscope.remote.steps import Endpoint, Pause, Request, Steps, get, id_of, pages
from service.files.job import Job

__all__ = ["JobMethods", "follow_job"]

_POLL_S = 0.5
_PATIENCE_S = 60.0
"""Longest absence of the service while a job is followed: the supervisor restarts its API within seconds."""


def list_jobs(limit: int | None = 100) -> Steps[list[Job]]:
    """Jobs, newest first; `limit` None: all of them."""
    return (yield from pages("/jobs", read_job, limit))


def get_job(job: Job | str) -> Steps[Job]:
    """A job as it is now."""
    return read_job((yield from get(f"/jobs/{id_of(job)}")))


def cancel_job(job: Job | str) -> Steps[Job]:
    """Ask for the end of a job; its state is ``cancelled`` a moment later."""
    return read_job((yield Request("DELETE", f"/jobs/{id_of(job)}")).json())


def follow_job(job: Job | str, *, progress: bool = True, timeout_s: float | None = None) -> Steps[Job]:
    """Wait until a job has ended, and show its progress meanwhile.

    Parameters
    ----------
    job : Job or str
    progress : bool
        Show a bar on a terminal and in a notebook, plain lines elsewhere.
    timeout_s : float, optional
        Longest wait.

    Returns
    -------
    Job
        It is done; `result` is ``calibrations/<id>``, ``models/<id>`` or ``jobs/<id>/result``.

    Raises
    ------
    ServiceError
        Kind ``"job-failed"``, ``"job-cancelled"`` or ``"job-interrupted"``, with the reason and the remedy that the job
        states; kind ``"timeout"`` when it has not ended within `timeout_s`.
    """
    waited_s = away_s = 0.0
    label = job if isinstance(job, str) else f"{job.kind} {job.name or job.id}"
    with following(label, shown=progress) as show:
        while True:
            try:
                now = yield from get_job(job)
            except ServiceAway:
                if away_s >= _PATIENCE_S:
                    raise
                away_s += _POLL_S
            else:
                away_s = 0.0
                _show(show, now)
                if now.is_over:
                    return _done(now)
            if timeout_s is not None and waited_s >= timeout_s:
                problem = f"Job {id_of(job)} has not ended within {timeout_s:g} s."
                raise ServiceError(problem, "Cancel it, or wait longer.", kind="timeout")
            yield Pause(_POLL_S)
            waited_s += _POLL_S


def _show(show: Show, job: Job) -> None:
    step = job.step if job.state == "running" else job.state
    progress = job.progress
    if progress is None:
        show(step, 0.0, None, "")
    else:
        show(step, progress.done, progress.total, progress.unit)


def _done(job: Job) -> Job:
    if job.state == "done":
        return job
    problem = f"Job {job.id} ({job.kind}) was {job.state}." if job.state != "failed" else f"Job {job.id} failed."
    remedy = "Start it again."
    if job.error is not None:
        problem, remedy = f"{problem} {job.error.problem}", job.error.remedy
    raise ServiceError(problem, remedy, kind=f"job-{job.state}", title=f"The job was {job.state}")


class JobMethods:
    """Jobs: calibrations, trainings and exports."""

    list = Endpoint(list_jobs)
    get = Endpoint(get_job)
    cancel = Endpoint(cancel_job)
    wait = Endpoint(follow_job)
