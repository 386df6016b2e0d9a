"""Image files as stacks of planes: TIFF, OME-TIFF and OME-Zarr (0.4 and 0.5).

What a file is, without a judgement on what it is for: its shape, the labels
and figures that OME metadata states, and a way to read planes one by one.
tifffile reads what it can reach of a broken file and only logs the rest; here
a broken file is refused.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from hardware.microscope import MicroscopeError

__all__ = ["Stack", "damage_explained", "open_stack", "refusal"]

_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")

_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "Å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
}
"""Units of length of OME-XML (symbols) and OME-Zarr (names), in µm."""

_SECONDS = {
    "s": 1.0,
    "second": 1.0,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "µs": 1e-6,
    "μs": 1e-6,
    "microsecond": 1e-6,
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
}
"""Units of time of OME-XML and OME-Zarr, in s."""

_SQUARE = 0.001
"""Sides of a pixel that differ by less are the same: rounding in metadata."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A file as it is: labelled axes, and a way to read planes.

    Attributes
    ----------
    path : Path
        The file.
    axes : str
        Labels of `shape` in capitals, or empty when nothing reliable labels them.
    shape : tuple of int
        All axes; the last two are y and x.
    dtype : dtype
        Type in the file.
    read : callable
        ``read(start, stop)`` gives planes of the flattened leading axes, shape (N, H, W).
    close : callable
        Releases the file.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]
    close: Callable[[], None]
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    frame_period_s: float | None = None
    bit_depth: int | None = None


def open_stack(path: Path) -> Stack:
    """Open a file of camera counts.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, damaged, of another kind, or no unsigned counts.
    """
    if not path.exists():
        raise refusal(f"{path} does not exist.", "Check the path.")
    if path.is_dir():
        with damage_explained(path):
            stack = _open_zarr(path)
    elif path.suffix.lower() in _TIFF_SUFFIXES:
        with damage_explained(path):
            stack = _open_tiff(path)
    else:
        raise refusal(
            f"{path} has the suffix {path.suffix or '(none)'}; movies and sweeps are OME-Zarr folders or "
            ".tif and .tiff files.",
            "Save it as OME-TIFF.",
        )
    try:
        _check_counts(stack)
    except MicroscopeError:
        stack.close()
        raise
    return stack


def _check_counts(stack: Stack) -> None:
    if stack.dtype.kind != "u" or stack.dtype.itemsize > 2:
        raise refusal(
            f"{stack.path} holds {stack.dtype.name}; camera counts are unsigned integers of 8 or 16 bits.",
            "Save the camera's own counts as 16 bit, without scaling or background subtraction.",
        )
    if 0 in stack.shape:
        raise refusal(f"{stack.path} has the shape {stack.shape}: it is empty.", "Record it again.")


def _open_tiff(path: Path) -> Stack:
    complaints = _Complaints()
    logger = logging.getLogger("tifffile")
    logger.addHandler(complaints)
    try:
        tiff = tifffile.TiffFile(path)
        try:
            return _read_tiff(path, tiff, complaints)
        except BaseException:
            tiff.close()
            raise
    finally:
        logger.removeHandler(complaints)


def _read_tiff(path: Path, tiff: tifffile.TiffFile, complaints: _Complaints) -> Stack:
    count = len(tiff.series)
    # tifffile goes on with the pages that it can reach, and only logs that the rest is lost.
    if complaints.errors:
        raise ValueError(complaints.errors[0])
    if count != 1:
        raise refusal(
            f"{path} holds {count} images; a movie or sweep is one.", "Save the one that is meant to a file of its own."
        )
    series = tiff.series[0]
    if "S" in series.axes:
        raise refusal(
            f"{path} is a colour image (axes {series.axes}, shape {series.shape}); frames are grey.",
            "Save the camera's raw grey frames.",
        )
    shape, axes = tuple(series.shape), series.axes
    if not axes.endswith("YX"):
        raise refusal(
            f"{path} has the axes {axes}; the last two must be Y and X.", "Save it in the order T or Z, Y, X."
        )
    planes = math.prod(shape[:-2])
    pages = _Pages(tiff, [page for page in series.pages if page is not None])
    read = pages.read
    if series.dataoffset is not None and series.keyframe.parent is tiff:
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        mapped = np.memmap(path, dtype, "r", series.dataoffset, (planes, *shape[-2:]))

        def read(start: int, stop: int) -> NDArray[Any]:
            return np.asarray(mapped[start:stop])

    elif len(pages) != planes:
        raise refusal(
            f"{path} announces {planes} planes and holds {len(pages)}.",
            "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
        )
    ome_xml = tiff.ome_metadata
    stated = _ome_xml_statements(path, ome_xml) if ome_xml else {}
    return Stack(path, axes if ome_xml else "", shape, series.dtype, read, pages.close, **stated)


