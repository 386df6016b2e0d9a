"""Recorded movies and z-sweeps, opened without reading them whole.

OME-Zarr (0.4 and 0.5), OME-TIFF and TIFF come in; frames of unsigned 16-bit
counts go out. A movie is (T, Y, X), a sweep (Z, Y, X) or (Z, R, Y, X) with R
repeats. What the axes are is believed only from OME metadata, and so are pixel
size, step and frame period; the resolution tags and axis names of other TIFF
files are too often defaults of the program that wrote them, so there the axes
count by position. A file that contradicts its use is refused rather than
reinterpreted: a depth axis taken for time spoils everything behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import MicroscopeError
from hardware.stacks import Stack, damage_explained, open_stack, refusal

__all__ = ["Movie", "Sweep", "agreed_pixel_size", "open_movie", "open_sweep"]

_SAME_SIZE = 0.01
"""Pixel sizes that differ by less are the same: stage micrometers and nominal magnifications are no better."""


class Movie:
    """Frames in time, read as they are asked for; to be read by one thread at a time.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        (T, H, W).
    pixel_size_um : float or None
        At the sample, when OME metadata states it.
    frame_period_s : float or None
        From frame to frame, when OME metadata states it.
    bit_depth : int
        Bits of a count, as stated by OME metadata, or else of the file's type (8 or 16, an upper bound).
    """

    def __init__(self, stack: Stack, frames: int) -> None:
        self._stack = stack
        self.path = stack.path
        self.shape = (frames, stack.shape[-2], stack.shape[-1])
        self.pixel_size_um = stack.pixel_size_um
        self.frame_period_s = stack.frame_period_s
        self.bit_depth = stack.bit_depth or stack.dtype.itemsize * 8

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        """Frame `index`, shape (H, W).

        Raises
        ------
        IndexError
            Beyond the movie.
        MicroscopeError
            When the file is damaged there.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        frame: NDArray[np.uint16] = self.read(index, index + 1)[0]
        return frame

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        return (self[index] for index in range(len(self)))

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Frames `start` to `stop` - 1, shape (N, H, W); fewer at the end of the movie.

        Raises
        ------
        MicroscopeError
            When the file is damaged there.
        """
        with damage_explained(self.path):
            return _as_counts(self._stack.read(start, min(stop, len(self))))

    def close(self) -> None:
        """Release the file."""
        self._stack.close()

    def __enter__(self) -> Movie:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Sweep:
    """A z-sweep in memory.

    Attributes
    ----------
    path : Path
        The file.
    planes : ndarray of uint16, shape (Z, R, H, W)
        Counts; R repeats of each plane.
    pixel_size_um : float or None
        At the sample, when OME metadata states it.
    z_step_um : float or None
        From plane to plane, when OME metadata states it.
    bit_depth : int
        Bits of a count.
    """

    path: Path
    planes: NDArray[np.uint16]
    pixel_size_um: float | None
    z_step_um: float | None
    bit_depth: int


def open_movie(path: Path | str) -> Movie:
    """Open a movie (T, Y, X).

    Parameters
    ----------
    path : Path
        OME-Zarr folder, OME-TIFF or TIFF file. A single image is a movie of one frame.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, damaged, or its axes or counts do not fit.
    """
    stack = open_stack(Path(path))
    try:
        return Movie(stack, _frames_of(stack))
    except MicroscopeError:
        stack.close()
        raise


def open_sweep(path: Path | str) -> Sweep:
    """Read a z-sweep (Z, Y, X) or (Z, R, Y, X); a labelled T axis counts as the repeats.

    Parameters
    ----------
    path : Path
        OME-Zarr folder, OME-TIFF or TIFF file.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, damaged, or its axes or counts do not fit.
    """
    stack = open_stack(Path(path))
    try:
        leading, swapped = _planes_of(stack)
        with damage_explained(stack.path):
            planes = _as_counts(stack.read(0, math.prod(leading)))
    finally:
        stack.close()
    planes = planes.reshape(*leading, *stack.shape[-2:])
    return Sweep(
        stack.path,
        np.ascontiguousarray(planes.swapaxes(0, 1)) if swapped else planes,
        stack.pixel_size_um,
        stack.z_step_um,
        stack.bit_depth or stack.dtype.itemsize * 8,
    )


def agreed_pixel_size(metadata: float | None, flag: float | None, model: float | None) -> tuple[float, str | None]:
    """Pixel size on which file, flag and model agree, and a note when it had to be assumed.

    Parameters
    ----------
    metadata, flag, model : float or None
        What the file's OME metadata, ``--pixel-size-um`` and the model or calibration state, µm.

    Returns
    -------
    size_um : float
        The stated one (flag before metadata before model).
    note : str or None
        For the user, when only the model states it.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: two of them differ by more than 1 %, one is not positive, or none states it.
    """
    named = {"the file's OME metadata": metadata, "--pixel-size-um": flag, "the model": model}
    stated = {name: size for name, size in named.items() if size is not None}
    for name, size in stated.items():
        if not math.isfinite(size) or size <= 0:
            raise refusal(
                f"The pixel size is {size} µm according to {name}; it must be positive and finite.",
                "State the pixel size at the sample with --pixel-size-um.",
            )
    if not stated:
        raise refusal(
            "The pixel size is unknown: the file has no OME metadata that states it, and none was given.",
            "State the pixel size at the sample with --pixel-size-um.",
        )
    names = list(stated)
    first = "--pixel-size-um" if flag is not None else names[0]
    for name in names:
        if not math.isclose(stated[name], stated[first], rel_tol=_SAME_SIZE):
            remedy = (
                "Use a model for this pixel size, or correct the one that is wrong."
                if "the model" in (name, first)
                else "Correct the one that is wrong; leave the flag out if the file is right."
            )
            raise refusal(
                f"The pixel size is {stated[first]:g} µm according to {first}, but {stated[name]:g} µm according to "
                f"{name}; they must agree to {_SAME_SIZE:.0%}.",
                remedy,
            )
    note = None
    if names == ["the model"]:
        note = f"The file does not state its pixel size; the model's {stated['the model']:g} µm is assumed."
    return stated[first], note


# ---- what the axes mean ----


def _frames_of(stack: Stack) -> int:
    """Number of frames, when the axes are those of a movie."""
    if not stack.axes:
        leading = [extent for extent in stack.shape[:-2] if extent != 1]
        if len(leading) > 1:
            raise refusal(
                f"{stack.path} has the shape {stack.shape} without labelled axes; a movie is (T, Y, X).",
                "Save one channel and one plane, or label the axes as OME-TIFF or OME-Zarr.",
            )
        return leading[0] if leading else 1
    sizes = dict(zip(stack.axes[:-2], stack.shape[:-2], strict=True))
    wrong = [f"{label} of {extent}" for label, extent in sizes.items() if label != "T" and extent > 1]
    if wrong:
        remedy = "Save one channel and one plane."
        if len(wrong) == 1 and sizes.get("Z", 1) > 1:
            remedy = "A z-sweep belongs to calibrate; " + (
                "if the axis is time, label it T." if sizes.get("T", 1) == 1 else "of a movie, save one plane."
            )
        raise refusal(
            f"{stack.path} has the axes {stack.axes} with the shape {stack.shape}; a movie is (T, Y, X), "
            f"and here is an axis {' and '.join(wrong)}.",
            remedy,
        )
    return sizes.get("T", 1)


def _planes_of(stack: Stack) -> tuple[tuple[int, int], bool]:
    """Leading axes as two, and whether the repeats come first, when the axes are those of a sweep."""
    if not stack.axes:
        leading = stack.shape[:-2]
        if len(leading) > 2:
            leading = tuple(extent for extent in leading if extent != 1)
        if not 1 <= len(leading) <= 2 or leading[0] < 2:
            raise refusal(
                f"{stack.path} has the shape {stack.shape} without labelled axes; "
                "a sweep is (Z, Y, X) or (Z, repeats, Y, X) with at least 2 planes.",
                "Save the sweep with z first, or label the axes as OME-TIFF or OME-Zarr.",
            )
        return (leading[0], leading[1] if len(leading) == 2 else 1), False
    sizes = dict(zip(stack.axes[:-2], stack.shape[:-2], strict=True))
    wrong = [f"{label} of {extent}" for label, extent in sizes.items() if label not in "ZT" and extent > 1]
    if wrong or sizes.get("Z", 1) < 2:
        fault = f"here is an axis {' and '.join(wrong)}" if wrong else "here is no axis Z of at least 2 planes"
        raise refusal(
            f"{stack.path} has the axes {stack.axes} with the shape {stack.shape}; "
            f"a sweep is (Z, Y, X) or (Z, repeats, Y, X), and {fault}.",
            "Save one channel."
            if wrong
            else "Label the axis of the sweep Z, or save a plain TIFF, whose axes are taken by position.",
        )
    planes, repeats = sizes["Z"], sizes.get("T", 1)
    swapped = repeats > 1 and stack.axes.index("T") < stack.axes.index("Z")
    return ((repeats, planes) if swapped else (planes, repeats)), swapped


def _as_counts(planes: NDArray[Any]) -> NDArray[np.uint16]:
    """A copy as native uint16, writable where the file is mapped; 8-bit counts are widened."""
    return planes.astype(np.uint16)
