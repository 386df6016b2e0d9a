"""The focus drive of the Micro-Manager core, and the devices that hold focus by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hardware.core_arrival import arrived
from hardware.core_devices import CoreDevices
from hardware.core_values import core_request, not_read_back
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import MicroscopeError

__all__ = ["CoreFocus"]


class CoreFocus:
    """Focus drive and continuous focus.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.
    devices : CoreDevices
        All devices.
    settings : MicroManagerSettings
        The tolerance of a position.
    stage : str or None
        Label of the focus drive; None: there is none.

    Attributes
    ----------
    stage : str or None
        Label of the drive in use.
    direction : int
        As in `MicroscopeDescription.focus_direction`.
    last_um : float
        Position after the last `move` or `update`, µm; frames are stamped with it. 0 without a drive.
    """

    def __init__(
        self, core: Callable[[], Any], devices: CoreDevices, settings: MicroManagerSettings, stage: str | None
    ) -> None:
        self._core = core
        self._devices = devices
        self._settings = settings
        self.stage = stage
        self.last_um = 0.0
        # Autofocus devices that were switched off here.
        self._switched_off: list[str] = []
        self.direction = self._read_direction()

    def choose(self, stage: str) -> None:
        """Give the role Core-Focus to another focus drive, and use that one.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a device that is no focus drive; ``"not_read_back"``.
        """
        drives = self._devices.of_kind("focus drive")
        if stage not in drives:
            raise MicroscopeError(
                "settings",
                f"The focus drive {stage} was asked for; the configuration has {', '.join(drives) or 'none'}.",
                "Use one of these.",
            )
        core = self._core()
        with core_request(f"make {stage} the focus drive"):
            core.set_focus_device(stage)
            chosen = str(core.get_focus_device())
        if chosen != stage:
            raise not_read_back("focus drive", stage, chosen, "a drive that is connected")
        self.stage = stage
        self.direction = self._read_direction()
        self.update()

    def _read_direction(self) -> int:
        if self.stage is None:
            return 0
        with core_request(f"read the direction of {self.stage}"):
            return int(self._core().get_focus_direction(self.stage))

    def read(self) -> float:
        """Position of the focus drive as it reports it, µm.

        Raises
        ------
        MicroscopeError
            ``"no_stage"`` without a focus drive.
        """
        core, stage = self._core(), self._required_stage()
        with core_request(f"read the position of {stage}"):
            return float(core.get_position(stage))

    def update(self) -> None:
        """Read the position into `last_um`, where there is a drive."""
        if self.stage is not None:
            self.last_um = self.read()

    def move(self, stage_um: float) -> float:
        """Move the focus drive, wait, and return the position read back, µm.

        Raises
        ------
        MicroscopeError
            ``"not_arrived"`` when the drive stands elsewhere; ``"device"`` when it
            refuses or does not finish within its time-out; ``"continuous_focus"``
            while another device moves it to hold focus.
        """
        core, stage = self._core(), self._required_stage()
        if self.holding_devices():
            raise MicroscopeError(
                "continuous_focus",
                f"{stage} was asked to go to {stage_um:g} µm while continuous focus is on, which moves it back.",
                "Nothing was moved. Switch continuous focus off first, at the microscope or in Micro-Manager.",
            )
        with core_request(f"move {stage} to {stage_um:g} µm"):
            core.set_position(stage, stage_um)
            core.wait_for_device(stage)
        (reported_um,) = arrived(core, stage, (stage_um,), self._update_and_read, self._settings.stage_tolerance_um)
        return reported_um

    def _update_and_read(self) -> tuple[float]:
        self.last_um = self.read()
        return (self.last_um,)

    def set_continuous_focus(self, on: bool) -> None:
        """Switch off all autofocus devices that hold focus; or on again those that were switched off, or that in role.

        Raises
        ------
        MicroscopeError
            ``"not_read_back"``; ``"settings"`` when there is no autofocus device to switch on.
        """
        core = self._core()
        holding = self.holding_devices()
        if on == bool(holding):
            return
        with core_request("find the autofocus device"):
            role = str(core.get_auto_focus_device())
        devices = holding or self._switched_off or ([role] if role else [])
        if not devices:
            raise MicroscopeError(
                "settings",
                "Continuous focus was asked for, but no device has the role Core-AutoFocus.",
                "Choose one in Micro-Manager's configuration wizard.",
            )
        with core_request(f"switch continuous focus of {', '.join(devices)} {_on(on)}"):
            for device in devices:
                core.set_auto_focus_device(device)
                core.enable_continuous_focus(on)
            core.set_auto_focus_device(role)
        self._switched_off = [] if on else devices
        if bool(self.holding_devices()) != on:
            raise not_read_back("continuous focus", _on(on), _on(not on), "a position at which it can lock")

    def holding_devices(self) -> list[str]:
        """Autofocus devices that hold focus now, also those that have not the role Core-AutoFocus.

        The core asks only the device in that role, so each device has it for a moment. A focus drive that is the
        offset of the continuous focus may move while that is on; then the list is empty.
        """
        core = self._core()
        devices = self._devices.of_kind("autofocus")
        if not devices:
            return []
        with core_request("ask whether continuous focus is on"):
            if self.stage is not None and core.is_continuous_focus_drive(self.stage):
                return []
            role = core.get_auto_focus_device()
            holding = []
            for device in devices:
                core.set_auto_focus_device(device)
                if core.is_continuous_focus_enabled():
                    holding.append(device)
            core.set_auto_focus_device(role)
        return holding

    def _required_stage(self) -> str:
        if self.stage is None:
            drives = ", ".join(self._devices.of_kind("focus drive"))
            raise MicroscopeError(
                "no_stage",
                f"The focus drive was asked for, but no device has the role Core-Focus (there are {drives or 'none'}).",
                "Choose the default focus stage in Micro-Manager's configuration wizard, or set it in the settings: "
                'properties.Core.Focus = "LABEL".',
            )
        return self.stage


def _on(state: bool) -> str:
    return "on" if state else "off"
