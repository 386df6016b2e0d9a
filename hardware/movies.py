"""Recorded movies, opened without reading them whole.

OME-Zarr (0.4 and 0.5), OME-TIFF, Micro-Manager's stacks, NDTiff and single
images, ImageJ's and plain TIFF, and the files of Nikon, Zeiss and Leica come in;
frames of unsigned 16-bit counts go out. A movie is (T, Y, X). Axes are taken by their labels, and by position only
where they have no labels. A file that contradicts its use or itself is refused
rather than reinterpreted: a depth axis taken for time makes every result wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware.memory import require_memory
from hardware.microscope import MicroscopeError
from hardware.reading import explain_reading, refusal
from hardware.stack import Stack, is_stated
from hardware.stacks import open_stack

__all__ = ["Movie", "open_movie"]

_COUNT_BYTES = np.dtype(np.uint16).itemsize

_SAME_PERIOD = 0.1
"""Measured and nominal frame periods that differ by more are reported: a triggered camera is no more exact."""

_GAP_PERIODS = 1.5
"""A time between frames of more periods than this means that a frame is missing in between."""


class Movie:
    """Frames in time, each read from the file when it is needed; to be used by one thread at a time.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        (T, H, W).
    pixel_size_um : float or None
        At the sample, when the file states it and no other value contradicts it.
    frame_period_s : float or None
        From frame to frame: the median of the times of the frames, or as the file states it.
    bit_depth : int
        Bits of a count, as the file states them, or else of its type (8 or 16, an upper bound).
    notes : tuple of str
        Remarks for the user: stated values that are not trusted, missing frames, warnings of the reader.
    """

    def __init__(self, stack: Stack, frames: int) -> None:
        self._stack = stack
        self.path = stack.path
        self.shape = (frames, stack.shape[-2], stack.shape[-1])
        self.pixel_size_um = stack.stated.pixel_size_um
        self.frame_period_s, notes = _period(stack)
        self.bit_depth = stack.bit_depth
        self.notes = (*stack.stated.notes, *notes)

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
        with explain_reading(self.path):
            return self._stack.counts(start, min(stop, len(self)))

    def read_whole(self) -> NDArray[np.uint16]:
        """All frames at once, shape (T, H, W).

        Raises
        ------
        MicroscopeError
            When the file is damaged, or its frames do not fit into the memory that is free.
        """
        frames, height, width = self.shape
        require_memory(
            self.path,
            math.prod(self.shape) * _COUNT_BYTES,
            f"{frames:,} frames of {width:,} x {height:,} pixels",
            "Use fewer frames, or a region of interest.",
        )
        return self.read(0, frames)

    def close(self) -> None:
        """Release the file."""
        self._stack.close()

    def __enter__(self) -> Movie:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_movie(path: Path | str) -> Movie:
    """Open a movie (T, Y, X).

    Parameters
    ----------
    path : Path
        File or folder of one of the formats above. A single image is a movie of one frame.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, incomplete, damaged, not supported, or it contradicts itself or its use.
    """
    stack = open_stack(Path(path))
    try:
        return Movie(stack, _frames_of(stack))
    except MicroscopeError:
        stack.close()
        raise


def _period(stack: Stack) -> tuple[float | None, list[str]]:
    """Time from frame to frame, and notes."""
    stated, times_s = stack.stated.frame_period_s, stack.planes.time_s
    if not is_stated(times_s) or len(times_s) < 2:
        return stated, []
    steps_s = np.diff(times_s)
    if steps_s.min() < 0:
        back = int(steps_s.argmin())
        raise refusal(
            f"The times of {stack.path} run backwards: frame {back} is at {times_s[back]:g} s, frame {back + 1} at "
            f"{times_s[back + 1]:g} s.",
            "Save the frames in the order of time.",
        )
    measured = float(np.median(steps_s))
    if measured == 0:
        return stated, ["The frames have times of which most are equal; they are not trusted."]
    notes = []
    if stated is not None and not math.isclose(stated, measured, rel_tol=_SAME_PERIOD):
        notes.append(
            f"The file states a frame every {stated:g} s; the times of its frames say {measured:g} s, which is used."
        )
    gaps = np.flatnonzero(steps_s > _GAP_PERIODS * measured)
    if len(gaps):
        widest = int(gaps[steps_s[gaps].argmax()])
        notes.append(
            f"Frames are missing in {len(gaps)} places by their times: {steps_s[widest]:g} s lie between the frames "
            f"{widest} and {widest + 1}, else {measured:g} s. Frame numbers go on without a gap."
        )
    return measured, notes


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
