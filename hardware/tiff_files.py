"""TIFF files as stacks: OME-TIFF, Micro-Manager stacks, ImageJ, and plain ones.

tifffile reads what it can reach of a broken file, fills the rest with zeros
and only logs it. Here what a file announces is compared with what it holds,
and a file that holds less is refused.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from hardware.microscope import MicroscopeError
from hardware.reading import refusal
from hardware.stack import Stack
from hardware.statements import (
    LENGTHS_UM,
    TIMES_S,
    PlaneFigures,
    Statements,
    by_unit,
    checked,
    number,
    of_ome_xml,
    square,
)

__all__ = ["figures_of_micro_manager", "is_ndtiff", "open_tiff", "statements_of_micro_manager", "warnings_collected"]

_SMALLEST_PLANE_BYTES = 18
"""A plane needs at least a directory of one entry, however well it is compressed."""

_MICRO_MANAGER_TAG = 51123
_MIN_IS_WHITE, _PALETTE = 0, 3
_ORIENTATION_TAG, _TOP_LEFT = 274, 1
_LOSSY = {6, 7, 22610, 33003, 33004, 33005, 33007, 34712, 34892, 34927, 34934, 48124, 50001, 50002, 52546}
"""Compressions that change counts (JPEG, JPEG 2000, JPEG XR, JPEG XL, WebP), or may."""

_UNKNOWN_LABELS = "IQ"
"""What tifffile calls axes that nobody labelled."""

_SAME = 0.01
"""Two statements of one length that differ by less are the same."""

_MOST_TAGS_READ = 5000
"""Descriptions of single planes are read one by one; more than these take seconds."""

_HARMLESS = ("display settings", "comments", "index map")
"""Parts of a Micro-Manager file that are often incomplete (tifffile's own notes) and that pictures do not need."""

_MORE_PAGES = "frames, got"
"""What tifffile says of a file with more pages than planes, whatever they are."""

_TAG = "<TiffTag.fromfile>"
"""Tifffile goes on without a tag that is broken. Where pixels need it, it fails later; others are told."""

_PLANES_LOST = ("zeroed", "missing", "expected", "truncated", "corrupted", "failed to read")
"""What tifffile says of planes that it cannot reach."""


def open_tiff(path: Path) -> Stack:
    """Open a TIFF file, and the others of its set.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it holds less than it announces, several images, colours, or no grey counts.
    """
    with warnings_collected() as said:
        tiff = tifffile.TiffFile(path)
        try:
            _check_chain(path, tiff)
            stack = _read(path, tiff, said)
        except BaseException:
            tiff.close()
            raise
    return stack


def is_ndtiff(path: Path) -> bool:
    """Whether a TIFF file is one of an NDTiff dataset."""
    with warnings_collected(), tifffile.TiffFile(path) as tiff:
        return bool(tiff.is_ndtiff)


class _Complaints(logging.Handler):
    """Collects what tifffile only logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


@contextmanager
def warnings_collected() -> Iterator[list[logging.LogRecord]]:
    """What tifffile logs within the block, kept from the terminal."""
    complaints = _Complaints()
    logger = logging.getLogger("tifffile")
    propagate, level = logger.propagate, logger.level
    logger.addHandler(complaints)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield complaints.records
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagate
        logger.setLevel(level)


def _read(path: Path, tiff: Any, said: Sequence[logging.LogRecord]) -> Stack:
    images = _ome_images(path, tiff)
    of_micro_manager = tiff.micromanager_metadata or {}
    summary = of_micro_manager.get("Summary") or {}
    _check_room(path, images, summary)
    every = tiff.series
    errors = [text for record in said if record.levelno >= logging.ERROR and _TAG not in (text := record.getMessage())]
    if errors and tiff.is_imagej:
        announced, held = _whole((tiff.imagej_metadata or {}).get("images")), len(tiff.pages)
        if announced > held > 1:
            raise _absent(path, announced, held, said)
    if errors:
        raise ValueError(errors[0])
    series, image, notes = _chosen(path, tiff, every, images, said)
    _check_picture(path, series)
    axes, leading, pages = _one_position(path, tiff, series)
    planes = math.prod(leading)
    offset = _checked_offset(path, tiff, series, pages, planes, said)
    leftover: tuple[str, ...] = ()
    if len(images) == 1 and series.kind == "ome":
        leftover = _leftover(path, tiff, series, pages)
    remarks = _remarks(path, said, (*_HARMLESS, _MORE_PAGES) if leftover else _HARMLESS)
    if summary and series.kind not in ("ome", "mmstack"):
        axes = _axes_without_index(path, summary, planes)
        if of_micro_manager.get("MajorVersion"):
            notes += ("The index of the NDTiff folder (NDTiff.index) is not there: planes are taken as they lie.",)
    if image is not None:
        stated, figures = of_ome_xml(path, image, axes, leading)
    else:
        stated, figures = Statements(), PlaneFigures.unknown(planes)
    if series.kind == "imagej":
        stated, axes = _of_imagej(path, tiff, axes, leading)
    if summary:
        stated = _merged(stated, statements_of_micro_manager(path, summary))
        if np.isnan(figures.position_um).all() and len(pages) == planes <= _MOST_TAGS_READ:
            figures = _figures_of_tags(pages)
    bits = int(np.max(series.keyframe.bitspersample))
    if stated.bit_depth is None and bits < series.dtype.itemsize * 8:
        stated = replace(stated, bit_depth=bits)
    if not stated.notes and stated.pixel_size_um is None and series.kind != "imagej":
        stated = replace(stated, notes=_resolution_note(series.keyframe))
    notes = (*notes, *leftover, *stated.notes, *_oddities(series.keyframe), *remarks)
    labelled = (_is_labelled(tiff, series) or bool(summary and axes)) and not (
        axes and set(axes) <= set(_UNKNOWN_LABELS)
    )
    if series.kind == "imagej" and not axes:
        labelled = False
    stored: _Run | _Pages
    if offset is None:
        stored = _Pages(tiff, pages)
    else:
        stored = _Run(path, offset, series.shape[-2:], series.dtype.newbyteorder(tiff.byteorder))
        tiff.close()
    return Stack(
        path,
        f"{axes}YX" if labelled else "",
        (*leading, *series.shape[-2:]),
        series.dtype,
        stored.read,
        stored.close,
        replace(stated, notes=notes),
        figures,
    )


# ---- which image ----


def _ome_images(path: Path, tiff: Any) -> list[ElementTree.Element]:
    """Image elements of the OME-XML; none for another TIFF."""
    xml = tiff.ome_metadata
    if not xml:
        return []
    # Expat, from 2.4.1 on, stops at texts that grow without measure when they are read.
    root = ElementTree.fromstring(xml)  # noqa: S314
    images = [element for element in root if element.tag.endswith("}Image") or element.tag == "Image"]
    if not images:
        other = next((element for element in root if element.tag.endswith("BinaryOnly")), None)
        where = "another file" if other is None else other.attrib.get("MetadataFile", "another file")
        raise refusal(
            f"{path} does not describe its own planes; {where} does.",
            f"Give {where}, or save the images as one OME-TIFF." if other is not None else "Save it as OME-TIFF again.",
        )
    return images


def _check_room(path: Path, images: Sequence[ElementTree.Element], summary: dict[str, Any]) -> None:
    """Refuse numbers of planes that the files cannot hold, before a list of them is made."""
    announced = [math.prod(_whole(summary.get(key)) for key in ("Frames", "Slices", "Channels", "Positions"))]
    for image in images:
        announced.append(math.prod(_extents(image)))
        for element in image.iter():
            attributes = element.attrib
            announced += [_whole(attributes[key]) for key in ("PlaneCount", "NumPlanes", "IFD") if key in attributes]
    largest = max(announced)
    if largest * _SMALLEST_PLANE_BYTES <= path.stat().st_size:
        return
    held = sum(entry.stat().st_size for entry in path.parent.iterdir() if entry.is_file())
    if largest * _SMALLEST_PLANE_BYTES > held:
        raise refusal(
            f"{path} announces {largest:,} planes, which cannot lie in the {held:,} bytes of its folder.",
            "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
        )


def _extents(image: ElementTree.Element) -> list[int]:
    """Announced numbers of planes along each axis."""
    sizes = next((element.attrib for element in image.iter() if "SizeX" in element.attrib), {})
    return [_whole(sizes.get(f"Size{label}")) for label in "ZCT"]


def _check_chain(path: Path, tiff: Any) -> None:
    """Refuse a file whose directories of pages lead back to an earlier one: tifffile would follow them for ever."""
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


def _whole(value: Any) -> int:
    """A stated count; 1 where none is stated."""
    found = number(value)
    return int(found) if math.isfinite(found) and found >= 1 else 1


def _chosen(
    path: Path,
    tiff: Any,
    every: Sequence[Any],
    images: Sequence[ElementTree.Element],
    said: Sequence[logging.LogRecord],
) -> tuple[Any, ElementTree.Element | None, tuple[str, ...]]:
    """The image that is meant, its OME-XML, and a note when there are others.

    Of several images (positions of a stage, each in a file of its own), it is the one that lies in this file.
    """
    found = [series for series in every if not series.keyframe.is_reduced] or list(every)
    here = [series for series in found if any(page is not None and page.parent is tiff for page in series.pages)]
    if images and here and here[0].kind not in ("ome", "mmstack"):
        raise refusal(f"{path} has OME-XML that does not fit its planes.", "Save it as OME-TIFF again.")
    if not here:
        raise _absent(path, sum(math.prod(_extents(image)) for image in images) or 1, 0, said)
    described = [image for image in images if len(images) == 1 or _lies_in(image, path)]
    if len(here) != 1 or (images and len(described) != 1):
        count = max(len(found), len(images))
        names = [str(image.attrib.get("Name", "")) for image in images] or [series.name for series in found]
        listed = ", ".join(name for name in names[:5] if name)
        raise refusal(
            f"{path} holds {count} images{f' ({listed})' if listed else ''}; a movie or sweep is one.",
            "Save the one that is meant to a file of its own.",
        )
    notes = []
    if len(images) > 1:
        notes.append(
            f"The file names {len(images)} images; the one that lies in it, {described[0].attrib.get('Name')}, is read."
        )
    if len(found) < len(every):
        notes.append(f"The file also has {len(every) - len(found)} reduced images, which are not read.")
    return here[0], described[0] if described else None, tuple(notes)


def _lies_in(image: ElementTree.Element, path: Path) -> bool:
    """Whether the OME-XML of an image says that planes of it lie in a file of this name."""
    named = [element.attrib.get("FileName") for element in image.iter() if element.tag.endswith("UUID")]
    return path.name in named


def _one_position(path: Path, tiff: Any, series: Any) -> tuple[str, tuple[int, ...], list[Any]]:
    """Labels and extents of the leading axes, and the pages, of the position of the stage that lies in this file."""
    axes, leading, pages = series.axes[:-2], tuple(series.shape[:-2]), list(series.pages)
    if "R" not in axes:
        return axes, leading, pages
    place = axes.index("R")
    grid = np.empty(len(pages), object)
    grid[:] = pages
    grid = np.moveaxis(grid.reshape(leading), place, 0)
    here = [index for index, part in enumerate(grid) if any(getattr(page, "parent", 0) is tiff for page in part.flat)]
    if len(here) != 1:
        raise refusal(
            f"{path} holds {leading[place]} positions of the stage; a movie or sweep is one.",
            "Save the one that is meant to a file of its own.",
        )
    return axes.replace("R", ""), (*leading[:place], *leading[place + 1 :]), list(grid[here[0]].flat)


def _check_picture(path: Path, series: Any) -> None:
    """Refuse what is no grey picture as a camera gives it."""
    axes, page = series.axes, series.keyframe
    if "S" in axes:
        raise refusal(
            f"{path} is a colour image (axes {axes}, shape {tuple(series.shape)}); frames are grey.",
            "Save the camera's raw grey frames.",
        )
    if not axes.endswith("YX"):
        raise refusal(
            f"{path} has the axes {axes}; the last two must be Y and X.", "Save it in the order T or Z, Y, X."
        )
    if page.photometric == _MIN_IS_WHITE:
        raise refusal(
            f"{path} says that its lowest counts are white: it is inverted (photometric MinIsWhite).",
            "Save the camera's own counts, not inverted.",
        )
    if page.imagedepth != 1:
        raise refusal(
            f"{path} keeps {page.imagedepth} planes in one page (ImageDepth), which is not supported.",
            "Save one plane a page, for example as OME-TIFF.",
        )


def _is_labelled(tiff: Any, series: Any) -> bool:
    """Whether a person or a program stated the axes; what tifffile guesses of a plain file is no label."""
    if series.kind == "shaped":
        return any("axes" in metadata for metadata in tiff.shaped_metadata or ())
    return series.kind not in ("uniform", "generic")


# ---- what is announced, and what is there ----


def _checked_offset(
    path: Path, tiff: Any, series: Any, pages: Sequence[Any], planes: int, said: Sequence[logging.LogRecord]
) -> int | None:
    """Where the planes begin, when they lie in this file one behind the other; None otherwise.

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
                raise _absent(path, planes, held, said)
            return offset
    there = sum(page is not None and not _is_cut(page) for page in pages)
    if there != planes:
        raise _absent(path, planes, there, said)
    return None


def _absent(path: Path, announced: int, held: int, said: Sequence[logging.LogRecord]) -> MicroscopeError:
    files = [found[1] for record in said if (found := re.search(r"failed to read '([^']+)'", record.getMessage()))]
    which = f"; {files[0]} cannot be read" if files else ""
    return refusal(
        f"{path} announces {announced:,} planes and holds {held:,}{which}.",
        "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
    )


def _is_cut(page: Any) -> bool:
    """Whether data of a page are not there; readers give zeros for them."""
    size = page.parent.filehandle.size
    return len(page.dataoffsets) == 0 or any(
        offset == 0 or count == 0 or offset + count > size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )


def _leftover(path: Path, tiff: Any, series: Any, pages: Sequence[Any]) -> tuple[str, ...]:
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


def _axes_without_index(path: Path, summary: dict[str, Any], planes: int) -> str:
    """Axes of a Micro-Manager file whose index was never written, as after a crash; pages are in the order of time.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it holds less than its summary announces, or the order of its planes is not known.
    """
    sizes = {label: _whole(summary.get(name)) for label, name in (("T", "Frames"), ("Z", "Slices"), ("C", "Channels"))}
    announced = math.prod(sizes.values())
    if announced == 1:
        return ""
    long = [label for label, extent in sizes.items() if extent > 1]
    if announced > planes:
        raise _absent(path, announced, planes, ())
    if len(long) > 1 or announced != planes:
        raise refusal(
            f"{path} has no index of its {planes:,} planes, and its summary has the axes "
            f"{', '.join(f'{label} of {sizes[label]}' for label in long)}.",
            "Open it in Micro-Manager and save it again.",
        )
    return long[0]


class _Run:
    """Planes that lie one behind the other in a file.

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


class _Pages:
    """Planes of a TIFF, or of a set of TIFF files that are one image; one of the others is open at a time."""

    def __init__(self, tiff: Any, pages: Sequence[Any]) -> None:
        self._tiff = tiff
        self._pages = pages
        self._other: Any = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        with warnings_collected() as said:
            planes = np.stack([self._plane(index) for index in range(start, stop)])
        if said:
            raise ValueError(said[0].getMessage())
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


# ---- what is stated ----


def _of_imagej(path: Path, tiff: Any, axes: str, leading: tuple[int, ...]) -> tuple[Statements, str]:
    """Statements of an ImageJ file, and its axes: empty when they are only ImageJ's default.

    ImageJ calls the planes of any stack slices (Z) until somebody changes that, so one axis Z alone, without a
    spacing, says nothing.
    """
    metadata, planes = tiff.imagej_metadata, math.prod(leading)
    images = _whole(metadata.get("images"))
    if images != planes:
        raise refusal(
            f"{path} announces {images:,} images, but its axes {axes} make {planes:,}.", "Save it again with ImageJ."
        )
    unit, notes = metadata.get("unit"), []

    def stated(name: str, value: Any, of: Any, units: dict[str, float]) -> float | None:
        found, doubt = by_unit(name, value, of, units)
        if doubt:
            notes.append(doubt)
        return found

    page = tiff.pages.first
    sides = [
        stated(f"{side} pixel", f"{size:g}", unit, LENGTHS_UM)
        for side, size in zip(("an x", "a y"), _resolution(page), strict=True)
        if size is not None and (size != 1 or unit is not None)
    ]
    step = stated("a spacing of", metadata["spacing"], unit, LENGTHS_UM) if "spacing" in metadata else None
    period = None
    if "finterval" in metadata:
        period = stated("a frame interval of", metadata["finterval"], metadata.get("tunit", "s"), TIMES_S)
    elif number(metadata.get("fps")) > 0:
        period = 1 / number(metadata["fps"])
    notes = list(dict.fromkeys(notes))
    long = [label for label, extent in zip(axes, leading, strict=True) if extent > 1]
    return (
        Statements(
            square(path, sides),
            None if step is None else abs(step),
            checked(path, "a time from frame to frame in s", period),
            notes=tuple(notes),
        ),
        "" if long == ["Z"] and step is None else axes,
    )


def _resolution(page: Any) -> list[float | None]:
    """Length of x and y per pixel in the file's unit, of the resolution tags."""
    sizes: list[float | None] = []
    for code in (282, 283):
        tag = page.tags.get(code)
        pixels, length = tag.value if tag is not None else (0, 0)
        sizes.append(length / pixels if pixels and length else None)
    return sizes


def _resolution_note(page: Any) -> tuple[str, ...]:
    """What the resolution tags of a plain TIFF say: most often what its program writes into every file."""
    x_size, _ = _resolution(page)
    unit = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, 1) or 1))
    if x_size is None or unit is None:
        return ()
    return (f"The file states {1 / x_size:g} pixels per {unit}, which is not trusted: programs write defaults there.",)


