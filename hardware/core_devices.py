"""Devices of the Micro-Manager core: their kinds, properties and roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardware.core_text import clean_text
from hardware.core_values import core_request, device_type, not_read_back, same_value, strings
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import MicroscopeError

__all__ = ["CoreDevices"]

_SWITCHED_KINDS = ("shutter", "state device")


class CoreDevices:
    """Devices that the hardware configuration loaded.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.

    Attributes
    ----------
    kinds : dict of str to str
        Device label to kind, such as ``"camera"``.
    """

    def __init__(self, core: Callable[[], Any]) -> None:
        self._core = core
        with core_request("read the list of devices"):
            labels = strings(core().get_loaded_devices())
            self.kinds = {label: device_type(core(), label) for label in labels}

    def of_kind(self, kind: str) -> list[str]:
        """Labels of the devices of a kind."""
        return [label for label, found in self.kinds.items() if found == kind]

    def apply(self, settings: MicroManagerSettings) -> None:
        """Set time-outs and properties of devices.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a device, property or value that does not exist, ``"not_read_back"`` when a device does
            not keep a value.
        """
        core = self._core()
        for label, timeout_s in settings.device_timeout_s.items():
            self.check_known(label)
            with core_request(f"set the time-out of {label} to {timeout_s} s"):
                core.set_device_timeout_ms(label, round(timeout_s * 1000))
        for label, properties in settings.properties.items():
            for name, value in properties.items():
                self._set_property(label, name, value)

    def roles(self) -> tuple[str, str]:
        """Camera and focus drive of the core's roles; empty where there is none."""
        core = self._core()
        with core_request("read the roles of the devices"):
            return str(core.get_camera_device()), str(core.get_focus_device())

    def restore_roles(self, camera: str, stage: str, changer: str) -> None:
        """Give the roles back to the devices that were described when the microscope was opened.

        Raises
        ------
        MicroscopeError
            When other devices had the roles: soft limits and settings are those of the devices described.
        """
        now = self.roles()
        if now == (camera, stage):
            return
        core = self._core()
        with core_request("give the roles back"):
            core.set_camera_device(camera)
            core.set_focus_device(stage)
        raise MicroscopeError(
            "settings",
            f"{changer} makes {now[0] or 'no device'} the camera and {now[1] or 'no device'} the focus drive; the "
            f"microscope was opened with {camera} and {stage or 'no focus drive'}, and its limits are theirs.",
            "Take Core-Camera and Core-Focus out of it. The roles have been given back; its other devices were set.",
        )

    def wait_for_switches(self) -> None:
        """Wait until shutters, filter wheels and the like have moved."""
        for label, kind in self.kinds.items():
            if kind in _SWITCHED_KINDS:
                self._core().wait_for_device(label)

    def check_known(self, label: str, where: str = "named in the settings") -> None:
        """Refuse a label that is none of the devices; `where` says where it stands.

        Raises
        ------
        MicroscopeError
            ``"settings"``, with the labels.
        """
        if label not in self.kinds:
            raise MicroscopeError(
                "settings",
                f"Device {label} was {where}; the configuration has {', '.join(self.kinds)}.",
                "Use one of these labels.",
            )

    def _set_property(self, label: str, name: str, value: str) -> None:
        self.check_known(label)
        core = self._core()
        with core_request(f"read the properties of {label}"):
            names = strings(core.get_device_property_names(label))
            allowed = strings(core.get_allowed_property_values(label, name)) if name in names else []
        if name not in names:
            raise MicroscopeError(
                "settings",
                f"Property {name} of {label} was named in the settings; {label} has {', '.join(names)}.",
                "Use one of these properties.",
            )
        if allowed and not any(same_value(value, choice) for choice in allowed):
            raise MicroscopeError(
                "settings",
                f"Property {name} of {label} was asked to be {value}; it may be {', '.join(allowed)}.",
                "Use one of these values.",
            )
        with core_request(f"set property {name} of {label} to {value}"):
            core.set_property(label, name, value)
            core.wait_for_device(label)
            reported = str(core.get_property(label, name))
        value = clean_text(value)
        if not same_value(value, reported):
            raise not_read_back(f"property {name} of {label}", value, reported, "a value that the device keeps")
