"""Conversion of the values and exceptions of the Micro-Manager core.

The core gives C++ types through SWIG in this process and Java types over the
bridge: tuples or vectors, lists or rectangles, signed or unsigned pixels, a
dozen kinds of exceptions. The functions here convert them to plain Python
values and `MicroscopeError`. The parts for the bridge have not been tested:
they need a desktop with Micro-Manager.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.core_text import clean_text
from hardware.microscope import MicroscopeError, Roi
from hardware.properties import PropertyKind

__all__ = [
    "ArrivalClock",
    "Popped",
    "as_counts",
    "core_request",
    "device_type",
    "leading_number",
    "not_read_back",
    "pop_in_process",
    "pop_over_bridge",
    "property_kind",
    "read_roi",
    "same_value",
    "snapped_image",
    "strings",
]

_DEVICE_TYPES = {
    2: "camera",
    3: "shutter",
    4: "state device",
    5: "focus drive",
    6: "XY stage",
    7: "serial port",
    8: "generic device",
    9: "autofocus",
    10: "core",
    11: "image processor",
    12: "signal device",
    13: "magnifier",
    14: "light modulator",
    15: "hub",
    16: "galvo",
}
"""Numbers of MMDevice's `DeviceType`."""

_PROPERTY_KINDS: dict[int, PropertyKind] = {2: "number", 3: "integer"}
"""Numbers of MMDevice's `PropertyType`; the others are text."""


Popped = tuple[NDArray[Any], int, float]
"""Pixels, image number and time of arrival on the monotonic clock, s."""


@contextlib.contextmanager
def core_request(purpose: str) -> Iterator[None]:
    """Turn exceptions of the core, of many types, into an error that states what was requested."""
    try:
        yield
    except MicroscopeError:
        raise
    except Exception as error:
        said = " ".join(clean_text(str(error)).split())
        raise MicroscopeError(
            "device",
            f"Micro-Manager could not {purpose}: {said}.",
            "Check the device's power, cable and range, and that the same step works in Micro-Manager itself.",
        ) from error


def not_read_back(what: str, asked: str, reported: str, choose: str) -> MicroscopeError:
    """The error of a value that a device does not report after it was set; `choose` names a value that works."""
    return MicroscopeError(
        "not_read_back",
        f"The {what} was asked to be {asked}, but the microscope reports {reported}.",
        f"Choose {choose}.",
    )


class ArrivalClock:
    """Turns the core's time stamps, which are local wall time, into monotonic time, also when the wall clock is set.

    A wall clock jumps: it is corrected over the network, or summer time begins. Then a frame that waits in the
    buffer carries the time before the jump, and the next one the time after it. So how far the wall clock has
    jumped since the beginning is looked up for each frame, and a frame is read with the jumps until now or with
    those until the frame before, whichever lets it follow that one more closely. One that fits neither came now.
    """

    def __init__(self) -> None:
        self._first_s = self._last_s = time.monotonic()
        self._first_wall = datetime.now()
        self._jumps_s = 0.0

    def arrival_s(self, received: str) -> float:
        """When the core got a frame, on the monotonic clock, s.

        Parameters
        ----------
        received : str
            Local wall time in ISO 8601; what cannot be read came now.
        """
        now_s, wall = time.monotonic(), datetime.now()
        jumps_s = (wall - self._first_wall).total_seconds() - (now_s - self._first_s)
        arrival_s = now_s
        with contextlib.suppress(ValueError, TypeError):
            read_s = self._first_s + (datetime.fromisoformat(received) - self._first_wall).total_seconds()
            possible = [read_s - jumps for jumps in (jumps_s, self._jumps_s)]
            arrival_s = min((time_s for time_s in possible if self._last_s <= time_s <= now_s), default=now_s)
            if arrival_s == possible[0]:
                self._jumps_s = jumps_s
        self._last_s = arrival_s
        return arrival_s


def pop_in_process() -> Callable[[Any], Popped | None]:
    """A function that pops a frame with its number and arrival; None when the core emptied its buffer meanwhile."""
    import pymmcore

    clock = ArrivalClock()

    def pop(core: Any) -> Popped | None:
        metadata = pymmcore.Metadata()
        try:
            pixels = core.pop_next_image_md(metadata)
        except IndexError:
            return None
        number = int(metadata.GetSingleTag("ImageNumber").GetValue())
        return pixels, number, clock.arrival_s(metadata.GetSingleTag("TimeReceivedByCore").GetValue())

    return pop


def pop_over_bridge() -> Callable[[Any], Popped]:
    """A function that pops a frame over the bridge. Untested: needs a running Micro-Manager."""
    clock = ArrivalClock()

    def pop(core: Any) -> Popped:
        tagged = core.pop_next_tagged_image()
        tags = tagged.tags
        pixels = np.asarray(tagged.pix).reshape(int(tags["Height"]), int(tags["Width"]))
        return pixels, int(tags["ImageNumber"]), clock.arrival_s(str(tags.get("TimeReceivedByCore", "")))

    return pop


def snapped_image(core: Any) -> NDArray[Any]:
    """The snapped image, shape (H, W); over the bridge it comes flat."""
    pixels = np.asarray(core.get_image())
    return pixels if pixels.ndim == 2 else pixels.reshape(core.get_image_height(), core.get_image_width())


def as_counts(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    """Counts of 8 or 16 bits as uint16; the bridge gives them as signed numbers."""
    if pixels.dtype.itemsize == 1:
        return pixels.view(np.uint8).astype(np.uint16)
    if pixels.dtype.itemsize == 2:
        return pixels.view(np.uint16)
    raise MicroscopeError(
        "settings",
        f"The camera gives pixels of {pixels.dtype.itemsize * 8} bits; frames are grey, of 8 or 16 bits.",
        "Set the camera's PixelType to 16bit among the properties.",
    )


def device_type(core: Any, label: str) -> str:
    """Kind of the device with this label."""
    kind = core.get_device_type(label)
    number = kind if isinstance(kind, int) else kind.swig_value()
    return _DEVICE_TYPES.get(int(number), "device")


def property_kind(core: Any, label: str, name: str) -> PropertyKind:
    """Kind of value of a property."""
    kind = core.get_property_type(label, name)
    number = kind if isinstance(kind, int) else kind.swig_value()
    return _PROPERTY_KINDS.get(int(number), "text")


def strings(values: Any) -> list[str]:
    """A tuple of the core in this process, or a Java vector over the bridge."""
    if isinstance(values, (tuple, list)):
        return [str(value) for value in values]
    return [clean_text(str(values.get(index))) for index in range(values.size())]


def read_roi(values: Any) -> Roi:
    """A region as a list of the core in this process, or a Java rectangle over the bridge."""
    if isinstance(values, (tuple, list)):
        return Roi(*(int(value) for value in values))
    return Roi(int(values.x), int(values.y), int(values.width), int(values.height))


def leading_number(word: str) -> int:
    """The binning in "2" or "2x2"."""
    return int(str(word).lower().split("x")[0])


def same_value(asked: str, reported: str) -> bool:
    """Whether a property reports the requested value, compared as numbers ("10" is "10.0000") or as text."""
    try:
        return math.isclose(float(asked), float(reported), rel_tol=1e-6, abs_tol=1e-9)
    except ValueError:
        return asked == reported
