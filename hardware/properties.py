"""Device properties and presets, and which of them may be set while the instrument works.

A property is a named value of one device, such as the gain of a camera. A
preset sets several of them; presets stand in groups, as in Micro-Manager's
configuration.

The Micro-Manager core moves a stage by a property as well as by a move, and
checks no limits. So properties that can move a stage are never set here:
`LimitedMicroscope` refuses them, alone and in a preset, and names what to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hardware.microscope import MicroscopeError

__all__ = ["STAGE_KINDS", "DeviceProperty", "PresetGroup", "PropertyKind", "PropertySetting", "Refusal", "refusal_of"]

PropertyKind = Literal["text", "number", "integer"]

STAGE_KINDS = ("focus drive", "XY stage")
"""Kinds of devices that have soft limits, or would need them."""

_ROLES = {
    "Camera": "Set it in the settings: properties.Core.Camera.",
    "Focus": "Choose a focus drive: PATCH /api/v1/microscope with focus_drive.",
    "XYStage": "Set it in the settings: properties.Core.XYStage.",
    "AutoFocus": "Set it in the settings: properties.Core.AutoFocus.",
    "Initialize": "The devices are initialized when the microscope is opened.",
}
"""Properties of the device Core whose change would make limits and camera settings those of other devices."""

_RAW = "command"
"""Part of the names of properties that pass raw commands to a controller, which may have stages."""


@dataclass(frozen=True, slots=True)
class DeviceProperty:
    """One property of one device.

    Attributes
    ----------
    device, kind, name : label and kind of the device, and name of the property
    value : as the device reports it
    type : kind of value
    limits : lowest and highest value of a number, or None
    allowed : values to choose from; empty: any
    read_only : the device only reports it
    before_start : it has to be set before the device is initialized, in the hardware configuration
    of_stage : label of the stage that this device moves, such as an output that drives a piezo; None: no stage
    is_trigger : it concerns the trigger, the strobe or other signals of a camera, by its name
    """

    device: str
    kind: str
    name: str
    value: str
    type: PropertyKind = "text"
    limits: tuple[float, float] | None = None
    allowed: tuple[str, ...] = ()
    read_only: bool = False
    before_start: bool = False
    of_stage: str | None = None
    is_trigger: bool = False


@dataclass(frozen=True, slots=True)
class PropertySetting:
    """A value that a preset gives a property; `kind` and `of_stage` as in `DeviceProperty`."""

    device: str
    kind: str
    name: str
    value: str
    of_stage: str | None = None


@dataclass(frozen=True, slots=True)
class PresetGroup:
    """A group of presets, and the one that is in force (None: the devices are set as in none of them)."""

    name: str
    presets: tuple[str, ...]
    current: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a property is not set here, as a clause, and what to do instead."""

    reason: str
    remedy: str

    def error(self, subject: str) -> MicroscopeError:
        """The error for a request to set `subject`."""
        return MicroscopeError("settings", f"{subject} was to be set, but {self.reason}.", self.remedy)


def refusal_of(setting: DeviceProperty | PropertySetting) -> Refusal | None:
    """Why a property may not be set while the instrument works; None: it may."""
    if setting.kind in STAGE_KINDS or setting.of_stage is not None:
        stage = setting.device if setting.of_stage is None else setting.of_stage
        return Refusal(
            f"properties of {setting.device} can move the stage {stage} past its soft limits",
            "Move stages by POST /api/v1/microscope/stage. Set other properties of a stage in the settings: "
            f"properties.{setting.device}.",
        )
    if setting.kind == "autofocus":
        return Refusal(
            f"{setting.device} moves the focus drive by itself, without its soft limits",
            "Use POST /api/v1/microscope/focus, or switch continuous focus at the microscope.",
        )
    if setting.kind == "serial port" or _RAW in setting.name.lower():
        return Refusal(
            "it passes commands to a controller, which may move a stage past its soft limits",
            "Use the properties of the controller's devices, or the settings file.",
        )
    if setting.kind == "core" and setting.name in _ROLES:
        return Refusal("it changes which devices are used, and the limits are those of others", _ROLES[setting.name])
    return None
