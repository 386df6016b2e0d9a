"""Folders of single TIFF images as stacks.

Images are put in the order of the numbers in their names. A number that is
missing in between is a missing frame, so the folder is refused, with the
number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.image_grid import NUMBER, Place, SinglePlanes, image_grid
from hardware.micromanager_statements import figures_of_micro_manager, statements_of_micro_manager
from hardware.reading import explain_reading, refusal
from hardware.stack import Stack
from hardware.statements import PlaneFigures
from hardware.tiff_files import open_tiff

__all__ = ["open_images"]

_STACK_NAME = re.compile(r"_MMStack_(.+?)(?:_\d+)?(?:\.ome)?\.tiff?$", re.IGNORECASE)
"""Of a stack file of Micro-Manager: the position, before the number of the file."""

_MICRO_MANAGER_NAMES = (
    re.compile(r"img_channel(?P<channel>\d+)_position(?P<position>\d+)_time(?P<time>\d+)_z(?P<z>\d+)\.tif"),
    re.compile(r"img_(?P<time>\d{9})_(?P<channel>.*)_(?P<z>\d{3})\.tif"),
)
"""Names of single images of Micro-Manager 2 and 1.4."""


def open_images(path: Path, images: Sequence[Path]) -> Stack:
    """Open the images of a folder.

    Parameters
    ----------
    path : Path
        The folder.
    images : sequence of Path
        Its TIFF files, in any order.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: the images are incomplete, differ, or their order is not known.
    """
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
    labels, shape, ordered = image_grid(path, _places_by_name(path, images))
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
        with explain_reading(image):
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

    read = SinglePlanes([partial(plane, image) for image in ordered])
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


def _places_by_name(path: Path, images: Sequence[Path]) -> dict[Place, Path]:
    """Images by their places on the axes, which are taken from their names."""
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
    return {((NUMBER, int(part[varying[0]])),): image for part, image in zip(parts, images, strict=True)}


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
