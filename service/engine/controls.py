"""Settings of the microscope that a user changes, and its facts as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from hardware.limits import check_move
from hardware.microscope import CameraSettings, Microscope, MicroscopeError, Roi
from hardware.properties import DeviceProperty
from hardware.properties import refusal_of as refusal_of_setting
from service.protocol.errors import EngineRefusal

__all__ = [
    "change_stages_and_light",
    "facts_of",
    "is_refusal",
    "property_values",
    "refusal_of",
    "set_microscope",
    "sets_camera",
    "stage_of",
]

_REFUSALS = {
    "stage_limit": "invalid",
    "settings": "invalid",
    "not_read_back": "invalid",
    "no_stage": "invalid",
    "not_arrived": "microscope",
    "busy": "conflict",
    "continuous_focus": "conflict",
}
"""Causes that concern the request, not the state of the microscope: it need not be opened again."""


def is_refusal(error: MicroscopeError) -> bool:
    """Whether only this request was refused, and the microscope is in order."""
    return error.cause in _REFUSALS


def refusal_of(error: MicroscopeError) -> EngineRefusal:
    """The refusal of a command that corresponds to an error of the driver."""
    return EngineRefusal(_REFUSALS.get(error.cause, "microscope"), error.problem, error.remedy)


def facts_of(microscope: Microscope) -> dict[str, Any]:
    """Description, camera, trigger, light, presets and stages of a microscope as plain values."""
    return {
        "description": asdict(microscope.description),
        "camera": asdict(microscope.camera_settings),
        "frame_period_s": microscope.frame_period_s,
        "light": asdict(microscope.light),
        "trigger": dict(microscope.trigger),
        "presets": [asdict(group) for group in microscope.preset_groups],
        "stage": stage_of(microscope),
    }


def property_values(known: DeviceProperty) -> dict[str, Any]:
    """A property as plain values, with the reason why it is not set here (``not_settable``), or None."""
    refusal = refusal_of_setting(known)
    reason = None if refusal is None else f"{refusal.reason}. {refusal.remedy}"
    if known.read_only:
        reason = "it is read only"
    elif known.before_start:
        reason = "it is set before the device is initialized, in the hardware configuration"
    values = asdict(known)
    return {
        "id": f"{known.device}/{known.name}",
        **values,
        "limits": None if known.limits is None else list(known.limits),
        "allowed": list(known.allowed),
        "not_settable": reason,
    }


def stage_of(microscope: Microscope) -> dict[str, Any]:
    """Position of focus drive and XY stage, µm, and their soft limits; None without such a stage. All focus drives."""
    description, xy_limits = microscope.description, microscope.xy_limits
    has_focus, has_xy = description.focus_stage is not None, description.xy_stage is not None
    x_um, y_um = microscope.xy_um if has_xy else (None, None)
    limited = xy_limits if has_xy else None
    return {
        "stage_um": microscope.stage_um if has_focus else None,
        "limits": asdict(microscope.stage_limits) if has_focus else None,
        "focus_drive": description.focus_stage,
        "focus_drives": {
            label: None if limits is None else asdict(limits) for label, limits in microscope.focus_drives.items()
        },
        "x_um": x_um,
        "y_um": y_um,
        "x_limits": asdict(limited.x) if limited else None,
        "y_limits": asdict(limited.y) if limited else None,
    }


def sets_camera(wanted: Mapping[str, Any]) -> bool:
    """Whether settings of `set_microscope` concern the camera, which must be idle then."""
    return not wanted.keys().isdisjoint(("exposure_s", "roi", "binning", "preset"))


def set_microscope(microscope: Microscope, wanted: Mapping[str, Any]) -> None:
    """Set camera and light; when one setting is refused, the camera is set back.

    Parameters
    ----------
    microscope : Microscope
        Its camera is idle when `sets_camera`.
    wanted : mapping
        Any of ``exposure_s``, ``roi`` (left, top, width, height in binned pixels; None: the whole sensor),
        ``binning``, ``channel``, ``shutter_open``, or alone ``preset`` (``{"group", "name"}``) or ``focus_drive``
        (the drive that is used from now on). Other settings stay.
        A region is counted in binned pixels, so a new binning without a region takes the whole sensor.

    Raises
    ------
    EngineRefusal
        For a preset or focus drive together with other settings.
    MicroscopeError
        Whatever the driver refuses; the camera has been set back, or the text says why not.
    """
    if "preset" in wanted or "focus_drive" in wanted:
        if len(wanted) > 1:
            raise EngineRefusal(
                "invalid", "A preset or focus drive was given together with other settings.", "Give it alone."
            )
        if "preset" in wanted:
            microscope.apply_preset(wanted["preset"]["group"], wanted["preset"]["name"])
        else:
            microscope.choose_focus_drive(wanted["focus_drive"])
        return
    before = microscope.camera_settings
    after = _camera(before, wanted)
    try:
        if after != before:
            microscope.apply_camera(after)
        light = {name: wanted[name] for name in ("channel", "shutter_open") if name in wanted}
        if light:
            microscope.set_light(**light)
    except MicroscopeError as error:
        try:
            if microscope.camera_settings != before:
                microscope.apply_camera(before)
        except MicroscopeError as trouble:
            raise MicroscopeError(
                error.cause, f"{error.problem} The camera was not put back either: {trouble.problem}", error.remedy
            ) from error
        raise


def change_stages_and_light(microscope: Microscope, wanted: Mapping[str, Any]) -> None:
    """Move focus drive and XY stage within their limits, and switch the light.

    When focus drive and XY stage are to move, both moves are checked before one of them begins.

    Parameters
    ----------
    microscope : Microscope
        It may run a sequence.
    wanted : mapping
        Any of ``stage_um`` or ``by_um`` (focus drive: position, or distance from the present one), ``x_um`` or
        ``x_by_um``, ``y_um`` or ``y_by_um`` (XY stage), ``channel``, ``shutter_open``.

    Raises
    ------
    MicroscopeError
        Whatever limits and driver refuse.
    """
    here_um = microscope.stage_um if "by_um" in wanted else 0.0
    focus_um, xy_um = _target(wanted, "stage_um", "by_um", here_um), None
    if any(name in wanted for name in ("x_um", "x_by_um", "y_um", "y_by_um")):
        x, y = (0.0, 0.0) if microscope.description.xy_stage is None else microscope.xy_um
        to_x, to_y = _target(wanted, "x_um", "x_by_um", x), _target(wanted, "y_um", "y_by_um", y)
        xy_um = (x if to_x is None else to_x, y if to_y is None else to_y)
    if focus_um is not None and xy_um is not None and microscope.description.focus_stage is not None:
        check_move(focus_um, microscope.stage_um, microscope.stage_limits)
    light = {name: wanted[name] for name in ("channel", "shutter_open") if name in wanted}
    if light:
        microscope.set_light(**light)
    if xy_um is not None:
        microscope.move_xy(*xy_um)
    if focus_um is not None:
        microscope.move_stage(focus_um)


def _target(wanted: Mapping[str, Any], place: str, distance: str, here_um: float) -> float | None:
    """Where one axis is to go; None: it stays."""
    if place in wanted:
        return float(wanted[place])
    return here_um + float(wanted[distance]) if distance in wanted else None


def _camera(before: CameraSettings, wanted: Mapping[str, Any]) -> CameraSettings:
    after = before
    if "exposure_s" in wanted:
        after = replace(after, exposure_s=float(wanted["exposure_s"]))
    if "binning" in wanted and wanted["binning"] != before.binning:
        after = replace(after, binning=int(wanted["binning"]), roi=None)
    if "roi" in wanted:
        roi = wanted["roi"]
        after = replace(after, roi=None if roi is None else Roi(*(int(value) for value in roi)))
    return after
