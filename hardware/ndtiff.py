"""NDTiff folders, which Micro-Manager and pycro-manager write."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from hardware.image_grid import Place, SinglePlanes, image_grid
from hardware.micromanager_statements import figures_of_micro_manager, statements_of_micro_manager
from hardware.reading import refusal
from hardware.stack import Stack
from hardware.statements import PlaneFigures
from hardware.tiff_log import collect_warnings

__all__ = ["NDTIFF_INDEX", "open_ndtiff"]

NDTIFF_INDEX = "NDTiff.index"

_PIXEL_TYPES = {0: ("u1", 8), 1: ("u2", 16), 3: ("u2", 10), 4: ("u2", 12), 5: ("u2", 14), 6: ("u2", 11)}
"""Type and bits of a count by NDTiff's number of the pixel type (NDTiff 3); 2 is colour."""

_COLOUR = 2

_MOST_DESCRIPTIONS = 20_000
"""Descriptions of single planes that are read; of more, only the summary is read."""


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
    labels, shape, ordered = image_grid(path, {entry.place: entry for entry in entries})
    files = {name: path / name for name in dict.fromkeys(entry.file for entry in ordered)}
    frame_bytes = height * width * np.dtype(_PIXEL_TYPES[kind][0]).itemsize
    for name, file in files.items():
        held, needed = file.stat().st_size, frame_bytes + max(entry.offset for entry in ordered if entry.file == name)
        if held < needed:
            raise refusal(f"{file} is cut off: it has {held:,} bytes of {needed:,}.", "Copy the folder again.")
    first = files[ordered[0].file]
    with first.open("rb") as file:
        dtype = np.dtype(_PIXEL_TYPES[kind][0]).newbyteorder(">" if file.read(2) == b"MM" else "<")
        with collect_warnings():
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
    read = SinglePlanes([partial(plane, entry) for entry in ordered])
    return Stack(
        path, f"{labels}YX" if labels else "", (*shape, height, width), dtype, read.read, read.close, stated, figures
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """Place of an image in an NDTiff folder: its axes, its file, and width, height, type and compression."""

    place: Place
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
