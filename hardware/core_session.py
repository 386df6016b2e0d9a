"""Starting and ending the Micro-Manager core, with messages that explain failures.

Most failures of a microscope arise when device adapters are loaded: a path is
wrong, the configuration is for other hardware, or the adapters have another
device interface than the installed pymmcore. The functions here raise errors
that name the wrong value and what to install. They also make it possible to
start a core again in the same process: pycromanager keeps the first one in
``Engine.singleton``, which then drives a core that has ended. A core in a
running Micro-Manager is reached over its bridge, whose data rate is limited.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

from hardware.core_text import TextCore, clean_text, readable_configuration
from hardware.device_interface import fitting_install
from hardware.microscope import MicroscopeError

__all__ = [
    "BRIDGE_LIMIT_BYTES_PER_S",
    "check_bridge_rate",
    "connect_bridge",
    "democamera_installation",
    "find_installation",
    "start_core",
    "stop_core",
]

BRIDGE_LIMIT_BYTES_PER_S = 100e6
"""Data rate of the bridge, by its documentation and by reports of its users."""

_BRIDGE_CONNECT_S = 1.0
"""How long a Micro-Manager on this machine may take to accept a connection, s."""

_MISMATCH = re.compile(r"requires (?P<core>\d+); device adapter has (?P<adapter>\d+)")


def democamera_installation() -> tuple[Path, Path]:
    """Folder of the device adapters and configuration file of the DemoCamera.

    Raises
    ------
    MicroscopeError
        When the extra that brings it is not installed.
    """
    try:
        import mm_test_adapters
    except ImportError as error:
        raise MicroscopeError(
            "not_installed",
            "The DemoCamera was asked for, but the package mm_test_adapters is not installed.",
            "Install it with: pip install 'bathyscope[democamera]'.",
        ) from error
    folder = Path(mm_test_adapters.device_adapter_path())
    return folder, folder / "MMConfig_demo.cfg"


def find_installation(app_path: Path | None, config_file: Path | None) -> tuple[Path, Path]:
    """Folder of the device adapters and configuration file, checked to exist.

    Parameters
    ----------
    app_path : Path or None
        Micro-Manager's folder; None: the folder of the configuration file.
    config_file : Path or None
        Hardware configuration; a relative path may be relative to `app_path`.

    Raises
    ------
    MicroscopeError
        When something is missing.
    """
    if config_file is None:
        raise MicroscopeError(
            "settings",
            "No hardware configuration was given; the Micro-Manager core loads its devices from one.",
            "Set config_file to the .cfg file that Micro-Manager's configuration wizard wrote.",
        )
    candidates = [config_file]
    if app_path is not None and not config_file.is_absolute():
        candidates.append(app_path / config_file)
    found = next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise MicroscopeError(
            "settings",
            f"The hardware configuration {config_file} does not exist.",
            "Set config_file to the .cfg file that Micro-Manager's configuration wizard wrote.",
        )
    folder = (app_path or found.parent).resolve()
    if not folder.is_dir() or not any("mmgr_dal_" in entry.name for entry in folder.iterdir()):
        raise MicroscopeError(
            "settings",
            f"The folder {folder} holds no device adapters (files with mmgr_dal_ in their names).",
            "Set app_path to the folder in which Micro-Manager is installed.",
        )
    return folder, found


def start_core(app_path: Path, config_file: Path, buffer_mb: int) -> Any:
    """Start the core in this process and load the configuration.

    Returns
    -------
    TextCore
        With methods in snake_case, as pycromanager gives it.

    Raises
    ------
    MicroscopeError
        When a core runs already, or the configuration cannot be loaded.
    """
    from mmpycorex import Core, is_pymmcore_active
    from pycromanager import start_headless

    if is_pymmcore_active():
        raise MicroscopeError(
            "busy",
            "A Micro-Manager core runs in this process already; pycromanager handles one at a time.",
            "Close the other microscope first.",
        )
    _forget_engine()
    with readable_configuration(config_file) as readable:
        try:
            start_headless(
                mm_app_path=str(app_path), config_file=str(readable), python_backend=True, buffer_size_mb=buffer_mb
            )
        except Exception as error:
            said = error.object if isinstance(error, UnicodeDecodeError) else str(error)
            raise _explain_loading(clean_text(said), app_path, config_file) from error
    return TextCore(Core())


def stop_core() -> None:
    """Unload all devices and end the core, so that another can be started."""
    from pycromanager import stop_headless

    stop_headless()
    _forget_engine()


def connect_bridge(port: int) -> Any:
    """The core of a running Micro-Manager. Untested: needs a running Micro-Manager."""
    from mmpycorex import Core

    try:
        # Tested first, because the bridge leaves its own socket open when no server listens.
        socket.create_connection(("127.0.0.1", port), _BRIDGE_CONNECT_S).close()
        return TextCore(Core(convert_camel_case=True, port=port))
    except Exception as error:
        raise MicroscopeError(
            "bridge",
            f"No Micro-Manager listens at port {port} ({error}).",
            "Start Micro-Manager and tick 'Run server on port' in its options.",
        ) from error


def check_bridge_rate(width: int, height: int, bytes_per_pixel: int, fps: float) -> float:
    """Data rate of a sequence over the bridge, bytes/s.

    Parameters
    ----------
    width, height : int
        Frame, pixels.
    bytes_per_pixel : int
        1 or 2.
    fps : float
        Frames a second.

    Raises
    ------
    MicroscopeError
        When it exceeds `BRIDGE_LIMIT_BYTES_PER_S`.
    """
    rate = width * height * bytes_per_pixel * fps
    if rate > BRIDGE_LIMIT_BYTES_PER_S:
        raise MicroscopeError(
            "bridge_rate",
            f"{width} x {height} pixels of {bytes_per_pixel} bytes at {fps:.1f} frames/s are {rate / 1e6:.0f} MB/s; "
            f"the bridge to Micro-Manager carries {BRIDGE_LIMIT_BYTES_PER_S / 1e6:.0f} MB/s.",
            f"Reduce the region of interest to {BRIDGE_LIMIT_BYTES_PER_S / (bytes_per_pixel * fps):.0f} pixels, "
            "expose longer, or run the core in-process.",
        )
    return rate


def _forget_engine() -> None:
    from pycromanager.acquisition.acq_eng_py.internal.engine import Engine

    if hasattr(Engine, "singleton"):
        Engine.singleton.shutdown()
        del Engine.singleton


def _explain_loading(message: str, app_path: Path, config_file: Path) -> MicroscopeError:
    mismatch = _MISMATCH.search(message)
    if mismatch is None:
        said = " ".join(message.split())
        return MicroscopeError(
            "device",
            f"The hardware configuration {config_file} could not be loaded: {said}.",
            "Check that the devices are switched on and connected, and that this file works in Micro-Manager itself.",
        )
    core, adapter = int(mismatch["core"]), int(mismatch["adapter"])
    return MicroscopeError(
        "device_interface",
        f"The device adapters in {app_path} have device interface {adapter}, the installed pymmcore has {core}; "
        "they must be the same.",
        f"Use adapters of interface {core} (a newer or older Micro-Manager), or: {fitting_install(adapter)}.",
    )
