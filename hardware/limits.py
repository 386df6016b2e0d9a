"""Soft limits of the focus drive and the XY stage, applied to every driver at one place.

A stage that moves too far breaks a slide or an objective, and the
Micro-Manager core checks no limits: it accepts even a NaN. So every driver is
used through `LimitedMicroscope`, whose `move_stage` and `move_xy` are the only
calls that pass a position to a stage. Properties and presets that can move one
are refused (`hardware.properties`). A refused move moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    Microscope,
    MicroscopeDescription,
    MicroscopeError,
    StageLimits,
    Truth,
    XYLimits,
)
from hardware.properties import DeviceProperty, PresetGroup, PropertySetting, refusal_of

__all__ = ["LimitedMicroscope", "check_limits", "check_move"]

_ROUNDING_UM = 1e-6
"""Rounding of a sum of steps in double precision; far below the resolution of any drive, µm."""


def check_limits(limits: StageLimits) -> StageLimits:
    """Return the limits when they are valid.

    Raises
    ------
    MicroscopeError
        When a limit is not finite, the range is empty or the step is not positive.
    """
    values = (limits.low_um, limits.high_um, limits.max_step_um)
    if not all(math.isfinite(value) for value in values) or limits.low_um >= limits.high_um or limits.max_step_um <= 0:
        raise MicroscopeError(
            "settings",
            f"The stage limits are {limits.low_um} to {limits.high_um} µm with steps up to {limits.max_step_um} µm; "
            "they must be finite, the first below the second, and the step positive.",
            "Set the lowest and highest position that are safe for objective and sample.",
        )
    return limits


def check_move(target_um: float, position_um: float, limits: StageLimits, axis: str = "The stage") -> float:
    """Return the target of a move when it is allowed from the present position.

    Parameters
    ----------
    target_um, position_um : float
        Target and present position of the drive, µm.
    limits : StageLimits
        The soft limits in force.
    axis : str
        Subject of messages.

    Raises
    ------
    MicroscopeError
        Cause ``"stage_limit"``, for a value that is not finite, beyond the limits, or further than one step.
    """
    if not math.isfinite(target_um):
        raise MicroscopeError(
            "stage_limit",
            f"{axis} was asked to go to {target_um} µm; a position must be a finite number "
            f"between {limits.low_um:g} and {limits.high_um:g} µm.",
            "Nothing was moved. Give a position in µm.",
        )
    if not limits.low_um - _ROUNDING_UM <= target_um <= limits.high_um + _ROUNDING_UM:
        raise MicroscopeError(
            "stage_limit",
            f"{axis} was asked to go to {target_um:g} µm; its soft limits are "
            f"{limits.low_um:g} to {limits.high_um:g} µm.",
            "Nothing was moved. Choose a position within the limits, or change the limits if the way is free.",
        )
    if not math.isfinite(position_um):
        raise MicroscopeError(
            "stage_limit",
            f"{axis} reports its position as {position_um} µm, so the step to {target_um:g} µm cannot be checked "
            f"against the greatest step of {limits.max_step_um:g} µm.",
            "Nothing was moved. Home the stage or restart its controller.",
        )
    step = abs(target_um - position_um)
    if step > limits.max_step_um + _ROUNDING_UM:
        raise MicroscopeError(
            "stage_limit",
            f"{axis} is at {position_um:g} µm and was asked to go to {target_um:g} µm, a step of {step:g} µm; "
            f"the greatest step is {limits.max_step_um:g} µm.",
            "Nothing was moved. Go there in several steps, or raise the greatest step if the way is free.",
        )
    return target_um


def _without_role(description: MicroscopeDescription, kind: str, role: str) -> str:
    """Stages that exist but are not chosen in the configuration."""
    stages = [label for label, found in description.devices.items() if found == kind]
    return f" with the role {role} (there are {', '.join(stages)})" if stages else ""


class LimitedMicroscope:
    """A microscope whose stages stay within soft limits.

    Parameters
    ----------
    inner : Microscope
        The driver.
    limits : StageLimits
        Of the focus drive: lowest and highest position and greatest step, µm.
    xy_limits : XYLimits, optional
        Of the XY stage. Absent: it is not moved.
    further_limits : mapping of str to StageLimits, optional
        Of further focus drives, by their labels. A drive without limits is not chosen.

    Raises
    ------
    MicroscopeError
        When a limit is not finite, a range is empty or a step is not positive; for limits of a drive that does not
        exist, or that has limits already.
    """

    def __init__(
        self,
        inner: Microscope,
        limits: StageLimits,
        xy_limits: XYLimits | None = None,
        further_limits: Mapping[str, StageLimits] = MappingProxyType({}),
    ) -> None:
        self._inner = inner
        self._limits = check_limits(limits)
        self._drive_limits = {label: check_limits(each) for label, each in further_limits.items()}
        first = inner.description.focus_stage
        drives = inner.focus_drives
        for label in further_limits:
            if label not in drives or label == first:
                raise MicroscopeError(
                    "settings",
                    f"Limits of the focus drive {label} were given; "
                    + (
                        "it has the role Core-Focus, and its limits are stage_low_um, stage_high_um and "
                        "stage_max_step_um."
                        if label == first
                        else f"there are {', '.join(drives) or 'no focus drives'}."
                    ),
                    "Give limits of the other focus drives, by the labels of the hardware configuration.",
                )
        if first is not None:
            self._drive_limits[first] = self._limits
        self._xy_limits = xy_limits
        if xy_limits is not None:
            check_limits(xy_limits.x)
            check_limits(xy_limits.y)

    @property
    def inner(self) -> Microscope:
        """The driver without limits."""
        return self._inner

    @property
    def description(self) -> MicroscopeDescription:
        """Driver and devices."""
        return self._inner.description

    @property
    def camera_settings(self) -> CameraSettings:
        """Settings as the camera reports them."""
        return self._inner.camera_settings

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """Set exposure, ROI and binning; return what the camera reports afterwards.

        Raises
        ------
        MicroscopeError
            For values that no camera has, and errors of the driver.
        """
        roi = settings.roi
        if not math.isfinite(settings.exposure_s) or settings.exposure_s <= 0:
            raise MicroscopeError(
                "settings",
                f"The exposure was asked to be {settings.exposure_s} s; it must be a positive, finite number.",
                "Give the exposure in seconds.",
            )
        if settings.binning < 1:
            raise MicroscopeError(
                "settings", f"The binning was asked to be {settings.binning}; it is at least 1.", "Give 1, 2 or 4."
            )
        if roi is not None and (roi.x < 0 or roi.y < 0 or roi.width < 1 or roi.height < 1):
            raise MicroscopeError(
                "settings",
                f"The region of interest was asked to begin at ({roi.x}, {roi.y}) with {roi.width} x {roi.height} "
                "pixels; it begins at 0 or later and has at least one pixel.",
                "Give left, top, width and height in binned pixels.",
            )
        return self._inner.apply_camera(settings)

    @property
    def frame_period_s(self) -> float | None:
        """Time from frame to frame of a sequence, s; None: not known before one runs."""
        return self._inner.frame_period_s

    @property
    def truth(self) -> Truth | None:
        """Positions of the emitters in the frames of the last sequence, where they are known."""
        return self._inner.truth

    def snap(self) -> Frame:
        """Expose one frame."""
        return self._inner.snap()

    def start_sequence(self) -> None:
        """Start continuous exposures."""
        self._inner.start_sequence()

    def stop_sequence(self) -> None:
        """Stop exposing, from any thread."""
        self._inner.stop_sequence()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        return self._inner.is_running

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame of the buffer, or None."""
        return self._inner.next_frame(timeout_s)

    @property
    def stage_um(self) -> float:
        """Position of the focus drive, µm."""
        return self._inner.stage_um

    @property
    def focus_drives(self) -> Mapping[str, StageLimits | None]:
        """Focus drives and their soft limits; None: it is not chosen."""
        return {label: self._drive_limits.get(label) for label in self._inner.focus_drives}

    def choose_focus_drive(self, label: str) -> None:
        """Use another focus drive, with its own limits.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a drive without soft limits; errors of the driver.
        """
        limits = self._drive_limits.get(label)
        if limits is None and label in self._inner.focus_drives:
            raise MicroscopeError(
                "settings",
                f"The focus drive {label} was asked for, but it has no soft limits.",
                f'Set low_um, high_um and max_step_um of microscope.focus_drives."{label}" in the settings file.',
            )
        self._inner.choose_focus_drive(label)
        self._limits = limits or self._limits

    def move_stage(self, stage_um: float) -> float:
        """Move the focus drive when that is allowed; return the position read back, µm.

        Raises
        ------
        MicroscopeError
            ``"no_stage"`` without a focus drive, ``"stage_limit"`` for a move
            that is not allowed (nothing moves), and errors of the driver.
        """
        if self._inner.description.focus_stage is None:
            raise MicroscopeError(
                "no_stage",
                f"The stage was asked to go to {stage_um} µm, but the microscope "
                f"({self._inner.description.driver}) has no focus drive"
                f"{_without_role(self._inner.description, 'focus drive', 'Core-Focus')}.",
                "Connect one in the hardware configuration, or leave the stage alone.",
            )
        return self._inner.move_stage(check_move(float(stage_um), self._inner.stage_um, self._limits))

    @property
    def stage_limits(self) -> StageLimits:
        """The soft limits in force."""
        return self._limits

    @property
    def xy_um(self) -> tuple[float, float]:
        """Position of the XY stage, µm."""
        return self._inner.xy_um

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Move the XY stage when that is allowed; return the position read back, µm.

        Raises
        ------
        MicroscopeError
            ``"no_stage"`` without an XY stage, ``"stage_limit"`` without limits or for a move that is not allowed in
            one of the axes (nothing moves), and errors of the driver.
        """
        description = self._inner.description
        if description.xy_stage is None:
            raise MicroscopeError(
                "no_stage",
                f"The XY stage was asked to go to ({x_um}, {y_um}) µm, but the microscope ({description.driver}) has "
                f"no XY stage{_without_role(description, 'XY stage', 'Core-XYStage')}.",
                "Connect one in the hardware configuration, or leave it alone.",
            )
        if self._xy_limits is None:
            raise MicroscopeError(
                "stage_limit",
                f"The XY stage was asked to go to ({x_um}, {y_um}) µm, but its limits are not set.",
                "Nothing was moved. Set xy_low_um, xy_high_um and xy_max_step_um of the microscope.",
            )
        now = self._inner.xy_um
        x, y = (
            check_move(float(target), position, limits, f"The XY stage in {axis}")
            for target, position, limits, axis in zip(
                (x_um, y_um), now, (self._xy_limits.x, self._xy_limits.y), "xy", strict=True
            )
        )
        return self._inner.move_xy(x, y)

    @property
    def xy_limits(self) -> XYLimits | None:
        """The soft limits in force; None: the XY stage is not moved."""
        return self._xy_limits

    @property
    def continuous_focus(self) -> bool:
        """Whether a device of the microscope holds focus by itself."""
        return self._inner.continuous_focus

    def set_continuous_focus(self, on: bool) -> None:
        """Switch that device on or off."""
        self._inner.set_continuous_focus(on)

    @property
    def light(self) -> LightState:
        """Shutter and channel."""
        return self._inner.light

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Open or close the shutter and choose a channel."""
        return self._inner.set_light(shutter_open=shutter_open, channel=channel)

    def properties(self, device: str | None = None) -> tuple[DeviceProperty, ...]:
        """Properties of one device or of all."""
        return self._inner.properties(device)

    def read_property(self, device: str, name: str) -> DeviceProperty:
        """One property."""
        return self._inner.read_property(device, name)

    def set_property(self, device: str, name: str, value: str) -> DeviceProperty:
        """Set a property that can move no stage; return it as the device reports it afterwards.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a property that can move a stage or change its limits, and errors of the driver.
        """
        refusal = refusal_of(self._inner.read_property(device, name))
        if refusal is not None:
            raise refusal.error(f"Property {name} of {device}")
        return self._inner.set_property(device, name, value)

    @property
    def trigger(self) -> Mapping[str, str]:
        """Properties of the camera for trigger and strobe."""
        return self._inner.trigger

    @property
    def preset_groups(self) -> tuple[PresetGroup, ...]:
        """The groups of presets."""
        return self._inner.preset_groups

    def preset_settings(self, group: str, preset: str) -> tuple[PropertySetting, ...]:
        """What a preset sets."""
        return self._inner.preset_settings(group, preset)

    def apply_preset(self, group: str, preset: str) -> None:
        """Set a preset that can move no stage.

        Raises
        ------
        MicroscopeError
            As `set_property`; nothing is set then.
        """
        for setting in self._inner.preset_settings(group, preset):
            refusal = refusal_of(setting)
            if refusal is not None and not self._is_role_in_force(setting):
                raise refusal.error(f"Property {setting.name} of {setting.device} (preset {preset} of {group})")
        self._inner.apply_preset(group, preset)

    def _is_role_in_force(self, setting: PropertySetting) -> bool:
        return setting.kind == "core" and self._inner.read_property(setting.device, setting.name).value == setting.value

    def stop(self) -> bool:
        """Halt stage and sequence, from any thread."""
        return self._inner.stop()

    def close(self) -> None:
        """Release the devices."""
        self._inner.close()
