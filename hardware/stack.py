"""An image file as a stack of planes, whatever its format.

A stack is the content of a file apart from its use as movie or sweep: the
shape, the labels of the axes, the metadata of all planes and of each, and a way
to read planes one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.statements import PlaneFigures, Statements

__all__ = ["Stack", "is_stated"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Content of an image file: labelled axes, metadata, and a way to read planes.

    Attributes
    ----------
    path : Path
        The file.
    axes : str
        Labels of `shape` in capitals, or empty when nothing reliable labels them.
    shape : tuple of int
        All axes; the last two are y and x.
    dtype : dtype
        Type in the file.
    read : callable
        ``read(start, stop)`` gives planes of the flattened leading axes, shape (N, H, W).
    close : callable
        Releases the file.
    stated : Statements
        Of all planes.
    planes : PlaneFigures
        Of each plane, in the order of `read`.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]
    close: Callable[[], None]
    stated: Statements = field(default_factory=Statements)
    planes: PlaneFigures = field(default_factory=lambda: PlaneFigures.unknown(0))

    @property
    def bit_depth(self) -> int:
        """Bits of a count: as stated, or those of the type."""
        return self.stated.bit_depth or self.dtype.itemsize * 8

    def counts(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Planes as `read` gives them, as native uint16; 8-bit counts are widened."""
        return self.read(start, stop).astype(np.uint16, copy=False)


def is_stated(values: NDArray[np.float64]) -> bool:
    """Whether the file states a value of each plane."""
    return len(values) > 0 and bool(np.isfinite(values).all())
