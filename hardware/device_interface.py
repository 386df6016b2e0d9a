"""Device interface of Micro-Manager's adapters: which one a folder has, and which pymmcore fits.

A core loads only adapters of its own interface. The builds of Micro-Manager
have different ones, which their names do not tell. Each adapter has a function
that returns its interface. It is called in a process of its own, because
loading the library of a vendor may fail in any way.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "PYMMCORE_VERSIONS",
    "AdapterFile",
    "adapter_files",
    "core_interface",
    "fitting_install",
    "read_interfaces",
]

PYMMCORE_VERSIONS = {
    69: "10.1.1.69.0",
    70: "10.1.1.70.6",
    71: "11.2.1.71.0",
    73: "11.9.0.73.0",
    74: "11.10.0.74.1",
    75: "12.5.1.75.0",
}
"""Newest pymmcore for each device interface, which is the fourth part of its version.

Source: the releases on https://pypi.org/project/pymmcore/, read on 2026-11-29; there is none for interface 72.
"""

_NAME = re.compile(r"(?:lib)?mmgr_dal_(?P<adapter>.+?)(?:\.so(?:\.0)?|\.dll|\.dylib)?")

_TIMEOUT_S = 30.0
"""Longest time for one adapter; libraries of vendors search for devices when they are loaded."""

_READER = """
import ctypes, json, os, sys
path = sys.argv[1]
if sys.platform == "win32":
    os.add_dll_directory(os.path.dirname(path))
function = ctypes.CDLL(path).GetDeviceInterfaceVersion
function.restype = ctypes.c_long
print(json.dumps(function()))
sys.stdout.flush()
os._exit(0)
"""
"""Ends at once: the libraries of some vendors do not return from their end."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """One adapter: its name, as in a configuration, its interface (None: it could not be read), and why not."""

    name: str
    interface: int | None
    fault: str | None = None


def adapter_files(folder: Path) -> dict[str, Path]:
    """The adapters of a folder by their names.

    Raises
    ------
    OSError
        When the folder cannot be listed.
    """
    found = ((entry, _NAME.fullmatch(entry.name)) for entry in sorted(folder.iterdir()) if entry.is_file())
    return {match["adapter"]: entry.resolve() for entry, match in found if match is not None}


def read_interfaces(paths: dict[str, Path], names: Sequence[str]) -> list[AdapterFile]:
    """The interfaces of the adapters `names`, each read in a process of its own.

    Parameters
    ----------
    paths : dict
        As from `adapter_files`.
    names : sequence of str
        Of adapters that are there.
    """
    return [_read(name, paths[name]) for name in names]


def core_interface() -> int | None:
    """The interface of the installed pymmcore; None when it is not installed."""
    try:
        return int(version("pymmcore").split(".")[3])
    except (PackageNotFoundError, IndexError, ValueError):
        return None


def fitting_install(interface: int) -> str:
    """What to install for adapters of an interface, as a command or a clause."""
    fitting = PYMMCORE_VERSIONS.get(interface)
    if fitting is None:
        return f"install a pymmcore whose version reads *.*.*.{interface}.*"
    return f"pip install pymmcore=={fitting}"


def _read(name: str, path: Path) -> AdapterFile:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _READER, str(path)],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return AdapterFile(name, None, f"loading it took longer than {_TIMEOUT_S:g} s")
    except OSError as error:
        return AdapterFile(name, None, str(error))
    try:
        return AdapterFile(name, int(json.loads(done.stdout.strip().splitlines()[-1])))
    except (ValueError, IndexError):
        said = done.stderr.strip().splitlines()
        return AdapterFile(name, None, said[-1] if said else f"it ended the process that loaded it ({done.returncode})")
