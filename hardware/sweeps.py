"""Recorded z-sweeps, read whole.

A sweep is (Z, Y, X) or (Z, R, Y, X) with R repeats, in one of the formats of
`hardware.movies`. Values that a file states in two places, such as the step and
the positions of its planes, are compared. A file that contradicts its use or
itself is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware.memory import require_memory
from hardware.reading import explain_reading, refusal
from hardware.stack import Stack, is_stated
from hardware.stacks import open_stack

__all__ = ["Sweep", "open_sweep"]

_COUNT_BYTES = np.dtype(np.uint16).itemsize

_EVEN_STEPS = 0.1
"""Steps of a sweep may differ by this share of the mean one, as of `models.calibration.sweep`."""

_SAME_EXPOSURE = 0.01
"""Exposures of a sweep that differ by more make planes brighter than others."""


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
        At the sample, when the file states it and no other value contradicts it.
    z_step_um : float or None
        From plane to plane, when the file states it.
    position_step_um : float or None
        From plane to plane, by the positions of the planes.
    bit_depth : int
        Bits of a count.
    notes : tuple of str
        Remarks for the user: stated values that are not trusted, warnings of the reader.
    """

    path: Path
    planes: NDArray[np.uint16]
    pixel_size_um: float | None
    z_step_um: float | None
    position_step_um: float | None
    bit_depth: int
    notes: tuple[str, ...]


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
        position_step_um, notes = _compare_planes(stack, order)
        height, width = stack.shape[-2:]
        require_memory(
            stack.path,
            math.prod((count, repeats, height, width, _COUNT_BYTES)),
            f"a sweep of {count:,} planes and {repeats:,} repeats of {width:,} x {height:,} pixels",
            "Save a region of interest, or fewer planes.",
        )
        planes = np.empty((count, repeats, height, width), np.uint16)
        with explain_reading(stack.path):
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


def _compare_planes(stack: Stack, order: NDArray[np.int64]) -> tuple[float | None, list[str]]:
    """Step of a sweep by the positions of its planes, and notes.

    Parameters
    ----------
    stack : Stack
    order : ndarray of int64, shape (Z, R)
        Which plane of the file is which of the sweep.
    """
    notes: list[str] = []
    if is_stated(stack.planes.exposure_s):
        exposure_s = stack.planes.exposure_s[order]
        usual = float(np.median(exposure_s))
        odd = np.argwhere(~np.isclose(exposure_s, usual, rtol=_SAME_EXPOSURE, atol=0))
        if len(odd):
            raise refusal(
                f"The exposures of {stack.path} differ: {usual:g} s, but {exposure_s[tuple(odd[0])]:g} s at plane "
                f"{odd[0][0]}; a sweep has one.",
                "Sweep again with one exposure.",
            )
    if is_stated(stack.planes.time_s) and (np.diff(stack.planes.time_s[order], axis=0) < 0).any():
        notes.append("By their times, the planes were not taken in the order of depth.")
    if not is_stated(stack.planes.position_um):
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
