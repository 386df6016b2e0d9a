"""Recorded movies and z-sweeps, opened without reading them whole.

OME-Zarr (0.4 and 0.5), OME-TIFF, Micro-Manager's stacks, NDTiff and single
images, ImageJ's and plain TIFF come in; frames of unsigned 16-bit counts go
out. A movie is (T, Y, X), a sweep (Z, Y, X) or (Z, R, Y, X) with R repeats.
Axes are taken by their labels, and by position only where nothing labels them.
What a file states in two places (a step and the positions of its planes, a
period and the times of its frames) is compared. A file that contradicts its
use or itself is refused rather than reinterpreted: a depth axis taken for time
spoils everything behind it.
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
from hardware.reading import check_memory, reading_explained, refusal
from hardware.stack import Stack
from hardware.stacks import open_stack

__all__ = ["Movie", "Sweep", "agreed_pixel_size", "agreed_step", "open_movie", "open_sweep"]

_SAME_SIZE = 0.01
"""Lengths that differ by less are the same: stage micrometers and nominal magnifications are no better."""

_COUNT_BYTES = np.dtype(np.uint16).itemsize

_SAME_PERIOD = 0.1
"""Measured and nominal frame periods that differ by more are told: a camera that is triggered is no better."""

_GAP_PERIODS = 1.5
"""A time between frames of more periods than this means that a frame is missing in between."""

_EVEN_STEPS = 0.1
"""Steps of a sweep may differ by this share of the mean one, as of `models.calibration.sweep`."""

_SAME_EXPOSURE = 0.01
"""Exposures of a sweep that differ by more make planes brighter than others."""


class Movie:
    """Frames in time, read as they are asked for; to be read by one thread at a time.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        (T, H, W).
    pixel_size_um : float or None
        At the sample, when the file states it and nothing speaks against it.
    frame_period_s : float or None
        From frame to frame: the median of the times of the frames, or as the file states it.
    bit_depth : int
        Bits of a count, as the file states them, or else of its type (8 or 16, an upper bound).
    notes : tuple of str
        What a person should know: values that are stated and not trusted, missing frames, warnings of the reader.
    """

    def __init__(self, stack: Stack, frames: int) -> None:
        self._stack = stack
        self.path = stack.path
        self.shape = (frames, stack.shape[-2], stack.shape[-1])
        self.pixel_size_um = stack.stated.pixel_size_um
        self.frame_period_s, told = _period(stack)
        self.bit_depth = stack.bit_depth
        self.notes = (*stack.stated.notes, *told)

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
        with reading_explained(self.path):
            return _as_counts(self._stack.read(start, min(stop, len(self))))

    def read_whole(self) -> NDArray[np.uint16]:
        """All frames at once, shape (T, H, W).

        Raises
        ------
        MicroscopeError
            When the file is damaged, or its frames do not fit into the memory that is free.
        """
        frames, height, width = self.shape
        check_memory(
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
        At the sample, when the file states it and nothing speaks against it.
    z_step_um : float or None
        From plane to plane, when the file states it.
    position_step_um : float or None
        From plane to plane, by the positions of the planes.
    bit_depth : int
        Bits of a count.
    notes : tuple of str
        What a person should know: values that are stated and not trusted, warnings of the reader.
    """

    path: Path
    planes: NDArray[np.uint16]
    pixel_size_um: float | None
    z_step_um: float | None
    position_step_um: float | None
    bit_depth: int
    notes: tuple[str, ...]


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


def open_sweep(path: Path | str) -> Sweep:
    """Read a z-sweep (Z, Y, X) or (Z, R, Y, X); a labelled T axis counts as the repeats.

    Parameters
    ----------
    path : Path
        File or folder of one of the formats above.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, incomplete, damaged, not supported, too large for the memory that is free, or it
        contradicts itself or its use.
    """
    stack = open_stack(Path(path))
    try:
        leading, swapped = _planes_of(stack)
        count, repeats = leading[::-1] if swapped else leading
        order = np.arange(count * repeats).reshape(leading)
        order = order.T if swapped else order
        position_step_um, notes = _compared_planes(stack, order)
        height, width = stack.shape[-2:]
        check_memory(
            stack.path,
            math.prod((count, repeats, height, width, _COUNT_BYTES)),
            f"a sweep of {count:,} planes and {repeats:,} repeats of {width:,} x {height:,} pixels",
            "Save a region of interest, or fewer planes.",
        )
        planes = np.empty((count, repeats, height, width), np.uint16)
        with reading_explained(stack.path):
            for place, index in np.ndenumerate(order):
                planes[place] = stack.read(int(index), int(index) + 1)[0]
    finally:
        stack.close()
    return Sweep(
        stack.path,
        planes,
        stack.stated.pixel_size_um,
        stack.stated.z_step_um,
        position_step_um,
        stack.bit_depth,
        (*stack.stated.notes, *notes),
    )


