"""Images of a folder in the order of their axes; a missing one is an error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.reading import refusal

__all__ = ["NUMBER", "Place", "SinglePlanes", "image_grid"]

NUMBER = "number"
"""Name of the axis of files that have only a number."""

_AXES = {
    NUMBER: "",
    "time": "T",
    "t": "T",
    "z": "Z",
    "channel": "C",
    "c": "C",
    "position": "R",
    "p": "R",
    "row": "G",
    "column": "H",
}
"""Micro-Manager's names of axes (rows and columns are those of tiles), and the one of files that only have a number."""

_MOST_GAPS = 0.5
"""If a greater share of the numbers is missing, they do not count frames (they are times, for example)."""

Place = tuple[tuple[str, int | str], ...]
"""Names of axes and the values on them."""


def image_grid(path: Path, found: Mapping[Place, Any]) -> tuple[str, tuple[int, ...], list[Any]]:
    """Labels and extents of the axes that vary, and the images at each place, in order.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: a place has no image.
    """
    names = sorted((name for name, _ in next(iter(found))), key=lambda name: [*_AXES, name].index(name))
    if any({name for name, _ in place} != set(names) for place in found):
        raise refusal(f"{path} holds images with different axes.", "Save one of them by itself.")
    places = [dict(place) for place in found]
    values = {
        name: sorted({place[name] for place in places}, key=lambda value: (str(type(value)), value)) for name in names
    }
    for name, there in values.items():
        _check_gaps(path, name, there)
    names = [name for name in names if len(values[name]) > 1]
    at = {tuple(place[name] for name in names): thing for place, thing in zip(places, found.values(), strict=True)}
    announced = math.prod(len(values[name]) for name in names)
    if announced != len(at):
        missing = next(place for place in itertools.product(*(values[name] for name in names)) if place not in at)
        raise refusal(
            f"{path} announces {announced:,} planes by its axes ({', '.join(names)}) and holds {len(at):,}; the first "
            f"that is missing is {dict(zip(names, missing, strict=True))}.",
            "Copy or record it again.",
        )
    ordered = [at[place] for place in itertools.product(*(values[name] for name in names))]
    labels = "".join(_AXES.get(name.lower(), name[:1].upper()) for name in names)
    return labels, tuple(len(values[name]) for name in names), ordered


def _check_gaps(path: Path, name: str, there: Sequence[int | str]) -> None:
    """Refuse numbers of which some are missing in between, unless the numbers are not consecutive counts."""
    numbers = [value for value in there if isinstance(value, int)]
    if len(numbers) < 3 or len(numbers) != len(there):
        return
    step = math.gcd(*(after - before for before, after in itertools.pairwise(numbers)))
    span = (numbers[-1] - numbers[0]) // step + 1
    if span == len(numbers) or span - len(numbers) > _MOST_GAPS * span:
        return
    gaps = [before + step for before, after in itertools.pairwise(numbers) if after - before > step]
    raise refusal(
        f"{path} announces {span:,} planes by its numbers ({name} {numbers[0]} to {numbers[-1]}) and holds "
        f"{len(numbers):,}: {', '.join(map(str, gaps[:5]))}{' ...' if len(gaps) > 5 else ''} missing.",
        "Copy the missing ones, or number the files without gaps if frames were left out on purpose.",
    )


class SinglePlanes:
    """Planes of which each is read by a function of its own."""

    def __init__(self, planes: Sequence[Callable[[], NDArray[Any]]]) -> None:
        self._planes = planes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes, shape (N, H, W)."""
        return np.stack([plane() for plane in self._planes[start:stop]])

    def close(self) -> None:
        """No file is kept open."""
