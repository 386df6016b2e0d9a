"""OME-Zarr folders (0.4 and 0.5) and bare Zarr arrays as stacks, on the disk or on an S3 server.

A Zarr array gives its fill value for a missing chunk, so that a folder of which
half was copied is read as a movie that becomes dark. Here a missing chunk is an
error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from hardware.memory import require_memory
from hardware.reading import refusal
from hardware.remote import RemoteFolder, url_of
from hardware.stack import Stack
from hardware.statements import LENGTHS_UM, TIMES_S, PlaneFigures, Statements, by_unit, positive, square

__all__ = ["open_zarr"]

_ENOUGH_MISSING = 1000
"""Chunks that are not there are counted up to here; an array may announce more than can be counted."""

_CHECKED_AT_ONCE = 256
"""Files whose indexes are read from a server at the same time."""

_NO_CHUNK = 2**64 - 1
"""Offset and length of a chunk that is not in its shard (Zarr 3, sharding codec)."""

_CHECKSUM_BYTES = 4
_CHUNKS_IN_MEMORY = 3
"""A chunk is held compressed, decoded, and as the part to return."""


def open_zarr(path: Path) -> Stack:
    """Open a folder with an image; a path may be that of a URL (`hardware.remote.url_of`).

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it holds several images, misses chunks, or its metadata contradict themselves.
    RemoteAway
        When the server does not respond.
    """
    url = url_of(path)
    node: Any = zarr.open(path if url is None else RemoteFolder(url).store(), mode="r")
    if isinstance(node, zarr.Array):
        return _stack(path, node, "", Statements())
    attributes = _ome_attributes(node)
    if "plate" in attributes or "well" in attributes:
        raise refusal(f"{path} is a plate with many images; a movie or sweep is one.", "Give the folder of one image.")
    # Converters put the images one level down and say so at the root.
    if "multiscales" not in attributes and "bioformats2raw.layout" in {**node.attrs, **attributes}:
        names = sorted(name for name, _ in node.groups() if name.isdecimal())
        if len(names) != 1:
            raise refusal(
                f"{path} holds {len(names)} images ({', '.join(names[:5])}); a movie or sweep is one.",
                "Give the folder of the one that is meant." if names else "Write it again.",
            )
        node = node[names[0]]
        attributes = _ome_attributes(node)
    if not attributes.get("multiscales"):
        raise refusal(
            f"{path} is a Zarr group without OME metadata (multiscales).",
            "Open the image itself, or save it as OME-Zarr.",
        )
    if len(attributes["multiscales"]) > 1:
        raise refusal(
            f"{path} holds {len(attributes['multiscales'])} images (multiscales); a movie or sweep is one.",
            "Save the one that is meant to a folder of its own.",
        )
    return _image(path, node, attributes["multiscales"][0])


def _image(path: Path, node: Any, multiscale: Mapping[str, Any]) -> Stack:
    # The first of the resolutions is the full one.
    dataset = multiscale["datasets"][0]
    if dataset["path"] not in node:
        raise refusal(f"{path} names the array {dataset['path']}, which is not there.", "Copy or record it again.")
    array = node[dataset["path"]]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale["axes"]]
    labels = "".join(str(axis["name"])[:1].upper() for axis in axes)
    if len(labels) != array.ndim:
        raise refusal(
            f"{path} names {len(labels)} axes ({labels}) for an array of {array.ndim} dimensions.",
            "Write its OME metadata again.",
        )
    if not labels.endswith("YX"):
        raise refusal(
            f"{path} has the axes {labels}; the last two must be Y and X.", "Save it in the order T or Z, Y, X."
        )
    scale, scaled = np.ones(array.ndim), False
    for level in (dataset, multiscale):
        for transformation in level.get("coordinateTransformations", ()):
            if transformation.get("type") == "scale":
                factors = np.asarray(transformation["scale"], float)
                if factors.shape != scale.shape:
                    raise refusal(
                        f"{path} states {len(factors)} scales for {array.ndim} axes.", "Write its OME metadata again."
                    )
                scale, scaled = scale * factors, True
    notes: list[str] = []

    def stated(label: str, units: Mapping[str, float]) -> float | None:
        if label not in labels or not scaled:
            return None
        place = labels.index(label)
        value, doubt = by_unit(f"a scale of {label} of", scale[place], axes[place].get("unit"), units)
        # Programs write a scale of 1 without a unit for an unknown value.
        if doubt and scale[place] != 1:
            notes.append(doubt)
        return value

    times = _recorded_times(node, array) if "bathyscope" in node.attrs and labels == "TYX" else None
    sides = [stated("X", LENGTHS_UM), stated("Y", LENGTHS_UM)]
    step, period = stated("Z", LENGTHS_UM), stated("T", TIMES_S)
    return _stack(
        path,
        array,
        labels,
        Statements(
            square(path, sides),
            None if step is None else abs(step),
            positive(path, "a time from frame to frame in s", period),
            notes=tuple(notes),
        ),
        times,
    )


def _recorded_times(node: Any, array: Any) -> NDArray[np.float64] | None:
    """Times of the frames of a recording of this project, s; it may grow while it is read."""
    if "time_s" not in node:
        return None
    times = np.asarray(node["time_s"][: array.shape[0]], np.float64)
    return times if len(times) == array.shape[0] else None


def _ome_attributes(group: Any) -> dict[str, Any]:
    """OME metadata: below "ome" from version 0.5 on, at the top before."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _stack(path: Path, array: Any, axes: str, stated: Statements, times_s: NDArray[np.float64] | None = None) -> Stack:
    if array.ndim < 2:
        raise refusal(f"{path} has the shape {array.shape}; a frame has two axes.", "Save it as (T, Y, X).")
    stored = array.shards or array.chunks
    if array.size:
        require_memory(
            path,
            math.prod(stored) * array.dtype.itemsize * _CHUNKS_IN_MEMORY,
            f"chunks of {' x '.join(f'{side:,}' for side in stored)} pixels",
            "Write it again with smaller chunks.",
        )
        _check_chunks(path, array, stored)
    leading = array.shape[:-2]
    slabs = _Slabs(array)

    def read(start: int, stop: int) -> NDArray[Any]:
        if len(leading) == 1:
            return slabs.read(start, stop)
        places = [np.unravel_index(index, leading) for index in range(start, stop)] if leading else [()]
        return np.stack([np.asarray(array[place]) for place in places])

    figures = PlaneFigures.unknown(math.prod(leading) if array.size else 0)
    if times_s is not None:
        figures = replace(figures, time_s=times_s)
    return Stack(path, axes, tuple(array.shape), np.dtype(array.dtype), read, _nothing_to_close, stated, figures)