class _Pages:
    """Planes of a TIFF, or of a set of TIFF files that are one image; one of the others is open at a time."""

    def __init__(self, tiff: tifffile.TiffFile, pages: Sequence[Any]) -> None:
        self._tiff = tiff
        self._pages = pages
        self._other: Any = None

    def __len__(self) -> int:
        return len(self._pages)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        return np.stack([self._plane(index) for index in range(start, stop)])

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


def _ome_xml_statements(path: Path, xml: str) -> dict[str, Any]:
    image = tifffile.xml2dict(xml)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]

    def stated(name: str, units: Mapping[str, float], default: str) -> float | None:
        factor = units.get(str(pixels.get(f"{name}Unit", default)))
        return float(pixels[name]) * factor if name in pixels and factor is not None else None

    sides = [stated(f"PhysicalSize{side}", _MICROMETRES, "µm") for side in "XY"]
    return {
        "pixel_size_um": _square(path, sides),
        "z_step_um": _positive(stated("PhysicalSizeZ", _MICROMETRES, "µm")),
        "frame_period_s": _positive(stated("TimeIncrement", _SECONDS, "s")),
        "bit_depth": int(pixels["SignificantBits"]) if "SignificantBits" in pixels else None,
    }


def _open_zarr(path: Path) -> Stack:
    node: Any = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return _zarr_stack(path, node, "", {})
    attributes = _ome_attributes(node)
    # Converters put the image one level down and say so at the root.
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes:
        node = node["0"]
        attributes = _ome_attributes(node)
    if not attributes.get("multiscales"):
        raise refusal(
            f"{path} is a Zarr group without OME metadata (multiscales).",
            "Open the image itself, or save it as OME-Zarr.",
        )
    multiscale = attributes["multiscales"][0]
    dataset = multiscale["datasets"][0]
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
    scale = np.ones(array.ndim)
    for level in (dataset, multiscale):
        for transformation in level.get("coordinateTransformations", ()):
            if transformation.get("type") == "scale":
                scale *= np.asarray(transformation["scale"], float)

    def stated(label: str, units: Mapping[str, float]) -> float | None:
        if label not in labels:
            return None
        place = labels.index(label)
        factor = units.get(str(axes[place].get("unit")))
        return float(scale[place]) * factor if factor is not None else None

    return _zarr_stack(
        path,
        array,
        labels,
        {
            "pixel_size_um": _square(path, [stated("X", _MICROMETRES), stated("Y", _MICROMETRES)]),
            "z_step_um": _positive(stated("Z", _MICROMETRES)),
            "frame_period_s": _positive(stated("T", _SECONDS)),
        },
    )


def _ome_attributes(group: Any) -> dict[str, Any]:
    """OME metadata: below "ome" from version 0.5 on, at the top before."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _zarr_stack(path: Path, array: Any, axes: str, stated: Mapping[str, Any]) -> Stack:
    if array.ndim < 2:
        raise refusal(f"{path} has the shape {array.shape}; a frame has two axes.", "Save it as (T, Y, X).")
    leading = array.shape[:-2]
    slabs = _Slabs(array)

    def read(start: int, stop: int) -> NDArray[Any]:
        if len(leading) == 1:
            return slabs.read(start, stop)
        places = [np.unravel_index(index, leading) for index in range(start, stop)] if leading else [()]
        return np.stack([np.asarray(array[place]) for place in places])

    return Stack(path, axes, tuple(array.shape), np.dtype(array.dtype), read, _nothing_to_close, **stated)


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
            parts.append(slab[start - first : end - first])
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _nothing_to_close() -> None:
    """Zarr keeps no file open."""


def _square(path: Path, sides: Sequence[float | None]) -> float | None:
    given = [side for side in sides if side is not None]
    if not given:
        return None
    if not all(math.isfinite(side) and side > 0 for side in given):
        raise refusal(f"{path} states a pixel size of {given} µm; it must be positive.", "Correct its OME metadata.")
    if not math.isclose(given[0], given[-1], rel_tol=_SQUARE):
        raise refusal(
            f"{path} states pixels of {given[0]:g} µm in x and {given[-1]:g} µm in y; they must be square.",
            "Correct its OME metadata, or resample the frames.",
        )
    return given[0]


def _positive(value: float | None) -> float | None:
    """The magnitude of a step; None for zero, which writers use for unknown."""
    return abs(value) or None if value is not None and math.isfinite(value) else None


def refusal(problem: str, remedy: str) -> MicroscopeError:
    """An error about a file."""
    return MicroscopeError("movie", problem, remedy)


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turn what a reader raises on a damaged file into a refusal."""
    try:
        yield
    except MicroscopeError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise refusal(
            f"{path} cannot be read: it is damaged, incomplete or of another kind ({said}).",
            "Copy or record it again.",
        ) from error


class _Complaints(logging.Handler):
    """Collects what tifffile only logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.errors.append(record.getMessage())
