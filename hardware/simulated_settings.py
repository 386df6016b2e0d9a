"""Settings of the simulated microscope, and its driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hardware.driver import ComputedInputs, Driver, DriverSettings
from hardware.microscope import MicroscopeError
from hardware.setting_types import Positive

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["DRIVER", "SimulatedSettings"]


class SimulatedSettings(DriverSettings):
    """The simulated microscope.

    Height, width, sample, emitters and seed describe the scene, which the caller computes.
    """

    height: int = Field(default=256, ge=32, le=4096, description="Rows of the sensor, pixels.")
    width: int = Field(default=256, ge=32, le=4096, description="Columns of the sensor, pixels.")
    sample: Literal["swimming", "slide"] = Field(
        default="swimming",
        description="The sample: emitters that swim, or beads that lie still, for calibrations.",
    )
    emitters: int = Field(default=20, ge=0, le=1000, description="Emitters in view.")
    seed: int = Field(default=1, ge=0, description="The same seed gives the same scene.")
    frame_period_s: Positive | None = Field(
        default=0.01, description="Time from one exposure to the next, where that is longer than the exposure, s."
    )


def _open(settings: SimulatedSettings, inputs: ComputedInputs) -> Microscope:
    from hardware.simulated import SimulatedMicroscope

    if inputs.scene is None or inputs.detector is None:
        raise MicroscopeError(
            "settings",
            "The simulated microscope was opened without a scene or a detector, from which it computes its frames.",
            "Pass scene and detector.",
        )
    return SimulatedMicroscope(
        inputs.scene, inputs.detector, frame_period_s=settings.frame_period_s, seed=settings.seed
    )


DRIVER = Driver(SimulatedSettings, _open, needs_limits=False)
