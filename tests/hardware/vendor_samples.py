"""Files of Nikon, Zeiss and Leica: by Zeiss' own writer, and by the layout of the other two formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from tests.conftest import need

__all__ = ["add_times", "czi", "lif", "nd2"]

# ---- Zeiss ----


def czi(
    path: Path,
    planes: NDArray[Any],
    places: list[dict[str, int]],
    pixel_um: float = 0.0,
    step_um: float = 0.0,
    compression: str | None = None,
) -> Path:
    """A file of Zeiss' own writer; `places` are the coordinates of the planes on T, Z, C, ... and S (the scene)."""
    writer = need("pylibCZIrw.czi")
    with writer.create_czi(str(path), compression_options=compression) as file:
        for plane, place in zip(planes, places, strict=True):
            on_axes = {name: at for name, at in place.items() if name != "S"}
            scene = place.get("S", 0)
            file.write(np.ascontiguousarray(plane)[..., None], plane=on_axes, scene=scene, location=(100 * scene, 0))
        file.write_metadata(scale_x=pixel_um * 1e-6, scale_y=pixel_um * 1e-6, scale_z=step_um * 1e-6)
    return path


def add_times(path: Path, times_s: list[float]) -> None:
    """Add the attachment TimeStamps to a CZI file, as ZEN writes it: attachment, directory, and its place."""
    content = struct.pack(f"<ii{len(times_s)}d", 8 + 8 * len(times_s), len(times_s), *times_s)
    start = path.stat().st_size
    entry = struct.pack("<2s10xqi16s8s80s", b"A1", start, 0, bytes(16), b"CZTIMS", b"TimeStamps")
    attachment = struct.pack("<i12x", len(content)) + entry + bytes(112) + content
    directory = struct.pack("<i252x", 1) + entry
    with path.open("r+b") as file:
        file.seek(start)
        file.write(_segment(b"ZISRAWATTACH", attachment))
        place = file.tell()
        file.write(_segment(b"ZISRAWATTDIR", directory))
        file.seek(32 + 72)
        file.write(struct.pack("<q", place))


def _segment(name: bytes, content: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(content), len(content)) + content


# ---- Leica ----


