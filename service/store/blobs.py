"""Localizations of one batch as one blob.

Layout, little-endian: ``b"BLOC" | u8 version | 3 zero bytes | u32 rows | 4
zero bytes``, then one column after the other. Version 1 has the columns of
`Localizations` in their order: `frame` as int64, the others as float32,
which keeps positions of a millimetre to 0.1 nm.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tables import Localizations
from service.store.errors import StoreError

__all__ = ["pack", "unpack"]

_MAGIC = b"BLOC"
_VERSION = 1
_PREFIX = struct.Struct("<4sB3xI4x")


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype("<i8") if name == "frame" else np.dtype("<f4")


def pack(localizations: Localizations) -> bytes:
    """The blob of `localizations`: 16 bytes and 48 per row."""
    columns = localizations.columns()
    parts = [column.astype(_dtype(name)).tobytes() for name, column in columns.items()]
    return b"".join([_PREFIX.pack(_MAGIC, _VERSION, len(localizations)), *parts])


def unpack(blob: bytes) -> Localizations:
    """The localizations of a blob.

    Raises
    ------
    StoreError
        When the blob is damaged, or written by a newer version.
    """
    magic, version, rows = _PREFIX.unpack_from(blob) if len(blob) >= _PREFIX.size else (b"", 0, 0)
    expected = _PREFIX.size + rows * sum(_dtype(name).itemsize for name in Localizations.names())
    if magic != _MAGIC or version != _VERSION or len(blob) != expected:
        raise StoreError(
            f"A batch of localizations cannot be read (mark {magic!r}, version {version}, {len(blob)} bytes).",
            "It is damaged, or a newer version of Bathyscope wrote it: restore a backup, or install that version.",
        )
    columns: dict[str, NDArray[Any]] = {}
    offset = _PREFIX.size
    for name in Localizations.names():
        columns[name] = np.frombuffer(blob, _dtype(name), rows, offset)
        offset += columns[name].nbytes
    return Localizations.from_columns(columns)
