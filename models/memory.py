"""Compare the memory that a computation needs with the memory that the machine has free, before it begins.

Otherwise the kernel would end some process when memory runs out, often another
one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from models.errors import DataError

__all__ = ["require_memory", "spare_bytes"]

# Share of the free memory that a computation may use: other processes need some, and estimates are a little low.
_SHARE = 0.8
_GROUP = Path("/sys/fs/cgroup")
"""Limits of a container (cgroup version 2)."""


def spare_bytes() -> int:
    """Memory that this process may still take: free on the machine, within its container and its own limit."""
    spare = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        spare = min(spare, limit - used)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            spare = min(spare, limit - psutil.Process().memory_info().vms)
    return max(int(_SHARE * spare), 0)


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Raise when a computation needs more memory than the machine has free.

    Parameters
    ----------
    needed : float
        Bytes, estimated.
    what : str
        What needs them, as the subject of a sentence: "The calibration of 90 beads ...".
    remedy : str
        How to need less.

    Raises
    ------
    DataError
        With both figures.
    """
    spare = spare_bytes()
    if needed > spare:
        raise DataError(
            f"{what} needs about {needed / 1e9:.3g} GB of memory; {spare / 1e9:.3g} GB can be spared here.", remedy
        )
