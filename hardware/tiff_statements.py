"""Values that a TIFF file states besides its OME-XML: ImageJ's, resolution tags, storage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hardware.reading import refusal
from hardware.statements import LENGTHS_UM, TIMES_S, Statements, by_unit, number, positive, square
from hardware.tiff_completeness import whole_count

__all__ = ["oddities", "of_imagej", "resolution_note"]

_PALETTE = 3
"""Number of the photometric interpretation in TIFF."""

_ORIENTATION_TAG, _TOP_LEFT = 274, 1

_LOSSY = {6, 7, 22610, 33003, 33004, 33005, 33007, 34712, 34892, 34927, 34934, 48124, 50001, 50002, 52546}
"""Compressions that change counts (JPEG, JPEG 2000, JPEG XR, JPEG XL, WebP), or may."""


def of_imagej(path: Path, tiff: Any, axes: str, leading: tuple[int, ...]) -> tuple[Statements, str]:
    """Statements of an ImageJ file, and its axes: empty when they are only ImageJ's default.

    ImageJ calls the planes of any stack slices (Z) by default, so one axis Z alone, without a spacing, has no
    meaning.
    """
    metadata, planes = tiff.imagej_metadata, math.prod(leading)
    images = whole_count(metadata.get("images"))
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
            positive(path, "a time from frame to frame in s", period),
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


def resolution_note(page: Any) -> tuple[str, ...]:
    """A note on the resolution tags of a plain TIFF, which most often hold a default of the program."""
    x_size, _ = _resolution(page)
    unit = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, 1) or 1))
    if x_size is None or unit is None:
        return ()
    return (f"The file states {1 / x_size:g} pixels per {unit}, which is not trusted: programs write defaults there.",)


def oddities(page: Any) -> list[str]:
    """Remarks for the user on how the images are stored."""
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
