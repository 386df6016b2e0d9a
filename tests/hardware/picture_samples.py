"""Image files as their own programs write them, small."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

SHAPE = (16, 24)


def numbered(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    """Planes that hold their own number, with one marked pixel at row 1, column 2."""
    planes = math.prod(shape[:-2])
    stack = np.zeros((planes, *shape[-2:]), dtype)
    stack += np.arange(planes, dtype=dtype)[:, None, None]
    stack[:, 1, 2] += 100
    return stack.reshape(shape)


def ome(path: Path, data: NDArray[Any], axes: str, **extra: Any) -> Path:
    """An OME-TIFF of tifffile; `Plane` gives lists of what is stated of each plane."""
    tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": axes, **extra})
    return path


def imagej(path: Path, data: NDArray[Any], axes: str, pixel: float = 1.0, **extra: Any) -> Path:
    """An ImageJ TIFF; `pixel` in its unit."""
    metadata = {"axes": axes, **extra}
    options: Any = {"imagej": True, "photometric": "minisblack", "resolution": (1 / pixel, 1 / pixel)}
    tifffile.imwrite(path, data, metadata=metadata, **options)
    return path


def micro_manager_stack(
    path: Path,
    planes: NDArray[np.uint16],
    places: list[tuple[int, int, int, int]],
    summary: dict[str, Any],
    each: list[dict[str, Any]] | None = None,
    xml: str = "",
) -> Path:
    """A stack file as Micro-Manager 2 writes it: header, summary, directories with pixels behind them, index map.

    Parameters
    ----------
    planes : ndarray of uint16, shape (N, H, W)
    places : list of tuple
        Channel, slice, frame and position of each plane.
    summary : dict
    each : list of dict, optional
        Description of each plane.
    xml : str
        OME-XML, with the first plane.
    """
    height, width = planes.shape[1:]
    full = {
        "MicroManagerVersion": "2.0.1",
        "Prefix": path.name.split("_MMStack")[0],
        "Channels": 1,
        "Slices": 1,
        "Frames": 1,
        "Positions": 1,
        "TimeFirst": False,
        "SlicesFirst": False,
        "Width": width,
        "Height": height,
        **summary,
    }
    text = json.dumps(full).encode()
    out = bytearray(b"II*\0\0\0\0\0")
    out += struct.pack("<8I", 54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(text)) + text
    out += b"\0" * (len(out) % 2)
    struct.pack_into("<I", out, 4, len(out))
    offsets, last = [], 0
    for number, plane in enumerate(planes):
        description = json.dumps((each or [{}] * len(planes))[number]).encode() + b"\0"
        words = xml.encode() + b"\0" if xml and number == 0 else b""
        count, start, size = (14 if words else 13), len(out), plane.nbytes
        pixels = start + 2 + 12 * count + 4
        # Readers find the pixels of later planes 162 bytes behind their directory.
        assert words or pixels == start + 162
        ratio, extra_at = pixels + size, pixels + size + 16
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
        entries += [(270, 2, len(words), extra_at + len(description))] if words else []
        entries += [(273, 4, 1, pixels), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, size)]
        entries += [(282, 5, 1, ratio), (283, 5, 1, ratio + 8), (296, 3, 1, 3), (51123, 2, len(description), extra_at)]
        offsets.append(start)
        out += struct.pack("<H", count) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        end = extra_at + len(description) + len(words)
        out += struct.pack("<I", end + end % 2)
        last = len(out) - 4
        out += plane.astype("<u2").tobytes() + struct.pack("<4I", 1, 1, 1, 1) + description + words
        out += b"\0" * (len(out) % 2)
    struct.pack_into("<I", out, last, 0)
    struct.pack_into("<I", out, 12, len(out))
    entries_of_map = zip(places, offsets, strict=True)
    out += struct.pack("<2I", 3453623, len(offsets)) + b"".join(struct.pack("<5I", *p, o) for p, o in entries_of_map)
    path.write_bytes(out)
    return path


def ome_xml(images: list[tuple[str, str, dict[str, int]]], uuid: str = "", extra: str = "") -> str:
    """OME-XML of images: name, inner elements of Pixels, and sizes along Z, C and T.

    `extra` are further attributes of Pixels.
    """
    inner = "".join(
        f'<Image ID="Image:{number}" Name="{name}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="{SHAPE[1]}" SizeY="{SHAPE[0]}" SizeC="{sizes.get("C", 1)}" SizeZ="{sizes.get("Z", 1)}" '
        f'SizeT="{sizes.get("T", 1)}" {extra}><Channel ID="Channel:{number}:0" SamplesPerPixel="1"/>{elements}'
        "</Pixels></Image>"
        for number, (name, elements, sizes) in enumerate(images)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid}">{inner}</OME>'
    )


def described(path: Path, planes: NDArray[Any], xml: str) -> Path:
    """A TIFF of planes, the first of which has the OME-XML `xml`."""
    with tifffile.TiffWriter(path, ome=False) as writer:
        for number, pixels in enumerate(planes):
            description = None if number else xml
            writer.write(pixels, description=description, metadata=None, contiguous=False, photometric="minisblack")
    return path