def lif(path: Path, images: dict[str, tuple[NDArray[np.uint16], str]], **lengths: Any) -> Path:
    """Write a LIF file of version 2 by Leica's description of the format.

    Parameters
    ----------
    path : Path
    images : dict of str to (ndarray of uint16, str)
        Images by name: planes, and the labels of their axes in order, such as TYX.
    **lengths
        ``pixel_um``, ``step_um``, ``period_s``, ``bits``, ``exposure_s`` and ``times_s`` of all images.
    """
    elements = "".join(
        f'<Element Name={quoteattr(name)} UniqueID="{number}"><Data>{_lif_image(data, axes, **lengths)}</Data>'
        f'<Memory Size="{data.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        for number, (name, (data, axes)) in enumerate(images.items())
    )
    header = (
        '<LMSDataContainerHeader Version="2"><Element Name="project.lif" UniqueID="p"><Data><Experiment/></Data>'
        f'<Memory Size="0" MemoryBlockID="MemBlock_p"/><Children>{elements}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    blocks = [_lif_text(header), _lif_block("MemBlock_p", b"")]
    blocks += [_lif_block(f"MemBlock_{number}", data.tobytes()) for number, (data, _) in enumerate(images.values())]
    path.write_bytes(b"".join(blocks))
    return path


def _lif_text(text: str) -> bytes:
    encoded = text.encode("utf-16-le")
    return struct.pack("<IIBI", 0x70, 5 + len(encoded), 0x2A, len(text)) + encoded


def _lif_block(name: str, content: bytes) -> bytes:
    encoded = name.encode("utf-16-le")
    size = 1 + 8 + 1 + 4 + len(encoded)
    return struct.pack("<IIBQBI", 0x70, size, 0x2A, len(content), 0x2A, len(name)) + encoded + content


def _lif_image(
    data: NDArray[np.uint16],
    axes: str,
    pixel_um: float = 0.65,
    step_um: float = 0.5,
    period_s: float = 0.01,
    bits: int = 16,
    exposure_s: float | None = None,
    times_s: list[float] | None = None,
) -> str:
    units = {"X": (1, pixel_um * 1e-6, "m"), "Y": (2, pixel_um * 1e-6, "m")}
    units |= {"Z": (3, step_um * 1e-6, "m"), "T": (4, period_s, "s")}
    dimensions, channels, row = "", "", data.itemsize
    for label, extent in reversed(list(zip(axes, data.shape, strict=True))):
        if label == "C":
            channels = "".join(_lif_channel(bits, number * row) for number in range(extent))
        else:
            identifier, step, unit = units[label]
            dimensions += (
                f'<DimensionDescription DimID="{identifier}" NumberOfElements="{extent}" Origin="0" '
                f'Length="{step * (extent - 1)!r}" Unit="{unit}" BitInc="0" BytesInc="{row}"/>'
            )
        row *= extent
    camera = "" if exposure_s is None else f'<WideFieldChannelInfo ExposureTime="{exposure_s} s"/>'
    stamps = " ".join(f"{131_000_000_000_000_000 + round(time_s * 1e7):x}" for time_s in times_s or [])
    return (
        f"<Image><ImageDescription><Channels>{channels or _lif_channel(bits, 0)}</Channels>"
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription>"
        + (f'<TimeStampList NumberOfTimeStamps="{len(times_s)}">{stamps}</TimeStampList>' if times_s else "")
        + f'<Attachment Name="HardwareSetting">{camera}</Attachment></Image>'
    )


def _lif_channel(bits: int, offset: int) -> str:
    return (
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" NameOfMeasuredQuantity="" Min="0" '
        f'Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="{offset}" BitInc="0"/>'
    )


# ---- Nikon ----


def nd2(
    path: Path,
    planes: NDArray[np.uint16],
    loops: list[tuple[str, int]],
    *,
    channels: int = 1,
    pixel_um: float = 0.65,
    step_um: float = 0.5,
    period_s: float = 0.0,
    bits: int = 16,
    times_s: list[float] | None = None,
    exposure_s: float | None = None,
    left_out: int | None = None,
) -> Path:
    """A file of the layout of NIS-Elements 3: chunks with names, and a map of them at the end.

    Parameters
    ----------
    path : Path
    planes : ndarray of uint16, shape (N, H, W) or (N, H, W, channels)
    loops : list of (str, int)
        Axes of the acquisition, the slowest first: T, Z or P, and their extents.
    left_out : int, optional
        Number of a frame that is not in the file.
    """
    count, height, width = planes.shape[:3]
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * channels * 2,
        "uiHeight": height,
        "uiComp": channels,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": bits,
        "uiSequenceCount": count,
    }
    chunks = {
        "ImageAttributes!": _variant(attributes),
        "ImageMetadata!": _variant(_loop(loops, step_um, period_s)),
        "ImageMetadataSeq|0!": _variant(
            {
                "bCalibrated": pixel_um > 0,
                "dCalibration": float(pixel_um),
                "sPicturePlanes": {
                    "uiCount": channels,
                    "uiCompCount": channels,
                    "sPlaneNew": {f"a{number}": _PLANE for number in range(channels)},
                },
            }
        ),
    }
    if times_s is not None:
        chunks["CustomData|AcqTimesCache!"] = struct.pack(f"<{count}d", *(1e3 * time_s for time_s in times_s))
    if exposure_s is not None:
        tag = {"ID": "Exposure1", "Type": 3, "Group": 0, "Size": count, "Desc": "Camera 1 Exposure Time", "Unit": "ms"}
        chunks["CustomDataVar|CustomDataV2_0!"] = _variant({"CustomTagDescription_v1.0": {"Tag0": tag}})
        chunks["CustomData|Exposure1!"] = struct.pack(f"<{count}d", *[1e3 * exposure_s] * count)
    for number, plane in enumerate(planes):
        if number != left_out:
            chunks[f"ImageDataSeq|{number}!"] = bytes(8) + plane.tobytes()
    with path.open("wb") as file:
        file.write(_chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"), 32))
        places = {}
        for name, content in chunks.items():
            places[name] = (file.tell(), len(content))
            # Frames begin 4,096 bytes after the place of their chunk: 16 of its header, its name, and 8 of a time.
            file.write(_chunk(name.encode(), content, 4072))
        start = file.tell()
        entries = b"".join(name.encode() + struct.pack("<QQ", *place) for name, place in places.items())
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", start)
        file.write(_chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", entries + end, 4072))
    return path


def _chunk(name: bytes, content: bytes, room: int) -> bytes:
    return struct.pack("<IIQ", 0x0ABECEDA, room, len(content)) + name.ljust(room, b"\0") + content


def _loop(loops: list[tuple[str, int]], step_um: float, period_s: float) -> dict[str, Any]:
    """The experiment of NIS-Elements: each loop holds the next one."""
    if not loops:
        return {}
    (axis, count), *inner = loops
    parameters: dict[str, Any] = {"uiCount": count}
    if axis == "T":
        parameters |= {"dStart": 0.0, "dPeriod": 1e3 * period_s, "dDuration": 0.0}
    if axis == "Z":
        parameters |= {"dZLow": 0.0, "dZHigh": step_um * (count - 1), "dZStep": step_um, "iType": 0}
    if axis == "P":
        parameters |= {"Points": {f"i{number:010}": {"dPosX": float(number)} for number in range(count)}}
    kind = {"T": 1, "P": 2, "Z": 4}[axis]
    below = {"ppNextLevelEx": {"i0000000000": _loop(inner, step_um, period_s)}} if inner else {}
    return {"eType": kind, "uLoopPars": parameters, **below}


_PLANE = {"uiCompCount": 1, "pFluorescentProbe": {"m_ExcitationSpectrum": {"uiCount": 0}}}

_KINDS = {bool: "bool", int: "lx_int32", float: "double", str: "CLxStringW"}


def _variant(values: dict[str, Any]) -> bytes:
    def element(name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"<{name} runtype='CLxListVariant'>{''.join(element(*each) for each in value.items())}</{name}>"
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"<{name} runtype='{_KINDS[type(value)]}' value={quoteattr(text)}/>"

    body = "".join(element(name, value) for name, value in values.items())
    return f"<?xml version='1.0' encoding='UTF-8'?><variant version='1.0'><no_name>{body}</no_name></variant>".encode()
