"""Where libraries keep what they have compiled and found, when the installation and the home cannot be written.

An instrument's program is often installed by an administrator and run by a
user without a home. numba then refuses to compile anything, and matplotlib
complains. Called once, before either is imported, this names them a folder
that can be written; child processes inherit it.
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
"""Whose functions numba compiles; its first choice is the folder beside them."""


def use_writable_caches() -> None:
    """Set the variables of numba, matplotlib and the XDG convention; what the user has set stays."""
    if _can_write(Path(platformdirs.user_cache_dir())) and _can_write(Path(platformdirs.user_config_dir())):
        return
    try:
        folder = _private_folder()
    except OSError:  # nothing at all can be written; whoever needs a cache says so
        return
    os.environ.setdefault("XDG_CACHE_HOME", str(folder))
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    if not _can_write(_PACKAGE / "__pycache__"):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))


def _can_write(folder: Path) -> bool:
    """Whether `folder` can be written, or made."""
    there = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A folder of this user alone, the same each time: what numba reads from its cache, it runs."""
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "bathyscope-cache"  # the temporary folder is the user's own there
    folder = Path(tempfile.gettempdir()) / f"bathyscope-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="bathyscope-cache-"))
