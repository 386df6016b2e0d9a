"""ND2 files of Nikon's NIS-Elements as stacks, read by the package nd2.

The package gives black for a frame that is not in the file. Here the map of
the file is compared with the frames that it announces.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.reading import refusal
from hardware.stack import Stack
from hardware.statements import PlaneFigures, Statements, number, positive, square

__all__ = ["open_nd2"]

_TIME, _POSITION, _EXPOSURE = "Time [s]", "Z-Series", "Exposure Time [ms]"
"""Columns of the recorded data of NIS-Elements; before that of the exposure comes the name of the camera."""

_FRAME_ENTRY = re.compile(rb"ImageDataSeq\|(\d+)!(.{16})", re.DOTALL)
"""Of the map at the end of a file: name of a frame, its place and its size."""


def open_nd2(path: Path) -> Stack:
    """Open an ND2 file.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: of an old version, with several positions, in colour, or with missing frames.
    """
    import nd2

    with warnings.catch_warnings():
        # It warns where a file has no times; then none are stated.
        warnings.simplefilter("ignore")
        file = nd2.ND2File(path)
        try:
            return _stack(path, file)
        except BaseException:
            file.close()
            raise


def _stack(path: Path, file: Any) -> Stack:
    if file.is_legacy:
        raise refusal(
            f"{path} is a Nikon ND2 file of a version before NIS-Elements 3, which is not supported.",
            "Save it again with a newer NIS-Elements, or as OME-TIFF.",
        )
    if file.components_per_channel > 1:
        raise refusal(f"{path} holds colour images.", "Save the camera's raw grey frames.")
    sizes = {name: int(extent) for name, extent in file.sizes.items()}
    if sizes.get("P", 1) > 1:
        raise refusal(
            f"{path} holds {sizes['P']} positions (XY); a movie or sweep is one.",
            "Save the one that is meant to a file of its own (NIS-Elements: Split Multipoints).",
        )
    height, width = sizes.pop("Y", 1), sizes.pop("X", 1)
    channels = sizes.get("C", 1)
    announced = math.prod(sizes.values()) // channels
    held = _frames_held(path) & set(range(announced))
    if len(held) < announced:
        missing = min(set(range(announced)) - held)
        raise refusal(
            f"{path} announces {announced:,} frames and holds {len(held):,}; the first that is missing is {missing}.",
            "The acquisition was ended early, or the file is incomplete: record it again, or save a part as OME-TIFF.",
        )
    planes = _Frames(file, channels, (height, width))
    stated, figures = _statements(path, file), _figures(file, announced, channels)
    axes = "".join(sizes) + "YX"
    shape = (*sizes.values(), height, width)
    return Stack(path, axes, shape, np.dtype(file.dtype), planes.read, file.close, stated, figures)


def _statements(path: Path, file: Any) -> Statements:
    step_um = period_s = None
    for loop in file.experiment:
        parameters = loop.parameters
        if loop.type == "ZStackLoop" and parameters.stepUm:
            step_um = abs(float(parameters.stepUm))
        # A period of 0: as fast as possible.
        if loop.type == "TimeLoop" and parameters.periodMs:
            period_s = positive(path, "a time from frame to frame in s", float(parameters.periodMs) / 1e3)
    volume = file.metadata.channels[0].volume
    notes: tuple[str, ...] = ()
    sides: list[float | None] = [None, None]
    if all(volume.axesCalibrated[:2]):
        sides = [float(side) for side in volume.axesCalibration[:2]]
    else:
        notes = ("NIS-Elements states that its pixel size is not calibrated; it is not trusted.",)
    bits = int(file.attributes.bitsPerComponentSignificant or 0)
    return Statements(square(path, sides), step_um, period_s, bits or None, notes)


def _figures(file: Any, frames: int, channels: int) -> PlaneFigures:
    """Values of each plane, from the recorded data of NIS-Elements; events of users are among them."""
    figures = PlaneFigures.unknown(frames)
    columns = {_TIME: (figures.time_s, 1.0), _POSITION: (figures.position_um, 1.0)}
    exposure: tuple[NDArray[np.float64], float] = (figures.exposure_s, 1e-3)
    each: Mapping[str, Any]
    for each in file.events():
        place = each.get("Index")
        if place is None or not 0 <= place < frames:
            continue
        for name, value in each.items():
            values, factor = columns.get(name, exposure if name.endswith(_EXPOSURE) else (None, 0.0))
            if values is not None:
                values[place] = number(value) * factor
    # 0: the camera did not report its exposure.
    figures.exposure_s[figures.exposure_s == 0] = np.nan
    return PlaneFigures(*(np.repeat(of, channels) for of in (figures.position_um, figures.time_s, figures.exposure_s)))


def _frames_held(path: Path) -> set[int]:
    """Numbers of the frames that the map at the end of the file names and that lie within the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(-8, 2)
        (place,) = struct.unpack("<Q", file.read(8))
        file.seek(min(place, size))
        content = file.read()
    entries = ((int(found[1]), *struct.unpack("<QQ", found[2])) for found in _FRAME_ENTRY.finditer(content))
    return {number for number, start, length in entries if start + length <= size}


class _Frames:
    """Frames of an ND2 file; each holds all channels."""

    def __init__(self, file: Any, channels: int, frame: tuple[int, int]) -> None:
        self._file = file
        self._channels = channels
        self._frame = frame

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        return np.stack([self._plane(index) for index in range(start, stop)])

    def _plane(self, index: int) -> NDArray[Any]:
        frame, channel = divmod(index, self._channels)
        return np.array(np.asarray(self._file.read_frame(frame)).reshape(-1, *self._frame)[channel])
