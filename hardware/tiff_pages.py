"""Planes of TIFF files, read when they are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.tiff_log import collect_warnings

__all__ = ["ContiguousPlanes", "PagePlanes"]


class ContiguousPlanes:
    """Planes that are contiguous in a file.

    They are read, not mapped: a mapped file that is cut while it is read ends the process.
    """

    def __init__(self, path: Path, offset: int, frame: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._path = path
        self._offset = offset
        self._frame = frame
        self._dtype = dtype
        self._file = path.open("rb", buffering=0)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        planes = np.empty((max(0, stop - start), *self._frame), self._dtype)
        room = memoryview(planes.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        self._file.seek(self._offset + start * math.prod(self._frame) * self._dtype.itemsize)
        done = 0
        while done < len(room):
            count = self._file.readinto(room[done:])
            if not count:
                raise EOFError(f"it ended at plane {start + done * (stop - start) // len(room)} while it was read")
            done += count
        return planes

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PagePlanes:
    """Planes of a TIFF, or of a set of TIFF files that are one image; one of the others is open at a time."""

    def __init__(self, tiff: Any, pages: Sequence[Any]) -> None:
        self._tiff = tiff
        self._pages = pages
        self._other: Any = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        with collect_warnings() as records:
            planes = np.stack([self._plane(index) for index in range(start, stop)])
        if records:
            raise ValueError(records[0].getMessage())
        return planes

    def close(self) -> None:
        """Close all files."""
        self._use(None)
        self._tiff.close()

    def _plane(self, index: int) -> NDArray[Any]:
        page = self._pages[index]
        if page.parent is not self._tiff:
            self._use(page.parent.filehandle)
        return np.asarray(page.asarray())

    def _use(self, handle: Any) -> None:
        if handle is not self._other:
            if self._other is not None:
                self._other.close()
            if handle is not None and handle.closed:
                handle.open()
            self._other = handle
