"""Planes of a sweep in text: "Planes 3 to 6 and 9 are"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["named_planes", "runs"]


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def named_planes(indices: NDArray[np.intp], noun: str = "plane", *, be: bool = True) -> str:
    """Planes by number: "Planes 3 to 6 and 9 are"; without verb and capital when `be` is false."""
    flags = np.zeros(int(indices.max()) + 1, bool)
    flags[indices] = True
    parts = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs(flags)]
    text = f"{noun}{'s' if len(indices) > 1 else ''} {', '.join(parts[:8])}{' and others' if len(parts) > 8 else ''}"
    if not be:
        return text
    return text[0].upper() + text[1:] + (" are" if len(indices) > 1 else " is")
