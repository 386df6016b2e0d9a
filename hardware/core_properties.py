"""Properties and presets of the Micro-Manager core: read, checked, set and read back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from hardware.core_devices import CoreDevices
from hardware.core_text import clean_text
from hardware.core_values import core_request, not_read_back, property_kind, same_value, strings
from hardware.microscope import MicroscopeError
from hardware.properties import STAGE_KINDS, DeviceProperty, PresetGroup, PropertySetting

__all__ = ["CoreProperties", "checked_value", "concerns_trigger"]

_TRIGGER = re.compile(r"trigger|strobe|expos\w* ?out|external|synchron", re.IGNORECASE)
"""Names that vendors give to inputs and outputs for signals of a camera."""


class CoreProperties:
    """All properties of the loaded devices, and the configuration groups.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.
    devices : CoreDevices
        All devices.
    """

    def __init__(self, core: Callable[[], Any], devices: CoreDevices) -> None:
        self._core = core
        self._devices = devices
        self._links: dict[str, str] | None = None

    # ---- properties ----

    def read(self, device: str | None = None) -> tuple[DeviceProperty, ...]:
        """Properties of one device or of all, as the devices report them now.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a device that does not exist.
        """
        labels = list(self._devices.kinds) if device is None else [device]
        users = self._linked_stages()
        found = []
        for label in labels:
            self._devices.check_known(label, "asked for")
            found += [self._read(label, name, users.get(label)) for name in self._names(label)]
        return tuple(found)

    def get(self, device: str, name: str) -> DeviceProperty:
        """One property.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a device or property that does not exist.
        """
        self._devices.check_known(device, "asked for")
        names = self._names(device)
        if name not in names:
            raise MicroscopeError(
                "settings",
                f"Property {name} of {device} was asked for; {device} has {', '.join(names) or 'no properties'}.",
                "Use one of these properties.",
            )
        return self._read(device, name, self._linked_stages().get(device))

    def set(self, device: str, name: str, value: str) -> DeviceProperty:
        """Set a property and return it as it is afterwards; a value that the device does not keep is taken back.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a value that breaks a rule of the property; ``"not_read_back"``.
        """
        before = self.get(device, name)
        checked = checked_value(before, value)
        try:
            self._write(device, name, checked)
            after = self.get(device, name)
            if not same_value(checked, after.value):
                raise not_read_back(f"property {name} of {device}", checked, after.value, "a value that it keeps")
        except MicroscopeError as error:
            raise self.put_back([before], error) from error
        return after

    def trigger_of(self, camera: str) -> dict[str, str]:
        """Properties of a camera for trigger, strobe and other signals: name to the value that the core knows."""
        return {name: self._known(camera, name) for name in self._names(camera) if concerns_trigger(name)}

    # ---- presets ----

    @property
    def groups(self) -> tuple[PresetGroup, ...]:
        """The groups, with the preset that is in force by what the core knows of the devices without asking them."""
        core = self._core()
        with core_request("read the presets"):
            return tuple(
                PresetGroup(group, tuple(strings(core.get_available_configs(group))), _current_preset(core, group))
                for group in strings(core.get_available_config_groups())
            )

    def settings(self, group: str, preset: str) -> tuple[PropertySetting, ...]:
        """What a preset sets.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a group or preset that does not exist, or one that sets a device that does not exist.
        """
        core = self._core()
        with core_request("read the presets"):
            groups = strings(core.get_available_config_groups())
            presets = strings(core.get_available_configs(group)) if group in groups else []
        if group not in groups:
            raise MicroscopeError(
                "settings",
                f"The group {group} was asked for; the configuration has {', '.join(groups) or 'no groups'}.",
                "Use one of these.",
            )
        if preset not in presets:
            raise MicroscopeError(
                "settings",
                f"The preset {preset} was asked for; the group {group} has {', '.join(presets) or 'no presets'}.",
                "Use one of these.",
            )
        with core_request(f"read the preset {preset} of {group}"):
            data = core.get_config_data(group, preset)
            rows = [_row(data, index) for index in range(data.size())]
        users = self._linked_stages()
        for label, _, _ in rows:
            self._devices.check_known(label, f"named in the preset {preset} of {group}")
        return tuple(
            PropertySetting(label, self._devices.kinds[label], name, value, users.get(label))
            for label, name, value in rows
        )

    def apply(self, group: str, preset: str) -> None:
        """Set a preset and wait for its devices; when one value is not kept, all are put back.

        Raises
        ------
        MicroscopeError
            As `settings`, and ``"not_read_back"``.
        """
        core, wanted = self._core(), self.settings(group, preset)
        before = [self.get(each.device, each.name) for each in wanted]
        try:
            with core_request(f"set the preset {preset} of {group}"):
                core.set_config(group, preset)
                core.wait_for_config(group, preset)
            self._links = None
            for each in wanted:
                kept = self.get(each.device, each.name).value
                if not same_value(each.value, kept):
                    what = f"property {each.name} of {each.device} (preset {preset} of {group})"
                    raise not_read_back(what, each.value, kept, "a preset whose devices are connected")
        except MicroscopeError as error:
            raise self.put_back(before, error) from error

    def put_back(self, before: Iterable[DeviceProperty], error: MicroscopeError) -> MicroscopeError:
        """Set properties as they were before `error`; return it, with what could not be put back."""
        troubles = []
        for each in before:
            try:
                self._write(each.device, each.name, each.value)
            except MicroscopeError as trouble:
                troubles.append(trouble.problem)
        if not troubles:
            return error
        return MicroscopeError(
            error.cause, f"{error.problem} Not everything was put back: {' '.join(troubles)}", error.remedy
        )

    # ---- inside ----

    def _names(self, device: str) -> list[str]:
        with core_request(f"read the properties of {device}"):
            return strings(self._core().get_device_property_names(device))

    def _read(self, device: str, name: str, of_stage: str | None) -> DeviceProperty:
        core, kind = self._core(), self._devices.kinds[device]
        with core_request(f"read property {name} of {device}"):
            limits = None
            if core.has_property_limits(device, name):
                limits = (
                    float(core.get_property_lower_limit(device, name)),
                    float(core.get_property_upper_limit(device, name)),
                )
            return DeviceProperty(
                device,
                kind,
                name,
                str(core.get_property(device, name)),
                property_kind(core, device, name),
                limits,
                tuple(strings(core.get_allowed_property_values(device, name))),
                bool(core.is_property_read_only(device, name)),
                bool(core.is_property_pre_init(device, name)),
                of_stage,
                kind == "camera" and concerns_trigger(name),
            )

    def _write(self, device: str, name: str, value: str) -> None:
        core = self._core()
        with core_request(f"set property {name} of {device} to {value}"):
            core.set_property(device, name, value)
            core.wait_for_device(device)
        if value in self._devices.kinds:
            self._links = None

    def _known(self, device: str, name: str) -> str:
        """Value of a property that the core knows; only when it knows none the device is asked."""
        core = self._core()
        try:
            return str(core.get_property_from_cache(device, name))
        except Exception:  # noqa: BLE001  the core raises many kinds for a value that it does not know
            with core_request(f"read property {name} of {device}"):
                return str(core.get_property(device, name))

    def _linked_stages(self) -> dict[str, str]:
        """Devices whose properties move a stage: label to stage.

        Such a device is named in a property of the stage, as the output that drives a piezo is; or it names the stage
        in a property of its own, as a turret of positions does. What the core knows of the properties is searched
        once, and again when one of them was set to the label of a device.
        """
        if self._links is None:
            kinds = self._devices.kinds
            stages = {label for label, kind in kinds.items() if kind in STAGE_KINDS}
            self._links = {}
            for label in (label for label, kind in kinds.items() if kind != "core"):
                for name in self._names(label):
                    named = self._known(label, name)
                    if label in stages and named in kinds.keys() - stages:
                        self._links[named] = label
                    elif label not in stages and named in stages:
                        self._links[label] = named
        return self._links


def concerns_trigger(name: str) -> bool:
    """Whether a property of a camera, by its name, concerns trigger, strobe or other signals."""
    return _TRIGGER.search(name) is not None


def checked_value(known: DeviceProperty, value: str) -> str:
    """The value as it is set, when it fits the property.

    Raises
    ------
    MicroscopeError
        ``"settings"``, with the rule that it breaks.
    """
    subject, value = f"Property {known.name} of {known.device}", clean_text(value)
    if known.read_only:
        raise MicroscopeError(
            "settings", f"{subject} was asked to be {value}; it is read only.", "Look for the property that sets it."
        )
    if known.before_start:
        raise MicroscopeError(
            "settings",
            f"{subject} was asked to be {value}; it is set before the device is initialized.",
            "Set it in the hardware configuration.",
        )
    if known.allowed:
        if not any(same_value(value, choice) for choice in known.allowed):
            raise MicroscopeError(
                "settings",
                f"{subject} was asked to be {value}; it may be {', '.join(known.allowed)}.",
                "Use one of these values.",
            )
        return next(choice for choice in known.allowed if same_value(value, choice))
    if known.type == "text":
        return value
    number = _number(value)
    if number is None or (known.type == "integer" and number != round(number)):
        kind = "a whole number" if known.type == "integer" else "a number"
        raise MicroscopeError("settings", f"{subject} was asked to be {value}; it is {kind}.", f"Give {kind}.")
    if known.limits is not None and not known.limits[0] <= number <= known.limits[1]:
        raise MicroscopeError(
            "settings",
            f"{subject} was asked to be {value}; it may be {known.limits[0]:g} to {known.limits[1]:g}.",
            "Give a value between these.",
        )
    return str(round(number)) if known.type == "integer" else value


def _current_preset(core: Any, group: str) -> str | None:
    """The preset that is in force; None also where a preset of the group names a device that is not there."""
    try:
        return str(core.get_current_config_from_cache(group)) or None
    except Exception:  # noqa: BLE001  the core raises many kinds; the other groups work all the same
        return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _row(data: Any, index: int) -> tuple[str, str, str]:
    """One setting of a preset; the core in this process and the bridge name its parts differently."""
    setting = data.get_setting(index) if hasattr(data, "get_setting") else data.getSetting(index)
    if hasattr(setting, "get_device_label"):
        parts = (setting.get_device_label(), setting.get_property_name(), setting.get_property_value())
    else:
        parts = (setting.getDeviceLabel(), setting.getPropertyName(), setting.getPropertyValue())
    label, name, value = (clean_text(str(part)) for part in parts)
    return label, name, value
