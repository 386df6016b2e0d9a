"""Tools that read: state, runs, tracks, calibrations, models, jobs, events, the newest camera frame. Nothing moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from mcp.server.mcpserver import Image
from pydantic import Field

from bathyscope.client import AsyncClient
from bathyscope.mcp.pictures import png
from bathyscope.mcp.quantities import Count, Id, TimeS
from bathyscope.remote.problems import ServiceError

__all__ = ["ReadingTools"]

_PATIENCE_S = 3.0
"""A run sends tracks for each frame and a picture ten times a second."""

_MOST_LIVE_TRACKS = 500

_SUMMARY = (
    "id", "name", "notes", "state", "started_at", "ended_at", "model_id", "duration_s", "recording", "fps", "revision",
    "problem",
)  # fmt: skip
_TRACK_COLUMNS = ("t_s", "x_um", "y_um", "z_um", "sigma_z_um")
_DIGITS = 4


class ReadingTools:
    """The tools, over a client.

    Parameters
    ----------
    client : AsyncClient
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def tools(self) -> tuple[Callable[..., Any], ...]:
        """The functions; name, arguments and docstring of each are those of the tool."""
        return (
            self.status, self.list_runs, self.get_run, self.get_tracks, self.get_measures, self.live_tracks,
            self.preview_image, self.list_calibrations, self.list_models, self.list_jobs, self.get_job,
            self.list_events,
        )  # fmt: skip

    async def status(self) -> dict[str, Any]:
        """State of the instrument: readiness, disk, microscope with owner, positions and limits, current run."""
        client = self._client
        microscope: dict[str, Any] = await client.microscope.state()
        running = [run.raw for run in await client.runs.list(1) if run.state == "running"]
        return {
            "ready": await self._readiness(),
            "system": await client.system(),
            "microscope": microscope,
            "running": _summary(running[0]) | {"ledger": running[0]["ledger"]} if running else None,
        }

    async def list_runs(
        self,
        limit: Count = 20,
        search: Annotated[str | None, Field(max_length=200, description="Text in id, name or notes.")] = None,
    ) -> dict[str, Any]:
        """Runs, newest first."""
        query = {"limit": limit, "search": search}
        page = (await self._client.request("GET", "/runs", query=query)).json()
        return {"runs": [_summary(run) for run in page["items"]], "more": page["next"] is not None}

    async def get_run(self, run: Id) -> dict[str, Any]:
        """One run with its ledger of frames, latencies, settings and revisions of its tracks."""
        return (await self._client.runs.get(run)).raw

    async def get_tracks(
        self,
        run: Id,
        t_from_s: TimeS = None,
        t_to_s: TimeS = None,
        min_length: Annotated[int, Field(ge=1, le=1_000_000, description="Fewest points of a track.")] = 1,
        limit: Count = 20,
        points: Annotated[int, Field(ge=2, le=500, description="Most points of each track, evenly spaced.")] = 50,
    ) -> dict[str, Any]:
        """Tracks of a run, thinned to some points each: positions in µm and the standard error of the depth."""
        query = {"t_from_s": t_from_s, "t_to_s": t_to_s, "min_length": min_length, "limit": limit}
        page = (await self._client.request("GET", f"/runs/{run}/tracks", query=query, timeout_s=120.0)).json()
        return {
            "revision": page["revision"],
            "tracks": [_thinned(track, points) for track in page["items"]],
            "more": page["next"] is not None,
        }

    async def get_measures(
        self, run: Id, t_from_s: TimeS = None, t_to_s: TimeS = None, limit: Count = 20
    ) -> dict[str, Any]:
        """Displacement, speed and diffusion of the tracks of a run and of all of them together, with 95 % intervals."""
        return await self._client.runs.measures(run, limit=limit, t_from_s=t_from_s, t_to_s=t_to_s)

    async def live_tracks(self) -> dict[str, Any]:
        """Positions of all live tracks after the newest frame of the current run."""
        async with aclosing(self._client.live.tracks(duration_s=_PATIENCE_S)) as states:
            async for state in states:
                # A new client first gets the last state that there was, also of a run that has ended.
                if (await self._client.runs.get(state.run)).state != "running":
                    break
                shown = slice(0, _MOST_LIVE_TRACKS)
                columns = {name: _rounded(column[shown]) for name, column in state.table.items() if name != "flags"}
                return {
                    "run": state.run,
                    "frame": state.frame,
                    "t_s": state.t_s,
                    "tracks": len(state),
                    "shown": min(len(state), _MOST_LIVE_TRACKS),
                    **columns,
                    "coasting": state.coasting[shown].tolist(),
                    "near_focus": state.near_focus[shown].tolist(),
                }
        raise _nothing_live("track state")

    async def preview_image(self) -> list[Any]:
        """The newest camera frame, also of a run that has ended, as a picture, with its time, counts and scale."""
        async with aclosing(self._client.live.frames(duration_s=_PATIENCE_S)) as frames:
            async for frame in frames:
                taken_at = datetime.fromtimestamp(frame.captured_s, UTC)
                facts = (
                    f"Frame {frame.frame}, taken at {taken_at:%Y-%m-%d %H:%M:%S} UTC; black {frame.low_adu:g}, "
                    f"white {frame.high_adu:g} counts; {frame.scale} camera pixels for each pixel."
                )
                return [Image(data=png(frame.pixels), format="png"), facts]
        raise _nothing_live("camera frame")

    async def list_calibrations(self, limit: Count = 20) -> dict[str, Any]:
        """Calibrations, newest first: depths that each covers, pixel size, focus."""
        found = await self._client.calibrations.list(limit)
        return {
            "calibrations": [
                {
                    "id": each.id,
                    "name": each.name,
                    "z_range_um": each.z_range_um,
                    "pixel_size_um": each.pixel_size_um,
                    "focus_um": each.focus_um,
                }
                for each in found
            ]
        }

    async def list_models(self, limit: Count = 20) -> dict[str, Any]:
        """Models, newest first: calibration, depths that each covers, pixel size."""
        found = await self._client.models.list(limit)
        return {
            "models": [
                {
                    "id": each.id,
                    "name": each.name,
                    "calibration_id": each.calibration_id,
                    "z_range_um": each.z_range_um,
                    "pixel_size_um": each.pixel_size_um,
                }
                for each in found
            ]
        }

    async def list_jobs(self, limit: Count = 20) -> dict[str, Any]:
        """Jobs (calibrations, trainings, exports), newest first, with state and progress."""
        page = (await self._client.request("GET", "/jobs", query={"limit": limit})).json()
        return {"jobs": [{name: value for name, value in job.items() if name != "log"} for job in page["items"]]}

    async def get_job(self, job: Id) -> dict[str, Any]:
        """One job with progress, result or error, and the last lines of its log."""
        return dict((await self._client.request("GET", f"/jobs/{job}")).json())

    async def list_events(
        self,
        limit: Count = 50,
        run: Annotated[str | None, Field(pattern=r"^[0-9A-Za-z-]{1,64}$", description="Only of this run.")] = None,
    ) -> dict[str, Any]:
        """What happened, newest first: devices lost and back, stages moved, runs begun and ended, frames dropped."""
        return {"events": [event.raw for event in await self._client.events(limit, run=run)]}

    async def _readiness(self) -> str:
        try:
            await self._client.wait_until_ready(0.0)
        except ServiceError as error:
            return f"no: {error.problem} {error.remedy}"
        return "yes"


def _summary(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in _SUMMARY}


def _thinned(track: Mapping[str, Any], points: int) -> dict[str, Any]:
    """A track with at most `points` of its points; the first and the last stay."""
    count = len(track["t_s"])
    rows = np.unique(np.linspace(0, count - 1, min(points, count)).round().astype(int))
    columns = {name: [_short(track[name][row]) for row in rows] for name in _TRACK_COLUMNS}
    head = {name: track[name] for name in ("id", "points", "t_from_s", "t_to_s")}
    return {**head, "shown": len(rows), **columns}


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)


def _rounded(column: Any) -> list[float | None]:
    """A column in JSON: NaN is null."""
    if column.dtype.kind != "f":
        return list(column.tolist())
    return [_short(number) if np.isfinite(number) else None for number in column.astype(float).tolist()]


def _nothing_live(what: str) -> ServiceError:
    return ServiceError(
        f"There is no {what}: no run is on, or it sent none within {_PATIENCE_S:g} s.",
        "Look at status; start a run.",
        kind="nothing-live",
    )
