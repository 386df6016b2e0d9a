"""LIF files of Leica's LAS X as stacks, read by the package liffile.

One LIF file holds all images of a project. The one that is meant is named as
if the file were a folder: ``project.lif/Series003``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hardware.reading import refusal
from hardware.stack import Stack
from hardware.statements import LENGTHS_UM, TIMES_S, PlaneFigures, Statements, by_unit, number, positive, square
from hardware.tiff_pages import ContiguousPlanes

__all__ = ["open_lif"]

_DIMENSIONS = {"1": "X", "2": "Y", "3": "Z", "4": "T"}
"""Letters of axes by Leica's numbers."""

_TICKS_PER_S = 1e7
"""Time stamps count 100 ns."""

_MOST_NAMES = 5


def open_lif(path: Path, image_name: str | None = None) -> Stack:
    """Open an image of a LIF file.

    Parameters
    ----------
    path : Path
    image_name : str, optional
        Name of the image, with those of its folders in the project before it; not needed when the file has one image.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: several images or none of the name, in colour, or cut off.
    """
    import liffile

    with liffile.LifFile(path) as file:
        image = _chosen(path, list(file.images), image_name)
        sizes = {str(name): int(extent) for name, extent in image.sizes.items()}
        block, dtype = image.memory_block, np.dtype(image.dtype)
        document = image.xml_element
    if list(sizes)[-2:] != ["Y", "X"]:
        raise refusal(
            f"{path} holds the image {image.path} with the axes {''.join(sizes)}; frames have the axes Y and X last.",
            "Save the camera's raw grey frames.",
        )
    needed, held = math.prod(sizes.values()) * dtype.itemsize, path.stat().st_size - block.offset
    if needed != block.size or held < needed:
        raise refusal(
            f"{path} announces {needed:,} bytes for the image {image.path} and holds {min(held, block.size):,}.",
            "Copy or record it again.",
        )
    leading = {name: extent for name, extent in sizes.items() if name not in "YX"}
    planes = ContiguousPlanes(path, block.offset, (sizes["Y"], sizes["X"]), dtype)
    stated, figures = _statements(path, document), _figures(document, leading)
    return Stack(path, "".join(sizes), tuple(sizes.values()), dtype, planes.read, planes.close, stated, figures)


def _chosen(path: Path, images: list[Any], name: str | None) -> Any:
    """The image of this name, or the only one."""
    matching = [image for image in images if name in (None, image.path, image.name)]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(image.path for image in images[:_MOST_NAMES]) + (" ..." if len(images) > _MOST_NAMES else "")
    problem = f"holds {len(images)} images ({names}); a movie or sweep is one"
    if name is not None:
        problem = f"has {'no image' if not matching else f'{len(matching)} images'} of the name {name} among {names}"
    raise refusal(
        f"{path} {problem}.",
        f"Name the one that is meant, as in {path.name}/{images[0].path}, or save it to a file of its own."
        if images
        else "Record it again.",
    )


def _dimensions(document: ElementTree.Element) -> dict[str, dict[str, str]]:
    """Descriptions of the axes X, Y, Z and T."""
    found = document.findall("./Data/Image/ImageDescription/Dimensions/DimensionDescription")
    return {_DIMENSIONS[each.attrib["DimID"]]: each.attrib for each in found if each.get("DimID") in _DIMENSIONS}


def _statements(path: Path, document: ElementTree.Element) -> Statements:
    """Lengths are those from the first to the last element of an axis."""
    dimensions, notes = _dimensions(document), []
    steps: dict[str, float | None] = dict.fromkeys("XYZT")
    for name, each in dimensions.items():
        intervals = number(each.get("NumberOfElements")) - 1
        if intervals > 0:
            step = number(each.get("Length")) / intervals
            units = TIMES_S if name == "T" else LENGTHS_UM
            steps[name], doubt = by_unit(f"a step in {name} of", step, each.get("Unit"), units)
            if doubt:
                notes.append(doubt)
    z_step = steps["Z"]
    resolution = document.find("./Data/Image/ImageDescription/Channels/ChannelDescription")
    bits = number(None if resolution is None else resolution.get("Resolution"))
    return Statements(
        square(path, [None if side is None else abs(side) for side in (steps["X"], steps["Y"])]),
        None if z_step is None else abs(z_step),
        positive(path, "a time from frame to frame in s", steps["T"]),
        int(bits) if bits > 0 else None,
        tuple(notes),
    )


def _figures(document: ElementTree.Element, leading: dict[str, int]) -> PlaneFigures:
    shape = tuple(leading.values())
    figures = PlaneFigures.unknown(math.prod(shape))
    depth = _dimensions(document).get("Z")
    if depth is not None and "Z" in leading:
        factor = LENGTHS_UM.get(depth.get("Unit", "").strip().lower(), math.nan)
        start, length = number(depth.get("Origin")) * factor, number(depth.get("Length")) * factor
        positions = np.linspace(start, start + length, leading["Z"])
        figures.position_um[:] = positions[np.indices(shape)[list(leading).index("Z")].ravel()]
    times = _time_stamps(document)
    if len(times) == len(figures.time_s):
        figures.time_s[:] = (times - times[0]) / _TICKS_PER_S
    # The first camera's; other channels of one file would be refused.
    channel = document.find(".//WideFieldChannelInfo[@ExposureTime]")
    exposure = number(None if channel is None else channel.get("ExposureTime", "").split(" ")[0])
    if exposure > 0:
        figures.exposure_s[:] = exposure
    return figures


def _time_stamps(document: ElementTree.Element) -> NDArray[np.int64]:
    """Ticks of 100 ns of each plane; empty when there are none."""
    stamps = document.find("./Data/Image/TimeStampList")
    if stamps is None:
        return np.empty(0, np.int64)
    # Versions of LAS before 3.1 write one element for each plane.
    each = [(int(at.attrib["HighInteger"]) << 32) + int(at.attrib["LowInteger"]) for at in stamps.findall("TimeStamp")]
    return np.array(each or [int(text, 16) for text in (stamps.text or "").split()], np.int64)