def agreed_pixel_size(metadata: float | None, flag: float | None, model: float | None) -> tuple[float, str | None]:
    """Pixel size on which file, flag and model agree, and a note when it had to be assumed.

    Parameters
    ----------
    metadata, flag, model : float or None
        What the file's metadata, ``--pixel-size-um`` and the model or calibration state, µm.

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
    named = {"the file's metadata": metadata, "--pixel-size-um": flag, "the model": model}
    stated = {name: size for name, size in named.items() if size is not None}
    for name, size in stated.items():
        if not math.isfinite(size) or size <= 0:
            raise refusal(
                f"The pixel size is {size} µm according to {name}; it must be positive and finite.",
                "State the pixel size at the sample with --pixel-size-um.",
            )
    if not stated:
        raise refusal(
            "The pixel size is unknown: the file states none that is trusted, and none was given.",
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
    if names == ["the model"]:
        return stated[first], f"The file does not state its pixel size; the model's {model:g} µm is assumed."
    return stated[first], None


def agreed_step(sweep: Sweep, flag: float | None) -> tuple[float, str | None]:
    """Step of a sweep on which its metadata, the positions of its planes and ``--z-step-um`` agree.

    Parameters
    ----------
    sweep : Sweep
    flag : float or None
        ``--z-step-um``, µm. Where the file contradicts itself, it says which of both is right.

    Returns
    -------
    step_um : float
    note : str or None
        For the user, when the flag overrules one of two statements.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: nothing states the step, or the statements differ by more than 1 %.
    """
    named = {"its metadata": sweep.z_step_um, "the positions of its planes": sweep.position_step_um}
    stated = {name: step for name, step in named.items() if step is not None}
    if flag is not None:
        if not math.isfinite(flag) or flag <= 0:
            raise refusal(
                f"The step is {flag} µm according to --z-step-um; it must be positive.",
                "Give the distance between planes; a sweep that runs toward the objective is stated with --flip-z.",
            )
        others = {name: step for name, step in stated.items() if not math.isclose(step, flag, rel_tol=_SAME_SIZE)}
        if others and len(others) == len(stated):
            name, step = next(iter(others.items()))
            raise refusal(
                f"The step is {flag:g} µm according to --z-step-um, but {step:g} µm according to the file ({name}); "
                f"they must agree to {_SAME_SIZE:.0%}.",
                "Correct the one that is wrong; leave the flag out if the file is right.",
            )
        told = [f"The file states a step of {step:g} µm ({name}), which is not used." for name, step in others.items()]
        return flag, " ".join(told) or None
    if not stated:
        raise refusal(
            f"{sweep.path} does not state the step between its planes, or none that is trusted.",
            "State it with --z-step-um.",
        )
    if len(stated) == 2 and not math.isclose(*stated.values(), rel_tol=_SAME_SIZE):
        raise refusal(
            f"The step of {sweep.path} is "
            + ", but ".join(f"{step:g} µm according to {name}" for name, step in stated.items())
            + f"; they must agree to {_SAME_SIZE:.0%}.",
            "State the right one with --z-step-um.",
        )
    # Metadata are rounded less than the positions that a drive reads back.
    return next(iter(stated.values())), None


# ---- what is stated of each plane ----


def _period(stack: Stack) -> tuple[float | None, list[str]]:
    """Time from frame to frame, and notes."""
    stated, times_s = stack.stated.frame_period_s, stack.planes.time_s
    if not _is_told(times_s) or len(times_s) < 2:
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


def _compared_planes(stack: Stack, order: NDArray[np.int64]) -> tuple[float | None, list[str]]:
    """Step of a sweep by the positions of its planes, and notes.

    Parameters
    ----------
    stack : Stack
    order : ndarray of int64, shape (Z, R)
        Which plane of the file is which of the sweep.
    """
    notes: list[str] = []
    if _is_told(stack.planes.exposure_s):
        exposure_s = stack.planes.exposure_s[order]
        usual = float(np.median(exposure_s))
        odd = np.argwhere(~np.isclose(exposure_s, usual, rtol=_SAME_EXPOSURE, atol=0))
        if len(odd):
            raise refusal(
                f"The exposures of {stack.path} differ: {usual:g} s, but {exposure_s[tuple(odd[0])]:g} s at plane "
                f"{odd[0][0]}; a sweep has one.",
                "Sweep again with one exposure.",
            )
    if _is_told(stack.planes.time_s) and (np.diff(stack.planes.time_s[order], axis=0) < 0).any():
        notes.append("By their times, the planes were not taken in the order of depth.")
    if not _is_told(stack.planes.position_um):
        if np.isfinite(stack.planes.position_um).any():
            notes.append("The file states positions of some planes only; they are not trusted.")
        return None, notes
    each_um = stack.planes.position_um[order]
    if np.ptp(each_um) == 0:
        notes.append(f"The file states the position {each_um[0, 0]:g} µm for every plane; that is not trusted.")
        return None, notes
    step = float(each_um[-1].mean() - each_um[0].mean()) / (len(each_um) - 1)
    steps = np.diff(each_um.mean(axis=1))
    uneven = np.abs(steps - step) > _EVEN_STEPS * abs(step)
    apart = np.ptp(each_um, axis=1) > _EVEN_STEPS * abs(step)
    if uneven.any():
        worst = int(np.abs(steps - step).argmax())
        raise refusal(
            f"The positions of the planes of {stack.path} are uneven: {steps[worst]:g} µm from plane {worst} to "
            f"{worst + 1}, {step:g} µm on average; steps must be even to {_EVEN_STEPS:.0%}.",
            "Sort the planes by position, leave out doubled ones, or sweep again with a constant step.",
        )
    if apart.any():
        worst = int(np.ptp(each_um, axis=1).argmax())
        raise refusal(
            f"The repeats of plane {worst} of {stack.path} lie {np.ptp(each_um[worst]):g} µm apart; repeats are at one "
            "position.",
            "Label the axes as OME-TIFF or OME-Zarr: Z is depth, T the repeats.",
        )
    if step < 0:
        notes.append(
            "The positions fall from plane to plane. Depth is counted along the sweep: if it ran toward the objective, "
            "state --flip-z."
        )
    return abs(step), notes


def _is_told(values: NDArray[np.float64]) -> bool:
    """Whether the file states a value of each plane."""
    return len(values) > 0 and bool(np.isfinite(values).all())


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
    """As native uint16; 8-bit counts are widened."""
    return planes.astype(np.uint16, copy=False)
