"""State that the simulated and the replayed microscope share: both exist in software only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from hardware.microscope import MicroscopeError, StageLimits
from hardware.properties import DeviceProperty, PresetGroup, PropertySetting

__all__ = ["SoftwareMicroscope"]


class SoftwareMicroscope(ABC):
    """Base of microscopes without devices: open or closed, idle or running, and without continuous focus.

    Parameters
    ----------
    name : str
        Subject of messages, such as ``"a recording"``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._closed = False

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether a sequence runs."""

    @property
    def continuous_focus(self) -> bool:
        """Never on: there is none."""
        return False

    def set_continuous_focus(self, on: bool) -> None:
        """Accept only that it is off.

        Raises
        ------
        MicroscopeError
            When it is to be switched on.
        """
        if on:
            raise MicroscopeError(
                "settings", f"Continuous focus was asked for, but {self._name} has none.", "Leave it off."
            )

    @property
    @abstractmethod
    def focus_drives(self) -> Mapping[str, StageLimits | None]:
        """Focus drives and their limits."""

    def choose_focus_drive(self, label: str) -> None:
        """Accept only the drive that there is.

        Raises
        ------
        MicroscopeError
            For another one.
        """
        if label not in self.focus_drives:
            raise MicroscopeError(
                "settings",
                f"The focus drive {label} was asked for; {self._name} has {', '.join(self.focus_drives) or 'none'}.",
                "Use the drive that there is.",
            )

    def properties(self, device: str | None = None) -> tuple[DeviceProperty, ...]:
        """None: there are no devices with properties.

        Raises
        ------
        MicroscopeError
            When those of a certain device are asked for.
        """
        if device is not None:
            raise self._without(f"The properties of {device} were asked for")
        return ()

    def read_property(self, device: str, name: str) -> DeviceProperty:
        """Refuse: there are none."""
        raise self._without(f"Property {name} of {device} was asked for")

    def set_property(self, device: str, name: str, value: str) -> DeviceProperty:
        """Refuse: there are none."""
        raise self._without(f"Property {name} of {device} was to be set")

    @property
    def trigger(self) -> dict[str, str]:
        """None."""
        return {}

    @property
    def preset_groups(self) -> tuple[PresetGroup, ...]:
        """None."""
        return ()

    def preset_settings(self, group: str, preset: str) -> tuple[PropertySetting, ...]:
        """Refuse: there are none."""
        raise self._without(f"The preset {preset} of {group} was asked for")

    def apply_preset(self, group: str, preset: str) -> None:
        """Refuse: there are none."""
        self.preset_settings(group, preset)

    def _without(self, request: str) -> MicroscopeError:
        return MicroscopeError(
            "settings", f"{request}, but {self._name} has no properties and presets.", "Use a real microscope."
        )

    def _require_open(self) -> None:
        if self._closed:
            raise MicroscopeError("closed", "The microscope has been closed.", "Open it again.")

    def _require_idle(self, purpose: str) -> None:
        self._require_open()
        if self.is_running:
            raise MicroscopeError(
                "busy", f"The camera was asked to {purpose} while a sequence runs.", "Stop the sequence first."
            )
