"""Cache folders of libraries when neither the installation nor the home folder can be written.

An administrator often installs the program of an instrument, and a user
without a home folder runs it. numba then refuses to compile, and matplotlib
prints warnings. `use_writable_caches` gives both a folder that can be written.
It must be called before they are imported; child processes inherit it.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import platformdirs

__all__ = ["use_writable_caches"]

_PACKAGE = Path(__file__).resolve().parents[2] / "models"
"""Package with the functions that numba compiles. By default numba caches beside them."""


def use_writable_caches() -> None:
    """Set the environment variables of numba, matplotlib and XDG. Variables that the user has set are kept."""
    if _home_can_be_written():
        return
    try:
        folder = _private_folder()
    except OSError:  # nothing can be written; a library that needs a cache reports it
        return
    os.environ.setdefault("XDG_CACHE_HOME", str(folder))
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    if not _can_write(_PACKAGE / "__pycache__"):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))


def _home_can_be_written() -> bool:
    try:
        folders = (platformdirs.user_cache_dir(), platformdirs.user_config_dir())
    except RuntimeError:  # a user without an entry and without HOME, as systemd's DynamicUser makes one
        return False
    return all(_can_write(Path(folder)) for folder in folders)


def _can_write(folder: Path) -> bool:
    """Whether `folder` can be written, or created."""
    existing = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A folder that only this user can write, always the same. numba runs the code that it finds in its cache."""
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "bathyscope-cache"  # on Windows each user has a temporary folder
    folder = Path(tempfile.gettempdir()) / f"bathyscope-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="bathyscope-cache-"))
