"""Runs of the service: start, follow, stop, and their results as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bathyscope.remote.jobs import follow_job
from bathyscope.remote.problems import ServiceError
from bathyscope.remote.progress import following
from bathyscope.remote.records import ModelRecord, RunRecord, read_job
from bathyscope.remote.steps import Endpoint, Pause, Request, Steps, get, id_of, pages
from bathyscope.remote.table import Table
from service.files.job import Job

__all__ = ["RunMethods"]

_START_S = 90.0
"""The model is warmed up before a run starts."""

_STOP_S = 90.0
"""Grabbed frames are analysed and stored before a run has ended."""

_DOWNLOAD_S = 300.0
_POLL_S = 0.25
_PARQUET = {"Accept": "application/vnd.apache.parquet"}

Format = Literal["csv", "parquet", "geff", "trackmate", "napari"]


def list_runs(limit: int | None = 100) -> Steps[list[RunRecord]]:
    """Runs, newest first; `limit` None: all of them."""
    return (yield from pages("/runs", RunRecord.read, limit))


def get_run(run: RunRecord | str) -> Steps[RunRecord]:
    """A run as it is now, by its id or by an earlier record of it."""
    return RunRecord.read((yield from get(f"/runs/{id_of(run)}")))


def start_run(
    *,
    name: str = "",
    notes: str = "",
    record: bool = False,
    duration_s: float | None = None,
    model: Any = None,
    tracking: Mapping[str, Any] | None = None,
) -> Steps[RunRecord]:
    """Start streaming and tracking.

    Parameters
    ----------
    name, notes : str
        For people.
    record : bool
        Keep every frame.
    duration_s : float, optional
        Absent: until it is stopped.
    model : ModelRecord or str, optional
        Absent: the active one.
    tracking : mapping, optional
        ``{"preset": ..., "settings": {...}}``; absent: as in the settings of the service.

    Raises
    ------
    ServiceError
        Kind ``"conflict"`` while another run or a sweep has the microscope.
    """
    body = {
        "name": name,
        "notes": notes,
        "record": record,
        "duration_s": duration_s,
        "model": None if model is None else id_of(model),
        "tracking": tracking,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return RunRecord.read((yield Request("POST", "/runs", json=given, timeout_s=_START_S)).json())


def stop_run(run: RunRecord | str) -> Steps[RunRecord]:
    """Stop a run and wait until everything is stored; a run that has ended stays as it is."""
    return RunRecord.read((yield Request("POST", f"/runs/{id_of(run)}/stop", timeout_s=_STOP_S)).json())


def wait_for_run(run: RunRecord | str, *, timeout_s: float | None = None, progress: bool = True) -> Steps[RunRecord]:
    """Wait until a run has ended, and show its frames meanwhile.

    Raises
    ------
    ServiceError
        Kind ``"timeout"`` when it has not ended within `timeout_s`.
    """
    waited_s = 0.0
    with following(f"run {id_of(run)}", shown=progress) as show:
        while True:
            now = yield from get_run(run)
            seconds = None if now.duration_s is None else float(now.duration_s)
            analysed = now.ledger.get("analysed") or 0
            expected = None if seconds is None or not now.fps else seconds * now.fps
            show(now.state, analysed, expected, "frames")
            if now.state != "running":
                return now
            if timeout_s is not None and waited_s >= timeout_s:
                raise ServiceError(
                    f"Run {now.id} has not ended within {timeout_s:g} s.", "Stop it, or wait longer.", kind="timeout"
                )
            yield Pause(_POLL_S)
            waited_s += _POLL_S


def read_tracks(
    run: RunRecord | str,
    *,
    t_from_s: float | None = None,
    t_to_s: float | None = None,
    x_um: tuple[float, float] | None = None,
    y_um: tuple[float, float] | None = None,
    z_um: tuple[float, float] | None = None,
    min_length: int | None = None,
    revision: int | None = None,
) -> Steps[Table]:
    """The points of all tracks, sorted by track and frame.

    Parameters
    ----------
    run : RunRecord or str
    t_from_s, t_to_s : float, optional
        Window of time within the run, s.
    x_um, y_um, z_um : (low, high), optional
        Box, µm.
    min_length : int, optional
        Only tracks with at least this number of points.
    revision : int, optional
        1: as tracked live; absent: the newest complete one.

    Returns
    -------
    Table
        Columns track_id, frame, t_s, x_um, y_um, z_um, vx_um_s, vy_um_s, vz_um_s, sigma_x_um, sigma_y_um, sigma_z_um,
        observed, probability.
    """
    query: dict[str, Any] = {"t_from_s": t_from_s, "t_to_s": t_to_s, "min_length": min_length, "revision": revision}
    for axis, ends in (("x", x_um), ("y", y_um), ("z", z_um)):
        if ends is not None:
            query |= {f"{axis}_min_um": ends[0], f"{axis}_max_um": ends[1]}
    response = yield Request("GET", f"/runs/{id_of(run)}/tracks", query, headers=_PARQUET, timeout_s=_DOWNLOAD_S)
    return Table.from_parquet(response.content, int(response.headers["Bathyscope-Revision"]))


def read_localizations(
    run: RunRecord | str, *, t_from_s: float | None = None, t_to_s: float | None = None
) -> Steps[Table]:
    """What was found in each frame, in a window of time of the run (s); columns as of `bathyscope.Localizations`."""
    query = {"t_from_s": t_from_s, "t_to_s": t_to_s}
    response = yield Request("GET", f"/runs/{id_of(run)}/localizations", query, headers=_PARQUET, timeout_s=_DOWNLOAD_S)
    return Table.from_parquet(response.content)


def read_measures(run: RunRecord | str, *, limit: int = 100, **selection: Any) -> Steps[dict[str, Any]]:
    """Displacement, speed, diffusion and others of the tracks, with 95 % intervals.

    Parameters
    ----------
    run : RunRecord or str
    limit : int
        Most tracks.
    **selection
        ``t_from_s``, ``t_to_s``, ``min_length``, ``revision``, ``exposure_s``.

    Returns
    -------
    dict
        ``items``, one for each track; ``ensemble``, of all of them; ``lag_s``, ``revision``, ``source``.
    """
    found: dict[str, Any] = yield from get(f"/runs/{id_of(run)}/measures", limit=limit, **selection)
    return found


def export_run(
    run: RunRecord | str,
    path: str | Path,
    *,
    format: Format = "csv",
    revision: int | None = None,
    progress: bool = True,
) -> Steps[Path]:
    """Write the tracks of a run to a file in the format of another program, and return its path.

    GEFF comes as a ZIP file with one folder.

    Raises
    ------
    ServiceError
        When the export fails.
    OSError
        When the file cannot be written.
    """
    body = {"format": format, "revision": revision}
    started = read_job((yield Request("POST", f"/runs/{id_of(run)}/export", json=body)).json())
    done = yield from follow_job(started, progress=progress)
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        yield Request("GET", f"/jobs/{done.id}/result", save_to=part, timeout_s=_DOWNLOAD_S)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def reprocess_run(
    run: RunRecord | str, *, model: ModelRecord | str | None = None, tracking: Mapping[str, Any] | None = None
) -> Steps[Job]:
    """Compute the tracks of a recorded run again from its frames; they become its newest revision.

    Parameters
    ----------
    run : RunRecord or str
    model : ModelRecord or str, optional
        Absent: that of the run.
    tracking : mapping, optional
        Settings of the tracking that differ from those of the run.

    Returns
    -------
    Job
        It waits or has begun; `jobs.wait` follows it.
    """
    body = {
        "model": None if model is None else id_of(model),
        "tracking": None if tracking is None else dict(tracking),
    }
    return read_job((yield Request("POST", f"/runs/{id_of(run)}/reprocess", json=body)).json())


class RunMethods:
    """Runs: each starts with the camera and ends with the last row in the database."""

    list = Endpoint(list_runs)
    get = Endpoint(get_run)
    start = Endpoint(start_run)
    stop = Endpoint(stop_run)
    wait = Endpoint(wait_for_run)
    tracks = Endpoint(read_tracks)
    localizations = Endpoint(read_localizations)
    measures = Endpoint(read_measures)
    export = Endpoint(export_run)
    reprocess = Endpoint(reprocess_run)
