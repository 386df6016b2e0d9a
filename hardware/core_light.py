"""Shutter and channels of the Micro-Manager core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardware.core_devices import CoreDevices
from hardware.core_properties import CoreProperties
from hardware.core_values import core_request, not_read_back, strings
from hardware.microscope import LightState, MicroscopeError
from hardware.properties import refusal_of

__all__ = ["CoreLight"]


class CoreLight:
    """Default shutter, and the configuration group that switches the light.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.
    devices : CoreDevices
        All devices.
    properties : CoreProperties
        Their properties and presets.
    group : str
        The configuration group.
    """

    def __init__(self, core: Callable[[], Any], devices: CoreDevices, properties: CoreProperties, group: str) -> None:
        self._core = core
        self._devices = devices
        self._properties = properties
        self._group = group

    @property
    def state(self) -> LightState:
        """Shutter and channel as the core reports them."""
        core = self._core()
        with core_request("read the light's state"):
            shutter = core.get_shutter_device()
            is_open = bool(core.get_shutter_open()) if shutter else None
            channels = tuple(strings(core.get_available_configs(self._group)))
            channel = core.get_current_config(self._group) if channels else ""
            automatic = bool(shutter) and bool(core.get_auto_shutter())
        return LightState(is_open, channel or None, channels, automatic)

    def switch_channel(self, channel: str) -> None:
        """Switch to a preset of the group.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a preset that does not exist, or one that can move a stage past its limits.
        """
        core = self._core()
        channels = self.state.channels
        if channel not in channels:
            raise MicroscopeError(
                "settings",
                f"Channel {channel} was asked for; the group {self._group} has {', '.join(channels) or 'no presets'}.",
                "Choose one of these, or name another group as channel_group.",
            )
        for setting in self._properties.settings(self._group, channel):
            refusal = refusal_of(setting)
            if refusal is not None and setting.kind != "core":  # roles are given back afterwards
                raise refusal.error(f"Property {setting.name} of {setting.device} (channel {channel})")
        with core_request(f"switch the light to {channel}"):
            core.set_config(self._group, channel)
            self._devices.wait_for_switches()

    def switch_shutter(self, is_open: bool) -> None:
        """Open or close the shutter; from now on it does not follow the exposures.

        Raises
        ------
        MicroscopeError
            ``"settings"`` without a shutter.
        """
        core = self._core()
        if self.state.shutter_open is None:
            raise MicroscopeError(
                "settings",
                "The shutter was asked to switch, but the configuration has no shutter.",
                "Choose the default shutter in Micro-Manager's configuration wizard.",
            )
        with core_request("switch the shutter"):
            core.set_auto_shutter(False)
            core.set_shutter_open(is_open)
            self._devices.wait_for_switches()

    def check(self, shutter_open: bool | None, channel: str | None) -> LightState:
        """Compare the state with what was set (None: nothing), and return it.

        Raises
        ------
        MicroscopeError
            ``"not_read_back"``.
        """
        state = self.state
        if channel is not None and state.channel != channel:
            raise not_read_back("channel", channel, str(state.channel), "a channel whose devices are connected")
        if shutter_open is not None and state.shutter_open != shutter_open:
            raise not_read_back("shutter", _shown(shutter_open), _shown(state.shutter_open), "a shutter that works")
        return state


def _shown(state: bool | None) -> str:
    return {True: "open", False: "closed", None: "absent"}[state]
