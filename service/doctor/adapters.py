"""Micro-Manager's folder and configuration file, before anything of it is loaded into the core."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardware.core_session import find_installation
from hardware.core_text import clean_text
from hardware.device_interface import (
    AdapterFile,
    adapter_files,
    core_interface,
    fitting_install,
    read_interfaces,
)
from hardware.micromanager_settings import MicroManagerSettings
from service.doctor.findings import Finding, error, ok, warning

__all__ = ["check_adapters"]

_INTERFACE, _CONFIGURATION = "device interface", "configuration file"

_OTHERS_READ = 5
"""Adapters that are read beside those of the configuration: enough to tell which build of Micro-Manager it is."""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """The parts of a configuration file that are checked.

    Attributes
    ----------
    devices : label to name of the adapter
    unknown : labels of other lines that no Device line has
    has_camera : whether a device has the role Core-Camera
    """

    devices: dict[str, str]
    unknown: list[str]
    has_camera: bool


def check_adapters(settings: MicroManagerSettings) -> Iterator[Finding]:
    """Compare the interfaces of adapters and core, and the configuration file with the folder.

    Raises
    ------
    MicroscopeError
        When the folder or the file is missing.
    """
    folder, file = find_installation(settings.app_path, settings.config_file)
    paths = adapter_files(folder)
    configuration = _read(file)
    used = sorted({name for name in configuration.devices.values() if name in paths})
    others = [name for name in paths if name not in used][:_OTHERS_READ]
    yield from _interfaces(folder, read_interfaces(paths, used), read_interfaces(paths, others))
    yield from _devices(folder, file, configuration, paths)


def _interfaces(folder: Path, used: list[AdapterFile], others: list[AdapterFile]) -> Iterator[Finding]:
    core = core_interface()
    if core is None:
        yield error(
            _INTERFACE,
            "pymmcore is not installed, or its version names no device interface.",
            "Run: pip install pymmcore.",
        )
        return
    for adapter in used:
        if adapter.interface is None:
            yield error(
                _INTERFACE,
                f"The adapter {adapter.name} in {folder} cannot be loaded: {adapter.fault}.",
                "Install the vendor's driver that it needs, for the same processor architecture as Python.",
            )
    found = {adapter.name: adapter.interface for adapter in (*used, *others) if adapter.interface is not None}
    strange = {name: interface for name, interface in found.items() if interface != core}
    needed = {adapter.name for adapter in used}
    if not found:
        yield error(
            _INTERFACE,
            f"No adapter in {folder} can be loaded.",
            "Install Micro-Manager for the processor architecture of this Python, or set app_path.",
        )
        return
    if not strange:
        yield ok(_INTERFACE, f"The adapters in {folder} and pymmcore have interface {core}.", core=core, adapters=found)
        return
    interface = next(iter(strange.values()))
    names = ", ".join(f"{name} ({its})" for name, its in strange.items())
    message = f"pymmcore has interface {core}; in {folder} there are adapters with another one: {names}."
    remedy = (
        f"Install a Micro-Manager whose adapters have interface {core} (a newer or older nightly build), or: "
        f"{fitting_install(interface)}."
    )
    make = error if needed & set(strange) or len(strange) == len(found) else warning
    yield make(_INTERFACE, message, remedy, core=core, adapters=found, install=fitting_install(interface))


def _devices(folder: Path, file: Path, configuration: _Configuration, paths: dict[str, Path]) -> Iterator[Finding]:
    missing = sorted({name for name in configuration.devices.values() if name not in paths})
    if not configuration.devices:
        yield error(
            _CONFIGURATION,
            f"{file} has no devices.",
            "Set config_file to the .cfg file that Micro-Manager's configuration wizard wrote.",
        )
        return
    if missing:
        yield error(
            _CONFIGURATION,
            f"{file} uses adapters that are not in {folder}: {', '.join(missing)}.",
            "Set app_path to the Micro-Manager with which the file was made, or make the file again.",
        )
    if configuration.unknown:
        yield error(
            _CONFIGURATION,
            f"{file} names devices that it does not have: {', '.join(configuration.unknown)}.",
            "Make the file again with Micro-Manager's configuration wizard.",
        )
    if not configuration.has_camera:
        yield warning(
            _CONFIGURATION,
            f"{file} gives no device the role Core-Camera.",
            "Choose the default camera in Micro-Manager's configuration wizard, or set "
            'microscope.micromanager.properties.Core.Camera = "LABEL".',
        )
    if not missing and not configuration.unknown:
        count = len(configuration.devices)
        yield ok(_CONFIGURATION, f"{file} has {count} devices, and their adapters are there.", devices=count)


def _read(file: Path) -> _Configuration:
    devices: dict[str, str] = {}
    named: list[str] = []
    has_camera = False
    for line in clean_lines(file):
        words = [word.strip() for word in line.split(",")]
        if words[0] == "Device" and len(words) >= 4:
            devices[words[1]] = words[2]
        elif words[0] in ("Property", "Label", "Parent", "Delay", "FocusDirection") and len(words) >= 3:
            named.append(words[1])
        if words[:3] == ["Property", "Core", "Camera"]:
            has_camera = len(words) > 3 and bool(words[3])
    unknown = [label for label in dict.fromkeys(named) if label != "Core" and label not in devices]
    return _Configuration(devices, unknown, has_camera)


def clean_lines(file: Path) -> list[str]:
    """The lines of a configuration file without comments; it may have any encoding."""
    lines = (clean_text(line).strip() for line in file.read_bytes().splitlines())
    return [line for line in lines if line and not line.startswith("#")]
