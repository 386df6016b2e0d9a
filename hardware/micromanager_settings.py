"""Settings of a Micro-Manager microscope, and its driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hardware.driver import ComputedInputs, Driver, DriverSettings
from hardware.setting_types import PathName, Positive

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["DRIVER", "MicroManagerSettings"]


class MicroManagerSettings(DriverSettings):
    """Connection to Micro-Manager, and properties to set when it is opened.

    `app_path` defaults to the folder of `config_file`; a relative `config_file` may lie in `app_path`. Both are for
    the mode in-process only. `properties` are set in their order.
    """

    mode: Literal["in-process", "bridge"] = Field(
        default="in-process", description="Load the core in this process, or connect to a running Micro-Manager (slow)."
    )
    app_path: PathName | None = Field(default=None, description="Folder of Micro-Manager, with its device adapters.")
    config_file: PathName | None = Field(default=None, description="Micro-Manager hardware configuration (.cfg).")
    # In a buffer that holds only one or two frames, torn frames were seen.
    buffer_mb: int = Field(default=256, ge=16, le=65536, description="Sequence buffer of the core, MB.")
    port: int = Field(default=4827, ge=1, le=65535, description="Port of the bridge, in bridge mode.")
    channel_group: str = Field(default="Channel", description="Configuration group that switches the light.")
    properties: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Device label, property, value: set at opening and read back."
    )
    stage_tolerance_um: Positive = Field(
        default=0.5, description="Greatest distance of the focus drive from its target, µm."
    )
    frame_timeout_s: Positive = Field(
        default=5.0, description="A camera without a frame for this time and two exposures is reported, s."
    )
    # The core waits 5 s for every other device.
    device_timeout_s: dict[str, Positive] = Field(
        default_factory=dict, description="Time-out of a device by its label, s."
    )

    def check_complete(self) -> None:
        """Check that a hardware configuration is stated, in the mode in-process."""
        if self.mode == "in-process" and self.config_file is None:
            raise ValueError("config_file is not set; the core needs a hardware configuration")


def _open(settings: MicroManagerSettings, _: ComputedInputs) -> Microscope:
    from hardware.micromanager import MicroManagerMicroscope

    return MicroManagerMicroscope(settings)


DRIVER = Driver(MicroManagerSettings, _open)
