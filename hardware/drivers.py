"""The microscope drivers that are installed, by kind.

The drivers of this package stand in a table, so that they are found in a
source checkout too, which has no installed metadata. Other packages add theirs
as entry points of the group ``bathyscope.microscopes``; see `hardware.driver`.
The names of the built-in drivers are reserved: an entry point cannot replace
one. A driver is imported only when it is used.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hardware.driver import Driver
from hardware.microscope import MicroscopeError

__all__ = ["BUILT_IN", "GROUP", "driver_kinds", "load_driver"]

GROUP = "bathyscope.microscopes"
"""Group of the entry points of drivers."""

BUILT_IN = {
    "simulated": "hardware.simulated_settings:DRIVER",
    "micromanager": "hardware.micromanager_settings:DRIVER",
    "replay": "hardware.replay_settings:DRIVER",
}
"""Drivers of this package: kind to module and name, written like an entry point."""


def driver_kinds() -> tuple[str, ...]:
    """Kinds of the drivers that are installed, those of this package first. Imports none of them."""
    return *BUILT_IN, *sorted(entry_points(group=GROUP).names - BUILT_IN.keys())


def load_driver(kind: str) -> Driver[Any]:
    """Import the driver of a kind.

    Raises
    ------
    MicroscopeError
        Cause ``"settings"``: no such driver is installed, or two packages install it. Cause ``"driver"``: it cannot
        be imported, or is not a `Driver`.
    """
    entry = _entry_point(kind)
    package = "bathyscope" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    source = f"The microscope driver {kind} of the package {package} ({entry.value})"
    try:
        driver = entry.load()
    except Exception as error:
        raise MicroscopeError(
            "driver",
            f"{source} cannot be imported: {type(error).__name__}: {error}.",
            "Install the libraries that it needs, or update or remove the package.",
        ) from error
    if not isinstance(driver, Driver):
        raise MicroscopeError(
            "driver",
            f"{source} is a {type(driver).__name__}; it must be a hardware.driver.Driver.",
            "Correct the entry point of the package.",
        )
    return driver


def _entry_point(kind: str) -> EntryPoint:
    if kind in BUILT_IN:
        return EntryPoint(kind, BUILT_IN[kind], GROUP)
    found = list(entry_points(group=GROUP, name=kind))
    if not found:
        raise MicroscopeError(
            "settings",
            f"The driver is {kind}; installed are {', '.join(driver_kinds())}.",
            "Set driver to one of these, or install the package that has the driver.",
        )
    if len(found) > 1:
        packages = sorted(entry.dist.name if entry.dist is not None else entry.value for entry in found)
        raise MicroscopeError(
            "settings",
            f"The driver {kind} is installed by {len(found)} packages: {', '.join(packages)}.",
            "Remove all but one of them.",
        )
    return found[0]
