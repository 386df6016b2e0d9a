"""Microscopes: one Protocol, its drivers, and recorded movies."""

from hardware.driver import ComputedInputs, Driver, DriverSettings
from hardware.limits import LimitedMicroscope
from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    Microscope,
    MicroscopeDescription,
    MicroscopeError,
    Roi,
    StageLimits,
)
from hardware.opening import open_microscope

__all__ = [
    "CameraSettings",
    "ComputedInputs",
    "Driver",
    "DriverSettings",
    "Frame",
    "LightState",
    "LimitedMicroscope",
    "Microscope",
    "MicroscopeDescription",
    "MicroscopeError",
    "Roi",
    "StageLimits",
    "open_microscope",
]
