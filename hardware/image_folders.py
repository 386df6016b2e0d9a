"""Folders as stacks: OME-Zarr, NDTiff of Micro-Manager, and single TIFF images.

The kind of a folder is recognized by its content. Single images are put in the
order of the numbers in their names. A number that is missing in between is a
missing frame, so the folder is refused, with the number.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from hardware.micromanager_statements import figures_of_micro_manager, statements_of_micro_manager
from hardware.reading import reading_explained, refusal
from hardware.stack import Stack
from hardware.statements import PlaneFigures
from hardware.tiff_files import open_tiff
from hardware.tiff_log import warnings_collected
from hardware.zarr_folders import open_zarr

__all__ = ["NDTIFF_INDEX", "open_folder", "open_ndtiff"]

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
NDTIFF_INDEX = "NDTiff.index"
_TIFF_SUFFIXES = (".tif", ".tiff")

_NUMBER = "number"
_AXES = {
    _NUMBER: "",
    "time": "T",
    "t": "T",
    "z": "Z",
    "channel": "C",
    "c": "C",
    "position": "R",
    "p": "R",
    "row": "G",
    "column": "H",
}
"""Micro-Manager's names of axes (rows and columns are those of tiles), and the one of files that only have a number."""

_PIXEL_TYPES = {0: ("u1", 8), 1: ("u2", 16), 3: ("u2", 10), 4: ("u2", 12), 5: ("u2", 14), 6: ("u2", 11)}
"""Type and bits of a count by NDTiff's number of the pixel type (NDTiff 3); 2 is colour."""

_COLOUR = 2

_STACK_NAME = re.compile(r"_MMStack_(.+?)(?:_\d+)?(?:\.ome)?\.tiff?$", re.IGNORECASE)
"""Of a stack file of Micro-Manager: the position, before the number of the file."""

_MICRO_MANAGER_NAMES = (
    re.compile(r"img_channel(?P<channel>\d+)_position(?P<position>\d+)_time(?P<time>\d+)_z(?P<z>\d+)\.tif"),
    re.compile(r"img_(?P<time>\d{9})_(?P<channel>.*)_(?P<z>\d{3})\.tif"),
)
"""Names of single images of Micro-Manager 2 and 1.4."""

_MOST_GAPS = 0.5
"""Where more of the numbers than this are missing, they are no count of frames (times, for example)."""

_MOST_DESCRIPTIONS = 20_000
"""Descriptions of single planes that are read; of more, only the summary is read."""


def open_folder(path: Path) -> Stack:
    """Open a folder of one of the kinds that are known.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: of no known kind, incomplete, or several images.
    """
    names = {entry.name for entry in path.iterdir()}
    if names & set(_ZARR_FILES):
        return open_zarr(path)
    if NDTIFF_INDEX in names:
        return open_ndtiff(path)
    if "Full resolution" in names:
        return open_folder(path / "Full resolution")
    images = [path / name for name in names if name.lower().endswith(_TIFF_SUFFIXES) and not name.startswith(".")]
    if not images:
        raise refusal(
            f"{path} is a folder of {len(names)} entries, none of which is an image that is read: it is no OME-Zarr "
            "(zarr.json or .zgroup), no NDTiff folder (NDTiff.index) and has no .tif or .tiff files.",
            "Give the folder of the image itself.",
        )
    return _open_images(path, images)


# ---- NDTiff ----


