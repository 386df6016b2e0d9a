"""The XY stage of the Micro-Manager core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardware.core_arrival import arrived
from hardware.core_values import core_request
from hardware.microscope import MicroscopeError

__all__ = ["CoreXY"]


class CoreXY:
    """The device with the role Core-XYStage when the microscope was opened.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.
    tolerance_um : float
        Greatest distance from the target in each axis.

    Attributes
    ----------
    stage : str or None
        Label of the device; None: there is none.
    """

    def __init__(self, core: Callable[[], Any], tolerance_um: float) -> None:
        self._core = core
        self._tolerance_um = tolerance_um
        with core_request("read the role of the XY stage"):
            self.stage = str(core().get_xy_stage_device()) or None

    def read(self) -> tuple[float, float]:
        """Position as the stage reports it, µm.

        Raises
        ------
        MicroscopeError
            ``"no_stage"`` without an XY stage.
        """
        core, stage = self._core(), self._required_stage()
        with core_request(f"read the position of {stage}"):
            return float(core.get_x_position(stage)), float(core.get_y_position(stage))

    def move(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Move the stage, wait, and return the position read back, µm.

        Raises
        ------
        MicroscopeError
            ``"not_arrived"`` when it stands elsewhere; ``"device"`` when it refuses or does not finish within its
            time-out.
        """
        core, stage = self._core(), self._required_stage()
        with core_request(f"move {stage} to ({x_um:g}, {y_um:g}) µm"):
            core.set_xy_position(stage, x_um, y_um)
            core.wait_for_device(stage)
        x, y = arrived(core, stage, (x_um, y_um), self.read, self._tolerance_um)
        return x, y

    def _required_stage(self) -> str:
        if self.stage is None:
            raise MicroscopeError(
                "no_stage",
                "The XY stage was asked for, but no device has the role Core-XYStage.",
                "Choose the default XY stage in Micro-Manager's configuration wizard, or set it in the settings: "
                'properties.Core.XYStage = "LABEL".',
            )
        return self.stage
