"""Comparison of the planes that a TIFF file announces with those that it holds.

A file that holds fewer is refused, and so is one whose list of pages runs in a
circle.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import tifffile

from hardware.microscope import MicroscopeError
from hardware.reading import refusal
from hardware.statements import number

__all__ = [
    "axes_without_index",
    "check_chain",
    "check_room",
    "extents",
    "find_offset",
    "leftover_pages",
    "planes_missing",
    "whole_count",
]

_SMALLEST_PLANE_BYTES = 18
"""A plane needs at least a directory of one entry, however well it is compressed."""


def check_room(path: Path, images: Sequence[ElementTree.Element], summary: dict[str, Any]) -> None:
    """Refuse numbers of planes that the files cannot hold, before a list of them is made."""
    announced = [math.prod(whole_count(summary.get(key)) for key in ("Frames", "Slices", "Channels", "Positions"))]
    for image in images:
        announced.append(math.prod(extents(image)))
        for element in image.iter():
            attributes = element.attrib
            announced += [
                whole_count(attributes[key]) for key in ("PlaneCount", "NumPlanes", "IFD") if key in attributes
            ]
    largest = max(announced)
    if largest * _SMALLEST_PLANE_BYTES <= path.stat().st_size:
        return
    held = sum(entry.stat().st_size for entry in path.parent.iterdir() if entry.is_file())
    if largest * _SMALLEST_PLANE_BYTES > held:
        raise refusal(
            f"{path} announces {largest:,} planes, which do not fit into the {held:,} bytes of its folder.",
            "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
        )


def extents(image: ElementTree.Element) -> list[int]:
    """Announced numbers of planes along each axis."""
    sizes = next((element.attrib for element in image.iter() if "SizeX" in element.attrib), {})
    return [whole_count(sizes.get(f"Size{label}")) for label in "ZCT"]


def whole_count(value: Any) -> int:
    """A stated count; 1 where none is stated."""
    found = number(value)
    return int(found) if math.isfinite(found) and found >= 1 else 1


def check_chain(path: Path, tiff: Any) -> None:
    """Refuse a file whose directories of pages lead back to an earlier one: tifffile would follow them without end."""
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if tiff.is_bigtiff else (2, 12, 4)
    order: Literal["big", "little"] = "big" if tiff.byteorder == ">" else "little"
    at, size = tiff.pages.first.offset, tiff.filehandle.size
    seen: set[int] = set()
    with path.open("rb", buffering=0) as file:
        while 0 < at < size:
            if at in seen:
                raise refusal(
                    f"{path} is damaged: its list of pages runs in a circle behind {len(seen):,} pages.",
                    "Copy or record it again.",
                )
            seen.add(at)
            entries = int.from_bytes(os.pread(file.fileno(), count_bytes, at), order)
            behind = at + count_bytes + entries * entry_bytes
            at = int.from_bytes(os.pread(file.fileno(), offset_bytes, behind), order) if behind < size else 0


def find_offset(
    path: Path, tiff: Any, series: Any, pages: Sequence[Any], planes: int, records: Sequence[logging.LogRecord]
) -> int | None:
    """Offset of the planes when they are contiguous in this file; None otherwise.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: there are fewer than announced.
    """
    if all(page is not None and page.parent is tiff for page in pages):
        offset: int | None = series.dataoffset
        if offset is not None:
            plane_bytes = math.prod(series.shape[-2:]) * series.dtype.itemsize
            held = max(0, tiff.filehandle.size - offset) // plane_bytes
            if held < planes:
                raise planes_missing(path, planes, held, records)
            return offset
    there = sum(page is not None and not _is_cut(page) for page in pages)
    if there != planes:
        raise planes_missing(path, planes, there, records)
    return None


def planes_missing(path: Path, announced: int, held: int, records: Sequence[logging.LogRecord]) -> MicroscopeError:
    """The error of a file that holds fewer planes than it announces, with the file that tifffile could not read."""
    files = [found[1] for record in records if (found := re.search(r"failed to read '([^']+)'", record.getMessage()))]
    which = f"; {files[0]} cannot be read" if files else ""
    return refusal(
        f"{path} announces {announced:,} planes and holds {held:,}{which}.",
        "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
    )


def _is_cut(page: Any) -> bool:
    """Whether data of a page are missing; readers give zeros for them."""
    size = page.parent.filehandle.size
    return len(page.dataoffsets) == 0 or any(
        offset == 0 or count == 0 or offset + count > size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )


def leftover_pages(path: Path, tiff: Any, series: Any, pages: Sequence[Any]) -> tuple[str, ...]:
    """Notes on pages that are not of the image, such as thumbnails.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: there are more planes than its description has, which is of another state of the file.
    """
    used = {page.offset for page in pages if page.parent is tiff}
    others = [page.offset for page in tiff.pages if page.offset not in used]
    if not others:
        return ()
    tiff.filehandle.seek(others[0])
    first = tifffile.TiffPage(tiff, 0)
    if first.is_reduced or first.shape != series.keyframe.shape:
        return (f"The file also has {len(others)} pages of another size, which are not read.",)
    raise refusal(
        f"{path} announces {len(used):,} planes and holds {len(used) + len(others):,}: its OME-XML is not of these "
        "planes.",
        "Save it again with the program that changed it last, as OME-TIFF.",
    )


def axes_without_index(path: Path, summary: dict[str, Any], planes: int) -> str:
    """Axes of a Micro-Manager file whose index was never written, as after a crash; pages are in the order of time.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it holds less than its summary announces, or the order of its planes is not known.
    """
    sizes = {
        label: whole_count(summary.get(name)) for label, name in (("T", "Frames"), ("Z", "Slices"), ("C", "Channels"))
    }
    announced = math.prod(sizes.values())
    if announced == 1:
        return ""
    long = [label for label, extent in sizes.items() if extent > 1]
    if announced > planes:
        raise planes_missing(path, announced, planes, ())
    if len(long) > 1 or announced != planes:
        raise refusal(
            f"{path} has no index of its {planes:,} planes, and its summary has the axes "
            f"{', '.join(f'{label} of {sizes[label]}' for label in long)}.",
            "Open it in Micro-Manager and save it again.",
        )
    return long[0]
