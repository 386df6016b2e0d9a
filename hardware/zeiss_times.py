"""Times of the frames of a CZI file, from the attachment TimeStamps.

pylibCZIrw reads no attachments. The layout is that of Zeiss' description of the
format (ZISRAW): segments of a header of 32 bytes and their content; the header
of the file states where the directory of the attachments is.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["times_of_czi"]

_SEGMENT_HEADER = 32
_DIRECTORY_POSITION = _SEGMENT_HEADER + 72
"""Place in the file of the position of the directory of the attachments."""

_ENTRY = struct.Struct("<2s10xqi16s8s80s")
"""Of the directory: schema, position in the file, part, identifier, type of content, name."""

_DIRECTORY_HEADER, _ATTACHMENT_HEADER = 256, 256
"""Bytes of a segment before its entries or its data."""

_MOST_ENTRIES = 1000
_MOST_TIMES = 50_000_000


def times_of_czi(path: Path) -> NDArray[np.float64]:
    """Times of the frames, shape (N,), s since the start of the acquisition; empty when the file states none."""
    with path.open("rb") as file:
        try:
            return _times(file)
        except struct.error:
            return np.empty(0)


def _times(file: BinaryIO) -> NDArray[np.float64]:
    (directory,) = _unpack(file, "<q", _DIRECTORY_POSITION)
    if directory <= 0 or not _is_segment(file, directory, b"ZISRAWATTDIR"):
        return np.empty(0)
    (entries,) = _unpack(file, "<i", directory + _SEGMENT_HEADER)
    first = directory + _SEGMENT_HEADER + _DIRECTORY_HEADER
    for number in range(min(entries, _MOST_ENTRIES)):
        file.seek(first + number * _ENTRY.size)
        _, position, _, _, _, name = _ENTRY.unpack(file.read(_ENTRY.size))
        if name.rstrip(b"\0") == b"TimeStamps" and _is_segment(file, position, b"ZISRAWATTACH"):
            start = position + _SEGMENT_HEADER + _ATTACHMENT_HEADER
            _, count = _unpack(file, "<ii", start)
            if not 0 < count <= _MOST_TIMES:
                return np.empty(0)
            content = file.read(8 * count)
            times = np.frombuffer(content, "<f8").astype(np.float64) if len(content) == 8 * count else np.empty(0)
            return times if np.isfinite(times).all() else np.empty(0)
    return np.empty(0)


def _is_segment(file: BinaryIO, position: int, name: bytes) -> bool:
    file.seek(position)
    return file.read(len(name)) == name


def _unpack(file: BinaryIO, layout: str, position: int) -> tuple[int, ...]:
    file.seek(position)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
