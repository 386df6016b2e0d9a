"""A lower priority for a process, so that the engine goes first."""

from __future__ import annotations

import contextlib
import sys

import psutil

__all__ = ["lower_priority"]

_MOST_NICENESS = 19


def lower_priority(niceness: int, *, idle_disk: bool = False) -> None:
    """Make this process nicer than it is; on Windows its priority becomes below normal.

    Parameters
    ----------
    niceness : int
        Added to the present one. To become less nice is refused to an ordinary user, so no absolute value is set.
    idle_disk : bool
        Also use the disk only when no other process does, where the system allows it.
    """
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    process.nice(min(process.nice() + niceness, _MOST_NICENESS))
    if idle_disk and sys.platform == "linux":
        with contextlib.suppress(OSError, psutil.Error):  # some containers forbid it
            process.ionice(psutil.IOPRIO_CLASS_IDLE)
