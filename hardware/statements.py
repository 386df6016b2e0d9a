"""Metadata of image files: lengths, times and depths, with their units.

Every format has its own names and units; here they become µm and s. Programs
write placeholders for unknown values (0, 1 pixel, no unit). Those are not
trusted, and a note states it, so that the user sees the difference between an
absent value and one that is not trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hardware.reading import refusal

__all__ = [
    "LENGTHS_UM",
    "TIMES_S",
    "PlaneFigures",
    "Statements",
    "by_unit",
    "number",
    "of_ome_xml",
    "positive",
    "square",
]

LENGTHS_UM = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
}
"""Units of length of OME-XML (symbols), OME-Zarr (names) and ImageJ (as people type them), in µm."""

TIMES_S = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "µs": 1e-6,
    "μs": 1e-6,
    "us": 1e-6,
    "microsecond": 1e-6,
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
}
"""Units of time of OME-XML, OME-Zarr and ImageJ, in s."""

_SQUARE = 0.001
"""Sides of a pixel that differ by less are the same: rounding in metadata."""


@dataclass(frozen=True, slots=True)
class PlaneFigures:
    """Values that a file states for each plane; NaN where it states none.

    Attributes
    ----------
    position_um : ndarray of float64, shape (N,)
        Focus drive.
    time_s : ndarray of float64, shape (N,)
        Since the start.
    exposure_s : ndarray of float64, shape (N,)
    """

    position_um: NDArray[np.float64]
    time_s: NDArray[np.float64]
    exposure_s: NDArray[np.float64]

    @classmethod
    def unknown(cls, count: int) -> PlaneFigures:
        """Figures of `count` planes of which the file states none."""
        return cls(*(np.full(count, np.nan) for _ in range(3)))


@dataclass(frozen=True, slots=True)
class Statements:
    """Values that a file states for all planes together; None where it states none that is trusted.

    Attributes
    ----------
    pixel_size_um : float or None
        At the sample.
    z_step_um : float or None
        From plane to plane, positive.
    frame_period_s : float or None
        From frame to frame.
    bit_depth : int or None
        Bits of a count.
    notes : tuple of str
        Stated values that are not trusted, and other remarks for the user.
    """

    pixel_size_um: float | None = None
    z_step_um: float | None = None
    frame_period_s: float | None = None
    bit_depth: int | None = None
    notes: tuple[str, ...] = ()


def number(value: Any) -> float:
    """A stated value as a number; NaN for one that is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def by_unit(name: str, value: Any, unit: Any, units: Mapping[str, float]) -> tuple[float | None, str | None]:
    """A stated value in µm or s, or a note on why it is not trusted.

    Parameters
    ----------
    name : str
        What the file calls it.
    value, unit : any
        As the file states them.
    units : mapping of str to float
        `LENGTHS_UM` or `TIMES_S`.
    """
    factor = units.get(str(unit).strip().lower())
    if factor is None:
        stated = "without a unit" if unit is None else f"in the unit {str(unit)!r}"
        return None, f"The file states {name} {value} {stated}; that is not trusted."
    found = number(value)
    if not math.isfinite(found):
        return None, f"The file states {name} {str(value)!r}, which is no number; it is not trusted."
    if found == 0:
        return None, f"The file states {name} 0, which writers use for unknown; it is not trusted."
    return found * factor, None


def positive(path: Path, name: str, value: float | None) -> float | None:
    """A length or time that must be positive.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: it is negative.
    """
    if value is not None and value < 0:
        raise refusal(f"{path} states {name} of {value:g}; it must be positive.", "Correct its metadata.")
    return value


def square(path: Path, sides: Sequence[float | None]) -> float | None:
    """Side of the pixels, of which x and y are given.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: negative, or not square.
    """
    given = [side for side in sides if side is not None]
    for side in given:
        positive(path, "a pixel size in µm", side)
    if len(given) == 2 and not math.isclose(given[0], given[1], rel_tol=_SQUARE):
        raise refusal(
            f"{path} states pixels of {given[0]:g} µm in x and {given[1]:g} µm in y; they must be square.",
            "Correct its metadata, or resample the frames.",
        )
    return given[0] if given else None


def of_ome_xml(
    path: Path, image: ElementTree.Element, axes: str, shape: tuple[int, ...]
) -> tuple[Statements, PlaneFigures]:
    """Values that an Image element of OME-XML states.

    Parameters
    ----------
    path : Path
        The file, for messages.
    image : Element
        The image.
    axes, shape : str and tuple of int
        Labels and extents of the leading axes, for the order of the planes.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: pixels that are not square or not positive.
    """
    pixels = next(child for child in image if _name(child) == "Pixels")
    notes: list[str] = []

    def stated(name: str, units: Mapping[str, float], default: str) -> float | None:
        if name not in pixels.attrib:
            return None
        value, doubt = by_unit(name, pixels.attrib[name], pixels.attrib.get(f"{name}Unit", default), units)
        if doubt:
            notes.append(doubt)
        return value

    sides = [stated(f"PhysicalSize{side}", LENGTHS_UM, "µm") for side in "XY"]
    step = stated("PhysicalSizeZ", LENGTHS_UM, "µm") if "Z" in axes else None
    period = stated("TimeIncrement", TIMES_S, "s") if "T" in axes else None
    bits = number(pixels.attrib.get("SignificantBits"))
    planes = _planes_of_ome_xml(pixels, axes, shape, notes)
    return (
        Statements(
            square(path, sides),
            None if step is None else abs(step),
            positive(path, "a time from frame to frame in s", period),
            int(bits) if bits > 0 else None,
            tuple(notes),
        ),
        planes,
    )


def _planes_of_ome_xml(
    pixels: ElementTree.Element, axes: str, shape: tuple[int, ...], notes: list[str]
) -> PlaneFigures:
    """Values of each plane; a note is added for each value whose unit is unknown."""
    figures = PlaneFigures.unknown(math.prod(shape))
    kept = {
        "PositionZ": (figures.position_um, LENGTHS_UM, "µm"),
        "DeltaT": (figures.time_s, TIMES_S, "s"),
        "ExposureTime": (figures.exposure_s, TIMES_S, "s"),
    }
    strange: dict[str, str] = {}
    for plane in pixels:
        if _name(plane) != "Plane":
            continue
        place = 0
        for label, extent in zip(axes, shape, strict=True):
            index = number(plane.attrib.get(f"The{label}", 0))
            place = place * extent + int(index) if 0 <= index < extent else -(10**18)
        # The default unit of PositionZ is the reference frame's; writers that leave it out mean µm.
        for name, (values, units, default) in kept.items():
            if name in plane.attrib and place >= 0:
                unit = plane.attrib.get(f"{name}Unit", default)
                values[place] = number(plane.attrib[name]) * units.get(unit.strip().lower(), math.nan)
                if math.isnan(values[place]):
                    strange.setdefault(name, f"{plane.attrib[name]} {unit}")
    notes += [f"The file states a {name} of planes of {said!r}; it is not trusted." for name, said in strange.items()]
    return figures


def _name(element: ElementTree.Element) -> str:
    """Without its namespace."""
    return element.tag.rpartition("}")[2]
