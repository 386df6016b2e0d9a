"""Shards of a Zarr v3 array, written as whole files.

The format is that of the `sharding_indexed` codec of the Zarr 3 specification:
its chunks one after the other, then the table of their offsets and lengths,
then the CRC-32C of the table. In zarr-python, writing a chunk takes longer than
compressing it, because the chunk passes through a dozen coroutines and copies;
here a frame is compressed and its bytes go to the file. zarr-python still
creates the arrays, and reads them back in the tests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from service.files.recording import shard_path

__all__ = ["COMPRESSION", "GrowingShape", "frame_compressor", "write_series", "write_shard"]

_COMPRESSOR: Final = "lz4"
_LEVEL, _TYPESIZE = 5, 2

COMPRESSION = BloscCodec(cname=_COMPRESSOR, clevel=_LEVEL, shuffle="bitshuffle", typesize=_TYPESIZE)
"""Its time and ratio are in docs/performance.md."""

_ABSENT = 2**64 - 1
"""Offset and length of a missing chunk."""


def frame_compressor() -> Blosc:
    """A compressor with the parameters of `COMPRESSION`."""
    return Blosc(_COMPRESSOR, _LEVEL, Blosc.BITSHUFFLE, typesize=_TYPESIZE)


def write_shard(
    folder: Path, number: int, frames: Sequence[NDArray[np.uint16]], capacity: int, compressor: Blosc
) -> None:
    """Write a shard of one chunk per frame, complete or not at all.

    Parameters
    ----------
    folder : Path
        Of the array.
    number : int
        Of the shard.
    frames : sequence of ndarray of uint16, shape (H, W)
        At most `capacity`.
    capacity : int
        Chunks of a shard, as in the array's metadata.
    compressor : Blosc
        As in the array's metadata.

    Raises
    ------
    OSError
        When the disk is full or not reachable.
    """
    chunks = [compressor.encode(np.ascontiguousarray(frame, "<u2")) for frame in frames]
    lengths = np.array([len(chunk) for chunk in chunks], "<u8")
    table = np.full((capacity, 2), _ABSENT, "<u8")
    table[: len(chunks), 0] = np.cumsum(lengths) - lengths
    table[: len(chunks), 1] = lengths
    index = table.tobytes()
    checksum = int(google_crc32c.value(index)).to_bytes(4, "little")
    _write_whole(folder, shard_path(folder, number), [*chunks, index, checksum])


def write_series(folder: Path, first: int, values: NDArray[Any], recent: NDArray[Any]) -> None:
    """Write values of an uncompressed one-dimensional array from index `first` on.

    Parameters
    ----------
    folder : Path
        Of the array.
    values : ndarray, shape (N,)
    recent : ndarray, shape (chunk,)
        The chunk that was written last; kept by the caller, changed here.
    """
    while len(values):
        chunk, begin = divmod(first, len(recent))
        fitting = values[: len(recent) - begin]
        recent[begin : begin + len(fitting)] = fitting
        recent[begin + len(fitting) :] = 0
        _write_whole(folder, folder / "c" / str(chunk), [recent.tobytes()])
        first, values = first + len(fitting), values[len(fitting) :]


class GrowingShape:
    """The metadata of an array, of which only the length of the first axis changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "zarr.json"
        self._metadata = json.loads(self._path.read_text(encoding="utf-8"))

    def grow(self, length: int) -> None:
        """Set the length of the first axis, so that readers see `length` entries."""
        self._metadata["shape"][0] = length
        _write_whole(self._folder, self._path, [json.dumps(self._metadata).encode()])


def _write_whole(folder: Path, path: Path, parts: Iterable[bytes]) -> None:
    """Write a file of the array in `folder` under another name and rename it when it is complete."""
    aside = path.with_name(f"{path.name}.partial")
    try:
        file = aside.open("wb")
    except FileNotFoundError:
        # Only folders inside the array are made: making the array's folder again, after it was moved or deleted,
        # would leave an array without its shards.
        if not (folder / "zarr.json").exists():
            raise FileNotFoundError(f"The recording is gone: {folder} was moved or deleted.") from None
        path.parent.mkdir(parents=True)
        file = aside.open("wb")
    try:
        with file:
            file.writelines(parts)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
