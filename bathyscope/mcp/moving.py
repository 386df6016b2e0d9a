"""Tools that move the microscope, and that start or stop work; offered only with a key of the role operate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, Image
from pydantic import Field

from bathyscope.mcp.operator import Operator
from bathyscope.mcp.pictures import png, scaled
from bathyscope.mcp.quantities import Id, OptionalUm

__all__ = ["MovingTools"]

Name = Annotated[str, Field(max_length=200, description="A name for display.")]


class MovingTools:
    """The tools, over the client with the operate key.

    Parameters
    ----------
    operator : Operator
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def tools(self) -> tuple[Callable[..., Any], ...]:
        """The functions; name, arguments and docstring of each are those of the tool."""
        return (
            self.move_stage, self.set_microscope, self.snap_image, self.start_run, self.stop_run, self.activate_model,
            self.start_calibration, self.train_model, self.cancel_job, self.stop_microscope,
        )  # fmt: skip

    async def move_stage(
        self,
        context: Context[Any, Any],
        stage_um: OptionalUm = None,
        by_um: OptionalUm = None,
        x_um: OptionalUm = None,
        x_by_um: OptionalUm = None,
        y_um: OptionalUm = None,
        y_by_um: OptionalUm = None,
    ) -> dict[str, Any]:
        """Move focus drive (stage_um or by_um) and XY stage within their limits.

        Refused while a run or a sweep has the microscope.
        """
        client = await self._operator.client(context)
        return await client.microscope.move(
            stage_um=stage_um, by_um=by_um, x_um=x_um, x_by_um=x_by_um, y_um=y_um, y_by_um=y_by_um
        )  # fmt: skip

    async def set_microscope(
        self,
        context: Context[Any, Any],
        exposure_s: Annotated[float | None, Field(gt=0, le=1000, description="Exposure, s.")] = None,
        binning: Annotated[int | None, Field(ge=1, le=64, description="Pixels joined to one, each way.")] = None,
        channel: Annotated[str | None, Field(max_length=200, description="Preset of the light.")] = None,
        shutter: Literal["open", "closed"] | None = None,
    ) -> dict[str, Any]:
        """Set exposure, binning, channel and shutter, all or nothing; what is absent stays."""
        client = await self._operator.client(context)
        return await client.microscope.set(exposure_s=exposure_s, binning=binning, channel=channel, shutter=shutter)

    async def snap_image(self, context: Context[Any, Any]) -> list[Any]:
        """Expose one frame, while no run has the microscope, and show it scaled for display."""
        client = await self._operator.client(context)
        counts = await client.microscope.snap()
        pixels, scale, low, high = scaled(counts)
        facts = (
            f"{counts.shape[0]} rows, {counts.shape[1]} columns; counts {counts.min()} to {counts.max()}; "
            f"black {low:g}, white {high:g}; {scale} camera pixels for each pixel."
        )
        return [Image(data=png(pixels), format="png"), facts]

    async def start_run(
        self,
        context: Context[Any, Any],
        duration_s: Annotated[float, Field(gt=0, le=86_400, description="Seconds; it can be stopped before.")],
        name: Name = "",
        notes: Annotated[str, Field(max_length=2000, description="Free text.")] = "",
        record: Annotated[bool, Field(description="Keep every frame.")] = False,
        model: Annotated[Id | None, Field(description="Absent: the active one.")] = None,
    ) -> dict[str, Any]:
        """Start a run: camera frames become live 3D tracks for a given time."""
        client = await self._operator.client(context)
        run = await client.runs.start(duration_s=duration_s, name=name, notes=notes, record=record, model=model)
        return run.raw

    async def stop_run(self, context: Context[Any, Any], run: Id) -> dict[str, Any]:
        """Stop a run and wait until everything is stored."""
        client = await self._operator.client(context)
        return (await client.runs.stop(run)).raw

    async def activate_model(self, context: Context[Any, Any], model: Id) -> dict[str, Any]:
        """Make a model the active one; in a run that is on, the live tracks end and new ones begin."""
        client = await self._operator.client(context)
        return (await client.models.activate(model)).raw

    async def start_calibration(
        self,
        context: Context[Any, Any],
        z_low_um: Annotated[float, Field(ge=-1e4, le=1e4, description="First depth from focus, µm.")],
        z_high_um: Annotated[float, Field(ge=-1e4, le=1e4, description="Last depth from focus, µm.")],
        z_step_um: Annotated[float, Field(gt=0, le=1000, description="Distance of the planes, µm.")],
        name: Name = "",
    ) -> dict[str, Any]:
        """Sweep the stage around the present focus, and compute a calibration from it: a job.

        The beads must not move, and must be roughly in focus.
        """
        client = await self._operator.client(context)
        job = await client.calibrations.start((z_low_um, z_high_um), z_step_um, name=name)
        return {"job": job.id, "state": job.state}

    async def train_model(
        self,
        context: Context[Any, Any],
        calibration: Id,
        minutes: Annotated[float, Field(ge=0.02, le=1440, description="Wall time.")] = 10.0,
        name: Name = "",
    ) -> dict[str, Any]:
        """Train a model for a calibration: a job in the background; live tracking goes on."""
        client = await self._operator.client(context)
        job = await client.models.train(calibration, minutes=minutes, name=name)
        return {"job": job.id, "state": job.state}

    async def cancel_job(self, context: Context[Any, Any], job: Id) -> dict[str, Any]:
        """Ask for the end of a job."""
        client = await self._operator.client(context)
        cancelled = await client.jobs.cancel(job)
        return {"job": cancelled.id, "state": cancelled.state}

    async def stop_microscope(self, context: Context[Any, Any]) -> dict[str, Any]:
        """Halt stages and camera, which ends a run or a sweep; this is not an emergency stop."""
        client = await self._operator.client(context)
        return await client.microscope.stop()