def _check_chunks(path: Path, array: Any, stored: Sequence[int]) -> None:
    """Refuse an array of which chunks are not there."""
    grid = [-(-extent // side) for extent, side in zip(array.shape, stored, strict=True)]
    index = _ShardIndex.of(array)
    url = url_of(path)
    files: _ChunkFiles = _LocalChunks(array) if url is None else _RemoteChunks(RemoteFolder(url), array)
    missing, first = 0, None
    # Some at a time: itertools.product and numpy.ndindex make a list of each axis first.
    for begin in range(0, math.prod(grid), _CHECKED_AT_ONCE):
        numbers = range(begin, min(begin + _CHECKED_AT_ONCE, math.prod(grid)))
        places = [tuple(int(index) for index in np.unravel_index(number, grid)) for number in numbers]
        names = [array.metadata.encode_chunk_key(place) for place in places]
        indexes = files.parts(names, *((0, True) if index is None else (index.length, index.at_end)))
        for place, name, found in zip(places, names, indexes, strict=True):
            lost = 1 if found is None else 0 if index is None else index.missing(*found, place)
            if lost and first is None:
                first = files.shown(name)
            missing += lost
        if missing >= _ENOUGH_MISSING:
            break
    if missing:
        some = f"{_ENOUGH_MISSING:,} or more" if missing >= _ENOUGH_MISSING else f"{missing:,}"
        raise refusal(
            f"{path} announces the shape {array.shape} and does not hold {some} of its chunks (the first: {first}).",
            "Copy or record it again. Where a program left out chunks because they are all zero, have it write them "
            "(zarr: write_empty_chunks).",
        )


class _ChunkFiles(Protocol):
    """The files of the chunks of an array."""

    def parts(self, names: Sequence[str], length: int, at_end: bool) -> Iterator[tuple[bytes, int] | None]:
        """The first or last `length` bytes of each file, and its size; None for one that is not there."""

    def shown(self, name: str) -> str:
        """Path or URL of a file, for messages."""


class _LocalChunks:
    def __init__(self, array: Any) -> None:
        self._root = Path(array.store_path.store.root) / array.store_path.path

    def parts(self, names: Sequence[str], length: int, at_end: bool) -> Iterator[tuple[bytes, int] | None]:
        for name in names:
            path = self._root / name
            if not path.is_file():
                yield None
                continue
            size, content = path.stat().st_size, b""
            if length:
                with path.open("rb") as opened:
                    opened.seek(max(0, size - length) if at_end else 0)
                    content = opened.read(length)
            yield content, size

    def shown(self, name: str) -> str:
        return str(self._root / name)


class _RemoteChunks:
    """One list of all objects; parts of some of them are read at the same time."""

    def __init__(self, folder: RemoteFolder, array: Any) -> None:
        self._folder = folder
        self._root = f"{array.store_path.path}/" if array.store_path.path else ""
        self._sizes = folder.sizes(array.store_path.path)

    def parts(self, names: Sequence[str], length: int, at_end: bool) -> Iterator[tuple[bytes, int] | None]:
        there = {name: self._sizes[self._root + name] for name in names if self._root + name in self._sizes}
        parts = [
            (self._root + name, *((max(0, size - length), size) if at_end else (0, min(length, size))))
            for name, size in there.items()
        ]
        read = self._folder.read_parts(parts) if length and parts else [b""] * len(parts)
        contents = dict(zip(there, read, strict=True))
        return (None if name not in there else (contents[name], there[name]) for name in names)

    def shown(self, name: str) -> str:
        return f"{self._folder.url}/{self._root}{name}"


class _ShardIndex:
    """Which chunks a shard holds.

    Attributes
    ----------
    length : bytes of the index, with its checksum
    at_end : whether it is at the end of the shard, or else at its beginning
    """

    def __init__(self, shape: tuple[int, ...], shards: tuple[int, ...], chunks: tuple[int, ...], at_end: bool) -> None:
        self._shape = shape
        self._shards = shards
        self._chunks = chunks
        self._grid = tuple(side // chunk for side, chunk in zip(shards, chunks, strict=True))
        self.at_end = at_end
        self.length = 16 * math.prod(self._grid) + _CHECKSUM_BYTES

    @classmethod
    def of(cls, array: Any) -> _ShardIndex | None:
        """None when there are no shards, or their index is stored in an unusual way."""
        codecs: Any = getattr(array.metadata, "codecs", ())
        if array.shards is None or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
            return None
        sharding = codecs[0]
        kinds = [type(codec) for codec in sharding.index_codecs]
        if kinds != [BytesCodec, Crc32cCodec]:
            return None
        at_end = getattr(sharding.index_location, "value", str(sharding.index_location)) == "end"
        return cls(tuple(array.shape), tuple(array.shards), tuple(array.chunks), at_end)

    def missing(self, index: bytes, size: int, place: tuple[int, ...]) -> int:
        """Chunks within the array that the shard of `size` bytes at `place` does not hold, or holds only in part."""
        count = math.prod(self._grid)
        content = index[: 16 * count]
        if len(content) < 16 * count:
            return count
        entries: NDArray[np.uint64] = np.frombuffer(content, "<u8")
        each = zip(place, self._shape, self._shards, self._chunks, self._grid, strict=True)
        inside = [at * side + chunk * np.arange(count) < extent for at, extent, side, chunk, count in each]
        within = np.all(np.meshgrid(*inside, indexing="ij"), axis=0)
        offsets, lengths = entries.reshape(-1, 2).T
        absent = (offsets == _NO_CHUNK) | (offsets + lengths > size)
        return int((absent & within.reshape(-1)).sum())


class _Slabs:
    """Keeps the last chunk along time, which would otherwise be decoded again for each of its frames."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._depth = int(array.chunks[0])
        self._first = 0
        self._slab: NDArray[Any] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        if self._depth == 1 or stop - start >= self._depth:
            return np.asarray(self._array[start:stop])
        parts = []
        while start < stop:
            end = min(stop, (start // self._depth + 1) * self._depth)
            slab = self._slab
            first = start - start % self._depth
            if slab is None or first != self._first:
                slab = np.asarray(self._array[first : first + self._depth])
                self._first, self._slab = first, slab
            # A copy, so that the kept chunk stays as it is.
            parts.append(slab[start - first : end - first].copy())
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _nothing_to_close() -> None:
    """Zarr keeps no file open."""
