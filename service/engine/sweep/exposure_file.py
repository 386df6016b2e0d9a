"""The exposures of a live sweep in a file: written one by one, never memory-mapped.

A memory-mapped file on a full disk kills the process (SIGBUS). Writing fails
with an exception instead, and before the disk is full: at each plane the free
space is compared with the floor.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from service.engine.sweep.request import SweepSize
from service.files.outputs import explain_full_disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SweepFile"]


class SweepFile:
    """A NumPy file of shape (Z, R, H, W), uint16, that grows by whole exposures. Used by one thread.

    As a context manager: at its end the file is closed and on disk.

    Parameters
    ----------
    path : Path
        An existing file is replaced.
    floor_gb : float
        Disk space that is left free, GB (10^9 bytes).
    """

    def __init__(self, path: Path, floor_gb: float) -> None:
        self._path = path
        self._floor_gb = floor_gb
        self._file: BinaryIO | None = None
        self._size: SweepSize | None = None
        self._kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with explain_full_disk(self._path), file:
            if error is None:
                file.flush()
                os.fsync(file.fileno())

    def begin(self, size: SweepSize) -> None:
        """Write the head of the file.

        Raises
        ------
        DataError
            When the sweep would not leave the floor free, or the disk is full.
        """
        size.check_disk(self._path.parent, self._floor_gb)
        self._size = size
        with explain_full_disk(self._path):
            self._file = self._path.open("wb", buffering=0)
            head = {"descr": "<u2", "fortran_order": False, "shape": (size.planes, size.repeats, *size.shape)}
            np.lib.format.write_array_header_1_0(self._file, head)

    def add(self, pixels: NDArray[np.uint16]) -> None:
        """Write one exposure, shape (H, W).

        Raises
        ------
        DataError
            When the disk is full, or the remaining exposures would not leave the floor free.
        """
        size, file = self._size, self._file
        if size is None or file is None:
            raise ValueError("begin comes before add")
        if self._kept % size.repeats == 0:
            size.check_disk(self._path.parent, self._floor_gb, written=self._kept * size.frame_bytes)
        counts = memoryview(np.ascontiguousarray(pixels, "<u2").tobytes())
        with explain_full_disk(self._path):
            # A disk that fills writes only the beginning of a block, and fails at the next call.
            while counts:
                taken = file.write(counts)
                if not taken:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                counts = counts[taken:]
        self._kept += 1