def statements_of_micro_manager(path: Path, summary: dict[str, Any]) -> Statements:
    """Statements of Micro-Manager's summary, of a stack file or an NDTiff folder."""
    notes = []
    size = number(summary.get("PixelSize_um", summary.get("PixelSizeUm")))
    if size == 0:
        notes.append("Micro-Manager states a pixel size of 0 (not calibrated); it is not trusted.")
    step, interval = number(summary.get("z-step_um")), number(summary.get("Interval_ms"))
    bits = number(summary.get("BitDepth"))
    return Statements(
        checked(path, "a pixel size in µm", size) if math.isfinite(size) and size != 0 else None,
        abs(step) if math.isfinite(step) and step != 0 else None,
        # 0: as fast as the camera goes.
        interval / 1e3 if math.isfinite(interval) and interval > 0 else None,
        int(bits) if bits > 0 else None,
        tuple(notes),
    )


def _merged(first: Statements, other: Statements) -> Statements:
    """What OME-XML and Micro-Manager's summary state together; what they state differently is not believed."""
    values: dict[str, float | int | None] = {}
    notes = [*first.notes, *(note for note in other.notes if first.pixel_size_um is None)]
    for name, said in (
        ("pixel_size_um", "a pixel size in µm"),
        ("z_step_um", "a step in µm"),
        ("frame_period_s", "a time from frame to frame in s"),
        ("bit_depth", "bits of a count"),
    ):
        one, two = getattr(first, name), getattr(other, name)
        values[name] = two if one is None else one
        if one is not None and two is not None and not math.isclose(one, two, rel_tol=_SAME):
            values[name] = None
            notes.append(
                f"The file states {said} of {one:g} and, in Micro-Manager's summary, {two:g}; neither is trusted."
            )
    return Statements(**values, notes=tuple(notes))  # type: ignore[arg-type]


