"""Memory that the machine can spare, compared with what an image needs before it is read.

A request that does not fit must end in a message: without it the kernel ends
some process, often another one. `models.memory` does the same for computations.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from hardware.reading import refusal

__all__ = ["require_memory", "spare_bytes"]

_SHARE = 0.8
"""Share of the free memory that images may take; the rest is for what is computed from them."""

_GROUP = Path("/sys/fs/cgroup")
"""Limits of a container (cgroup version 2)."""


def spare_bytes() -> int:
    """Memory that this process may still take: free on the machine, within its container and its own limit."""
    spare = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        spare = min(spare, limit - used)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            spare = min(spare, limit - psutil.Process().memory_info().vms)
    return max(int(_SHARE * spare), 0)


def require_memory(path: Path, needed: int, what: str, remedy: str) -> None:
    """Refuse to read an image that needs more memory than the machine can spare.

    Parameters
    ----------
    path : Path
        The file.
    needed : int
        Bytes that are held at once.
    what : str
        What needs them, for example ``"a sweep of 66 planes of 512 x 512 pixels"``.
    remedy : str
        How to need less.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``, with both figures.
    """
    spare = spare_bytes()
    if needed > spare:
        raise refusal(
            f"{path} announces {what}, which needs about {needed / 1e9:.3g} GB of memory; {spare / 1e9:.3g} GB can be "
            "spared here.",
            remedy,
        )
