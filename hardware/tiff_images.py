"""The one image of a TIFF file, or of a set of files, that is a movie or sweep."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hardware.reading import refusal
from hardware.tiff_completeness import extents, planes_missing

__all__ = ["check_picture", "choose_image", "is_labelled", "ome_images", "one_position"]

_MIN_IS_WHITE = 0
"""Number of the photometric interpretation in TIFF."""


def ome_images(path: Path, tiff: Any) -> list[ElementTree.Element]:
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


def choose_image(
    path: Path,
    tiff: Any,
    every: Sequence[Any],
    images: Sequence[ElementTree.Element],
    records: Sequence[logging.LogRecord],
) -> tuple[Any, ElementTree.Element | None, tuple[str, ...]]:
    """The image to read, its OME-XML, and a note when the file names others.

    Of several images (positions of a stage, each in a file of its own), it is the one in this file.
    """
    found = [series for series in every if not series.keyframe.is_reduced] or list(every)
    here = [series for series in found if any(page is not None and page.parent is tiff for page in series.pages)]
    if images and here and here[0].kind not in ("ome", "mmstack"):
        raise refusal(f"{path} has OME-XML that does not fit its planes.", "Save it as OME-TIFF again.")
    if not here:
        raise planes_missing(path, sum(math.prod(extents(image)) for image in images) or 1, 0, records)
    described = [image for image in images if len(images) == 1 or _is_in(image, path)]
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
            f"The file names {len(images)} images; the one in this file, {described[0].attrib.get('Name')}, is read."
        )
    if len(found) < len(every):
        notes.append(f"The file also has {len(every) - len(found)} reduced images, which are not read.")
    return here[0], described[0] if described else None, tuple(notes)


def _is_in(image: ElementTree.Element, path: Path) -> bool:
    """Whether the OME-XML of an image states that planes of it are in a file of this name."""
    named = [element.attrib.get("FileName") for element in image.iter() if element.tag.endswith("UUID")]
    return path.name in named


def one_position(path: Path, tiff: Any, series: Any) -> tuple[str, tuple[int, ...], list[Any]]:
    """Labels and extents of the leading axes, and the pages, of the position of the stage that is in this file."""
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


def check_picture(path: Path, series: Any) -> None:
    """Refuse an image that is not grey as from a camera."""
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
            f"{path} states that its lowest counts are white: it is inverted (photometric MinIsWhite).",
            "Save the camera's own counts, not inverted.",
        )
    if page.imagedepth != 1:
        raise refusal(
            f"{path} keeps {page.imagedepth} planes in one page (ImageDepth), which is not supported.",
            "Save one plane a page, for example as OME-TIFF.",
        )


def is_labelled(tiff: Any, series: Any) -> bool:
    """Whether the file states its axes; those that tifffile guesses of a plain file do not count."""
    if series.kind == "shaped":
        return any("axes" in metadata for metadata in tiff.shaped_metadata or ())
    return series.kind not in ("uniform", "generic")