def open_ndtiff(path: Path) -> Stack:
    """Open a dataset that Micro-Manager or pycro-manager saved as NDTiff (versions 2 and 3).

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: planes or files are missing, or it is of a kind that is not supported.
    """
    entries = _index_entries(path / NDTIFF_INDEX)
    kinds = {entry.picture for entry in entries}
    if len(kinds) != 1:
        raise refusal(f"{path} holds images of {len(kinds)} sizes or types.", "Save one of them by itself.")
    width, height, kind, compression = kinds.pop()
    if kind not in _PIXEL_TYPES or compression:
        raise refusal(
            f"{path} holds {'colour' if kind == _COLOUR else 'a pixel type or compression'} that is not supported.",
            "Save the camera's raw grey frames, uncompressed.",
        )
    labels, shape, ordered = _grid(path, {entry.place: entry for entry in entries})
    files = {name: path / name for name in dict.fromkeys(entry.file for entry in ordered)}
    frame_bytes = height * width * np.dtype(_PIXEL_TYPES[kind][0]).itemsize
    for name, file in files.items():
        held, needed = file.stat().st_size, frame_bytes + max(entry.offset for entry in ordered if entry.file == name)
        if held < needed:
            raise refusal(f"{file} is cut off: it has {held:,} bytes of {needed:,}.", "Copy the folder again.")
    first = files[ordered[0].file]
    with first.open("rb") as file:
        dtype = np.dtype(_PIXEL_TYPES[kind][0]).newbyteorder(">" if file.read(2) == b"MM" else "<")
        with warnings_collected():
            summary = tifffile.read_micromanager_metadata(file, {"Summary"}).get("Summary") or {}

    def plane(entry: _Entry) -> NDArray[Any]:
        return np.fromfile(files[entry.file], dtype, height * width, offset=entry.offset).reshape(height, width)

    figures, described = PlaneFigures.unknown(len(ordered)), ordered[:1]
    if len(ordered) <= _MOST_DESCRIPTIONS:
        described = ordered
    descriptions = [_description(files[entry.file], entry) for entry in described]
    if len(descriptions) == len(ordered):
        figures = figures_of_micro_manager(descriptions)
    stated = statements_of_micro_manager(path, {**descriptions[0], **summary})
    if stated.bit_depth is None:
        stated = replace(stated, bit_depth=_PIXEL_TYPES[kind][1])
    read = _ByOne([partial(plane, entry) for entry in ordered])
    return Stack(
        path, f"{labels}YX" if labels else "", (*shape, height, width), dtype, read.read, read.close, stated, figures
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """Place of an image in an NDTiff folder: its axes, its file, and width, height, type and compression."""

    place: tuple[tuple[str, int | str], ...]
    file: str
    offset: int
    picture: tuple[int, int, int, int]
    description: tuple[int, int]


def _index_entries(path: Path) -> list[_Entry]:
    """Entries of an index; zeros after the last one are unused space."""
    content, at = path.read_bytes(), 0
    entries: list[_Entry] = []
    while at < len(content) and any(content[at : at + 4]):
        try:
            axes, at = _text(content, at)
            file, at = _text(content, at)
            offset, width, height, kind, compression, begin, length, _ = struct.unpack_from("<IiiiiIii", content, at)
        except (struct.error, ValueError) as error:
            raise refusal(f"{path} is cut off behind {len(entries)} images.", "Copy the folder again.") from error
        at += 32
        place = tuple(json.loads(axes).items())
        entries.append(_Entry(place, file, offset, (width, height, kind, compression), (begin, length)))
    if not entries:
        raise refusal(f"{path.parent} is an NDTiff folder without images.", "Record it again.")
    return entries


def _text(content: bytes, at: int) -> tuple[str, int]:
    """A text with its length before it, and the offset of its end."""
    (length,) = struct.unpack_from("<I", content, at)
    end = at + 4 + length
    if end > len(content):
        raise ValueError("cut off")
    return content[at + 4 : end].decode(), end


def _description(path: Path, entry: _Entry) -> dict[str, Any]:
    begin, length = entry.description
    with path.open("rb") as file:
        file.seek(begin)
        content = file.read(length)
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# ---- single images ----


def _open_images(path: Path, images: Sequence[Path]) -> Stack:
    images = sorted(images, key=lambda image: _natural(image.name))
    if len(images) == 1:
        return open_tiff(images[0])
    positions = {found[1] for image in images if (found := _STACK_NAME.search(image.name))}
    if len(positions) == 1:
        return open_tiff(images[0])
    first = open_tiff(images[0])
    first.close()
    if positions or math.prod(first.shape[:-2]) != 1:
        raise refusal(
            f"{path} holds {len(images)} files with several planes each (the first: {images[0].name}).",
            "Give the one that is meant.",
        )
    empty = [image.name for image in images if image.stat().st_size == 0]
    if empty:
        raise refusal(f"{path} holds {len(empty)} empty files (the first: {empty[0]}).", "Copy or record it again.")
    labels, shape, ordered = _grid(path, _named(path, images))
    stated, figures = first.stated, PlaneFigures.unknown(len(ordered))
    summary, descriptions = _metadata_txt(path)
    if summary:
        stated = statements_of_micro_manager(path, summary)
        announced = [int(summary.get(key) or 1) for key in ("Frames", "Slices", "Channels")]
        if math.prod(announced) > len(ordered):
            raise refusal(
                f"{path} announces {math.prod(announced):,} planes and holds {len(ordered):,}.",
                "Files are missing: copy or record it again.",
            )
        figures = figures_of_micro_manager([descriptions.get(image.name, {}) for image in ordered])

    def plane(image: Path) -> NDArray[Any]:
        with reading_explained(image):
            opened = open_tiff(image)
            try:
                if (
                    opened.shape[-2:] != first.shape[-2:]
                    or opened.dtype != first.dtype
                    or math.prod(opened.shape[:-2]) != 1
                ):
                    raise refusal(
                        f"{image} is {opened.dtype.name} of the shape {opened.shape}; the first of its folder is "
                        f"{first.dtype.name} of the shape {first.shape}.",
                        "Leave only the frames of one movie or sweep in the folder.",
                    )
                return np.asarray(opened.read(0, 1)[0])
            finally:
                opened.close()

    read = _ByOne([partial(plane, image) for image in ordered])
    return Stack(
        path,
        f"{labels}YX" if labels else "",
        (*shape, *first.shape[-2:]),
        first.dtype,
        read.read,
        read.close,
        stated,
        figures,
    )


def _named(path: Path, images: Sequence[Path]) -> dict[tuple[tuple[str, int | str], ...], Path]:
    """Images by their axes, as their names say."""
    for pattern in _MICRO_MANAGER_NAMES:
        found = [pattern.fullmatch(image.name) for image in images]
        if all(found):
            places = [
                tuple((axis, int(value) if value.isdecimal() else value) for axis, value in match.groupdict().items())
                for match in found
                if match
            ]
            return dict(zip(places, images, strict=True))
    parts = [re.split(r"(\d+)", image.name) for image in images]
    outlier = next((image for image, part in zip(images, parts, strict=True) if part[::2] != parts[0][::2]), None)
    if outlier is not None:
        raise refusal(
            f"{path} holds files whose names differ in more than their number: {images[0].name} and {outlier.name}.",
            "Leave only the frames of one movie or sweep in the folder.",
        )
    varying = [place for place in range(1, len(parts[0]), 2) if len({int(part[place]) for part in parts}) > 1]
    if len(varying) != 1:
        raise refusal(
            f"{path} holds files whose names differ in {len(varying)} numbers (such as {images[0].name} and "
            f"{images[-1].name}), so that their order is not known.",
            "Number them with one number, or save them as OME-TIFF.",
        )
    return {((_NUMBER, int(part[varying[0]])),): image for part, image in zip(parts, images, strict=True)}


def _metadata_txt(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Summary, and descriptions by file name, of Micro-Manager's metadata.txt; empty where it is incomplete."""
    try:
        content = json.loads((path / "metadata.txt").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}, {}
    planes = {key: value for key, value in content.items() if isinstance(value, dict) and key != "Summary"}
    named = {str(value.get("FileName", key)).rpartition("/")[2]: value for key, value in planes.items()}
    return content.get("Summary") or {}, named


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


# ---- both ----

_Place = tuple[tuple[str, int | str], ...]


def _grid(path: Path, found: Mapping[_Place, Any]) -> tuple[str, tuple[int, ...], list[Any]]:
    """Labels and extents of the axes that vary, and the images at each place, in order.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: a place has no image.
    """
    names = sorted((name for name, _ in next(iter(found))), key=lambda name: [*_AXES, name].index(name))
    if any({name for name, _ in place} != set(names) for place in found):
        raise refusal(f"{path} holds images with different axes.", "Save one of them by itself.")
    places = [dict(place) for place in found]
    values = {
        name: sorted({place[name] for place in places}, key=lambda value: (str(type(value)), value)) for name in names
    }
    for name, there in values.items():
        _check_gaps(path, name, there)
    names = [name for name in names if len(values[name]) > 1]
    ordered, missing = [], []
    at = {tuple(place[name] for name in names): thing for place, thing in zip(places, found.values(), strict=True)}
    announced = math.prod(len(values[name]) for name in names)
    if announced == len(at):
        ordered = [at[place] for place in itertools.product(*(values[name] for name in names))]
    else:
        missing = list(
            itertools.islice((p for p in itertools.product(*(values[name] for name in names)) if p not in at), 1)
        )
        raise refusal(
            f"{path} announces {announced:,} planes by its axes ({', '.join(names)}) and holds {len(at):,}; the first "
            f"that is missing is {dict(zip(names, missing[0], strict=True))}.",
            "Copy or record it again.",
        )
    labels = "".join(_AXES.get(name.lower(), name[:1].upper()) for name in names)
    return labels, tuple(len(values[name]) for name in names), ordered


def _check_gaps(path: Path, name: str, there: Sequence[int | str]) -> None:
    """Refuse numbers of which some are missing in between, unless the numbers are not consecutive counts."""
    numbers = [value for value in there if isinstance(value, int)]
    if len(numbers) < 3 or len(numbers) != len(there):
        return
    step = math.gcd(*(after - before for before, after in itertools.pairwise(numbers)))
    span = (numbers[-1] - numbers[0]) // step + 1
    if span == len(numbers) or span - len(numbers) > _MOST_GAPS * span:
        return
    gaps = [before + step for before, after in itertools.pairwise(numbers) if after - before > step]
    raise refusal(
        f"{path} announces {span:,} planes by its numbers ({name} {numbers[0]} to {numbers[-1]}) and holds "
        f"{len(numbers):,}: {', '.join(map(str, gaps[:5]))}{' ...' if len(gaps) > 5 else ''} missing.",
        "Copy the missing ones, or number the files without gaps if frames were left out on purpose.",
    )


class _ByOne:
    """Planes that are read one by one, each in its own way."""

    def __init__(self, planes: Sequence[Callable[[], NDArray[Any]]]) -> None:
        self._planes = planes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        return np.stack([plane() for plane in self._planes[start:stop]])

    def close(self) -> None:
        """No file is kept open."""