def _figures_of_tags(pages: Sequence[Any]) -> PlaneFigures:
    """Of Micro-Manager's description of each page."""
    figures, opened = [], None
    for page in pages:
        handle = page.parent.filehandle
        if handle.closed:
            if opened is not None:
                opened.close()
            handle.open()
            opened = handle
        handle.seek(page.offset)
        tag = tifffile.TiffPage(page.parent, 0).tags.get(_MICRO_MANAGER_TAG)
        figures.append(tag.value if tag is not None and isinstance(tag.value, dict) else {})
    if opened is not None:
        opened.close()
    return figures_of_micro_manager(figures)


def figures_of_micro_manager(planes: Sequence[dict[str, Any]]) -> PlaneFigures:
    """Of Micro-Manager's descriptions of planes, in their order."""
    return PlaneFigures(
        np.array([number(plane.get("ZPositionUm")) for plane in planes]),
        np.array([number(plane.get("ElapsedTime-ms")) / 1e3 for plane in planes]),
        np.array([number(plane.get("Exposure-ms")) / 1e3 for plane in planes]),
    )


def _oddities(page: Any) -> list[str]:
    """What a person should know of how the pictures are stored."""
    notes = []
    if int(page.compression) in _LOSSY:
        notes.append(f"The file is compressed with {page.compression.name}, which may change counts and noise.")
    if page.photometric == _PALETTE:
        notes.append("The file has a table of colours, which is not used: counts are read as they are.")
    orientation = int(page.tags.valueof(_ORIENTATION_TAG, _TOP_LEFT) or _TOP_LEFT)
    if orientation != _TOP_LEFT:
        notes.append(
            f"The file asks programs to turn or mirror its pictures (orientation {orientation}); they are not."
        )
    return notes


def _remarks(path: Path, said: Sequence[logging.LogRecord], harmless: Sequence[str]) -> list[str]:
    """Warnings of tifffile as notes, but for those with `harmless` words.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: a warning says that planes are not there.
    """
    remarks = []
    for record in said:
        text = re.sub(r"<(tifffile\.)?\w+(\.\w+)?( '[^']*')?>\s*", "", " ".join(record.getMessage().split()))
        if any(words in text.lower() for words in harmless):
            continue
        if any(words in text.lower() for words in _PLANES_LOST):
            raise refusal(
                f"{path} announces planes that it does not hold ({text}).",
                "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
            )
        remarks.append(f"The reader warns: {text}")
    return list(dict.fromkeys(remarks))
