"""The binary messages of the live streams: one header, then columns that need no copying.

``b"BTHY" | u8 version | u8 kind | u16 header length | MessagePack header | columns``,
little-endian. The header is padded so that the columns begin at a multiple of
eight, and so does each column: a browser makes typed arrays on the received
buffer without copying. A message is encoded once for all clients.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "PREVIEW", "TRACKS", "WireError", "body_offset", "decode", "encode"]

TRACKS = 1
PREVIEW = 2
KINDS = {TRACKS: "tracks", PREVIEW: "preview"}

_MAGIC = b"BTHY"
_VERSION = 1
_PREFIX = struct.Struct("<4sBBH")
_ALIGNMENT = 8
_TYPES = {
    "uint8": "<u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "float64": "<f8",
}


class WireError(ValueError):
    """Bytes that are not a message of this version, or values that a message cannot hold."""


def encode(kind: int, header: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Write one message.

    Parameters
    ----------
    kind : int
        One of `KINDS`.
    header : mapping
        MessagePack values. ``rows`` (unless given: the length of the columns), ``columns`` and ``pad`` are added.
    columns : mapping of name to ndarray, shape (N,)
        uint8, uint16, uint32, int32, int64, float32 or float64, all of one length.

    Raises
    ------
    WireError
        For an unknown kind, columns of different lengths or another type, or a header beyond 65,535 bytes.
    """
    if kind not in KINDS:
        raise WireError(f"kind {kind} is not one of {KINDS}")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise WireError(f"the columns have different lengths: {sorted(lengths)}")
    described, parts, offset = [], [], 0
    for name, column in columns.items():
        if column.dtype.name not in _TYPES or column.ndim != 1:
            raise WireError(f"column {name} is {column.dtype}, {column.shape}; it must be flat, of {list(_TYPES)}")
        raw = column.astype(_TYPES[column.dtype.name], copy=False).tobytes()
        described.append({"name": name, "type": column.dtype.name, "offset": offset})
        padding = -len(raw) % _ALIGNMENT
        parts += [raw, bytes(padding)]
        offset += len(raw) + padding
    if parts:
        parts.pop()  # nothing follows the last column
    # Up to seven characters of text take exactly one byte each in MessagePack, so one correction gives the length.
    whole = {"rows": lengths.pop() if lengths else 0, **header, "columns": described, "pad": ""}
    packed: bytes = msgpack.packb(whole)
    if missing := -len(packed) % _ALIGNMENT:
        packed = msgpack.packb(whole | {"pad": " " * missing})
    if len(packed) > 0xFFFF:
        raise WireError(f"the header has {len(packed)} bytes; at most 65,535 fit")
    return b"".join([_PREFIX.pack(_MAGIC, _VERSION, kind, len(packed)), packed, *parts])


def body_offset(message: bytes | memoryview) -> int:
    """Where the columns of a message begin: behind prefix and header."""
    return int(_PREFIX.size + _PREFIX.unpack_from(message)[3])


def decode(message: bytes) -> tuple[int, dict[str, Any], dict[str, NDArray[Any]]]:
    """Read one message; the columns are read-only views into it.

    Returns
    -------
    kind, header, columns

    Raises
    ------
    WireError
        When it is cut short, of another version, or not a message at all.
    """
    if len(message) < _PREFIX.size:
        raise WireError(f"{len(message)} bytes are no message; a prefix alone has {_PREFIX.size}")
    magic, version, kind, length = _PREFIX.unpack_from(message)
    if magic != _MAGIC or version != _VERSION or kind not in KINDS:
        raise WireError(f"this is no message of version {_VERSION}: it begins with {message[:8]!r}")
    body = _PREFIX.size + length
    try:
        header = msgpack.unpackb(message[_PREFIX.size : body])
        rows = header["rows"]
        columns = {
            column["name"]: np.frombuffer(message, _TYPES[column["type"]], rows, body + column["offset"])
            for column in header["columns"]
        }
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"the message of {len(message)} bytes is damaged ({type(error).__name__}: {error})") from error
    return kind, header, columns
