"""CZI files of Zeiss' ZEN as stacks, read by Zeiss' own package pylibCZIrw.

The package gives black for parts of a plane that are not in the file. Here the
directory of the file is compared with the planes that it announces.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hardware.reading import refusal
from hardware.stack import Stack
from hardware.statements import PlaneFigures, Statements, number, positive, square
from hardware.zeiss_times import times_of_czi

__all__ = ["open_czi"]

_AXES = "RIHVBTZC"
"""Axes of CZI in the order in which the planes are read here; scenes (S) and tiles (M) are not read."""

_TYPES: dict[str, np.dtype[Any]] = {
    "Gray8": np.dtype(np.uint8),
    "Gray16": np.dtype(np.uint16),
    "Gray32Float": np.dtype(np.float32),
}

_UM_OF_M, _S_OF_NS = 1e6, 1e-9


def open_czi(path: Path) -> Stack:
    """Open a CZI file.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: several scenes or tiles, in colour, or planes are missing.
    """
    from pylibCZIrw import czi

    with contextlib.ExitStack() as opened:
        file = opened.enter_context(czi.open_czi(str(path)))
        stack = _stack(path, file, opened.pop_all())
    return stack


def _stack(path: Path, file: Any, opened: contextlib.ExitStack) -> Stack:
    try:
        box = {name: high - low for name, (low, high) in file.total_bounding_box_no_pyramid.items()}
        scenes = max(box.get("S", 1), len(file.scenes_bounding_rectangle))
        if scenes > 1:
            raise refusal(
                f"{path} holds {scenes} scenes; a movie or sweep is one.",
                "Save the one that is meant to a file of its own (ZEN: Split Scenes).",
            )
        kinds = {str(kind) for kind in file.pixel_types.values()}
        if len(kinds) != 1 or not kinds <= set(_TYPES):
            raise refusal(
                f"{path} holds pixels of the type {', '.join(sorted(kinds))}, which is not supported.",
                "Save the camera's raw grey frames.",
            )
        dtype = _TYPES[kinds.pop()]
        sizes = {name: box[name] for name in _AXES if box.get(name, 1) > 1}
        frame = (box["Y"], box["X"])
        _check_planes(path, file, sizes, frame)
        document = ElementTree.fromstring(file.raw_metadata)  # noqa: S314  # of a file that the user names, as OME-XML
        figures = _figures(path, document, sizes)
        planes = _Planes(file, sizes)
        return Stack(
            path,
            "".join(sizes) + "YX",
            (*sizes.values(), *frame),
            dtype,
            planes.read,
            opened.close,
            _statements(path, document),
            figures,
        )
    except BaseException:
        opened.close()
        raise


def _check_planes(path: Path, file: Any, sizes: Mapping[str, int], frame: tuple[int, int]) -> None:
    """Refuse a file of which planes, or parts of them, are missing or doubled."""
    held: dict[tuple[int, ...], int] = {}

    def count(_: int, block: Any) -> bool:
        place = tuple(_coordinates(block).get(name, 0) for name in sizes)
        held[place] = held.get(place, 0) + block.logicalRect.w * block.logicalRect.h
        return True

    file.enumerate_subblocks_subset(count, only_layer0=True)
    announced = math.prod(sizes.values())
    area = math.prod(frame)
    whole = sum(each >= area for each in held.values())
    if whole < announced:
        missing = next(
            place
            for place in itertools.product(*(range(extent) for extent in sizes.values()))
            if held.get(place, 0) < area
        )
        raise refusal(
            f"{path} announces {announced:,} planes and holds {whole:,} whole ones; the first that is not is "
            f"{dict(zip(sizes, missing, strict=True))}.",
            "Copy or record it again.",
        )
    if any(each > area for each in held.values()):
        raise refusal(
            f"{path} is a mosaic: its tiles overlap.",
            "Record one field of view, or save one tile to a file of its own.",
        )


def _coordinates(block: Any) -> dict[str, int]:
    """Place of a block on the axes, by their letters."""
    return {str(name): int(value) for name, value in block.coordinate.to_dict().items()}


def _statements(path: Path, document: ElementTree.Element) -> Statements:
    lengths_um: dict[str, float] = {}
    notes = []
    for each in document.findall(".//Scaling/Items/Distance"):
        value, axis = number(each.findtext("Value")), each.get("Id", "?")
        if math.isfinite(value) and value != 0:
            lengths_um[axis] = value * _UM_OF_M
    if "X" not in lengths_um:
        notes.append("ZEN states no pixel size (its scaling is not calibrated).")
    image = document.find(".//Information/Image")
    bits = number(None if image is None else image.findtext("ComponentBitCount"))
    increment = number(document.findtext(".//Dimensions/T/Positions/Interval/Increment"))
    step = lengths_um.get("Z")
    return Statements(
        square(path, [lengths_um.get("X"), lengths_um.get("Y")]),
        None if step is None else abs(step),
        # 0: as fast as possible.
        positive(path, "a time from frame to frame in s", increment)
        if increment and math.isfinite(increment)
        else None,
        int(bits) if bits > 0 else None,
        tuple(notes),
    )


def _figures(path: Path, document: ElementTree.Element, sizes: Mapping[str, int]) -> PlaneFigures:
    shape = tuple(sizes.values())
    count = math.prod(shape)
    figures = PlaneFigures.unknown(count)
    exposures = [
        number(each.text) * _S_OF_NS for each in document.findall(".//Dimensions/Channels/Channel/ExposureTime")
    ]
    if exposures and len(exposures) == sizes.get("C", 1):
        figures.exposure_s[:] = np.broadcast_to(exposures, (count // len(exposures), len(exposures))).ravel()
    step = number(document.findtext(".//Dimensions/Z/Positions/Interval/Increment"))
    if "Z" in sizes and math.isfinite(step):
        places = np.indices(shape)[list(sizes).index("Z")].ravel()
        start = number(document.findtext(".//Dimensions/Z/Positions/Interval/Start"))
        figures.position_um[:] = (start if math.isfinite(start) else 0.0) + step * places
    times = times_of_czi(path)
    if len(times) == count:
        figures.time_s[:] = times - times[0]
    return figures


class _Planes:
    """Planes of a CZI file."""

    def __init__(self, file: Any, sizes: Mapping[str, int]) -> None:
        self._file = file
        self._names = list(sizes)
        self._shape = tuple(sizes.values())

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        return np.stack([self._plane(index) for index in range(start, stop)])

    def _plane(self, index: int) -> NDArray[Any]:
        places = [int(place) for place in np.unravel_index(index, self._shape)] if self._shape else []
        plane = {"T": 0, "Z": 0, "C": 0, **dict(zip(self._names, places, strict=True))}
        return np.asarray(self._file.read(plane=plane))[..., 0]
