"""The service itself: version, readiness, events, and requests to resources that have no method here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bathyscope.remote.problems import ServiceAway, ServiceError
from bathyscope.remote.records import Event, RunRecord, read_job
from bathyscope.remote.steps import Endpoint, Pause, Request, Steps, get, id_of, pages
from service.files.job import Job

__all__ = ["InstrumentMethods"]

_POLL_S = 0.2

_START_S = 90.0
"""The model is warmed up before a run starts."""


def system() -> Steps[dict[str, Any]]:
    """Version, machine, data directory, disk and processes."""
    found: dict[str, Any] = yield from get("/system")
    return found


def access() -> Steps[dict[str, Any]]:
    """Owner and role of the access key: ``who``, ``role``, and ``key_needed``."""
    found: dict[str, Any] = yield from get("/access")
    return found


def events(limit: int | None = 100, *, kind: str | None = None, run: str | None = None) -> Steps[list[Event]]:
    """What happened, newest first: devices lost and back, runs begun and ended; `kind` and `run` select."""
    return (yield from pages("/events", Event.read, limit, kind=kind, run=run))


def wait_until_ready(timeout_s: float = 120.0) -> Steps[None]:
    """Wait until the instrument tracks, or could at once.

    Raises
    ------
    ServiceError, ServiceAway
        Why it is not ready after `timeout_s`.
    """
    waited_s = 0.0
    while True:
        try:
            yield Request("GET", "/readyz", of_root=True, timeout_s=10.0)
            return
        except (ServiceAway, ServiceError) as error:
            is_starting = isinstance(error, ServiceAway) or error.status == 503
            if not is_starting or waited_s >= timeout_s:
                raise
        yield Pause(_POLL_S)
        waited_s += _POLL_S


def request(
    method: str, path: str, *, query: Mapping[str, Any] | None = None, json: Any = None, timeout_s: float = 30.0
) -> Steps[httpx.Response]:
    """Send any request, for resources of the service that have no method here.

    Parameters
    ----------
    method, path : str
        Such as ``"GET"`` and ``"/events"``; the path is below ``/api/v1``.
    query : mapping, optional
    json : optional
        The body.
    timeout_s : float

    Returns
    -------
    httpx.Response
        ``response.json()`` or ``response.content``.

    Raises
    ------
    ServiceError
        With the problem that the service states.
    """
    return (yield Request(method, path, query or {}, json, timeout_s=timeout_s))


def acquire(sequence: Any, *, name: str = "", record: bool = True, model: Any = None) -> Steps[RunRecord | Job]:
    """Run a sequence of useq-schema.

    Parameters
    ----------
    sequence : MDASequence, str or Path
        The sequence, its JSON or YAML, or the file that holds it.
    name : str
        For people.
    record : bool
        Of a time series: keep every frame.
    model : ModelRecord or str, optional
        Of a time series; absent: the active one.

    Returns
    -------
    RunRecord or Job
        Of a time series the run, of a focal stack the job of its calibration; either has begun.

    Raises
    ------
    ServiceError
        Kind ``"data"`` with what of the sequence is not run.
    """
    if isinstance(sequence, Path):
        sequence = sequence.read_text(encoding="utf-8")
    elif not isinstance(sequence, str):
        sequence = sequence.model_dump_json(exclude_unset=True)
    body = {"sequence": sequence, "name": name, "record": record}
    if model is not None:
        body["model"] = id_of(model)
    found = (yield Request("POST", "/acquisitions", json=body, timeout_s=_START_S)).json()
    return RunRecord.read(found["run"]) if found["run"] is not None else read_job(found["job"])


class InstrumentMethods:
    """Methods of the clients themselves."""

    system = Endpoint(system)
    access = Endpoint(access)
    events = Endpoint(events)
    wait_until_ready = Endpoint(wait_until_ready)
    request = Endpoint(request)
    acquire = Endpoint(acquire)
