"""Focus of the beads of a sweep, and the planes of the sweep that a calibration uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.sweep import FocusCurve, Sweep, fit_peak
from models.errors import DataError

__all__ = ["KeptPlanes", "SweepFocus", "bead_focus", "focus_of", "kept_planes", "wanted_range"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Planes kept on either side of the range, when the sweep has them, µm.
_MARGIN_UM = 6.0
# A pattern that differs on both sides of focus is sharp above this share of its greatest sharpness.
_SHARP = 0.5


@dataclass(frozen=True, slots=True)
class SweepFocus:
    """Focus of a sweep before the fit.

    Attributes
    ----------
    curve : FocusCurve
    focus_um : float
        Sweep coordinate of the focus, µm: the median over the beads, or stated by the user.
    stated : bool
        Whether the user stated it.
    """

    curve: FocusCurve
    focus_um: float
    stated: bool


@dataclass(frozen=True, slots=True)
class KeptPlanes:
    """Planes of a sweep that a calibration uses, by increasing depth.

    Attributes
    ----------
    planes : ndarray of float32, shape (Z, H, W)
        Photo-electrons.
    z_um : ndarray of float64, shape (Z,)
        Depths from about focus.
    numbers : ndarray of int, shape (Z,)
        Their numbers in the sweep.
    """

    planes: F32
    z_um: F64
    numbers: NDArray[np.intp]


def bead_focus(planes: F32, positions: F64, sweep_um: F64, curve: FocusCurve, both_sides: bool) -> float:
    """Focus in sweep coordinates, µm: the median over beads of the position where each is most concentrated."""
    found = []
    for x, y in positions[:200]:
        row, column = round(y), round(x)
        window = planes[:, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        ring = planes[:, max(row - 6, 0) : row + 7, max(column - 6, 0) : column + 7]
        level = np.median(ring, axis=(1, 2), keepdims=True)
        light = np.clip(window - level, 0, None)
        # Brightest four pixels over the light in the window: independent of bleaching, insensitive to neighbours.
        flat = np.sort(light.reshape(len(planes), -1), axis=1)
        sharpness = flat[:, -4:].sum(axis=1).astype(np.float64)
        sharpness = np.convolve(np.pad(sharpness, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        near = curve.sharpness > 0.3
        sharpness = np.where(near, sharpness, 0.0)
        found.append(focus_of(sweep_um, sharpness / max(sharpness.max(), 1e-9), both_sides))
    return float(np.median(found))


def focus_of(z_um: F64, sharpness: F64, both_sides: bool) -> float:
    """Focus of a sharpness curve whose maximum is 1, µm.

    A pattern that differs on both sides of focus is engineered: an astigmatic one has a sharp line on either side, and
    focus is in the middle between them.
    """
    if not both_sides:
        return fit_peak(z_um, sharpness)
    sharp = np.flatnonzero(sharpness >= _SHARP)
    ends = []
    for inner, outer in ((sharp[0], sharp[0] - 1), (sharp[-1], sharp[-1] + 1)):
        if not 0 <= outer < len(z_um):
            return fit_peak(z_um, sharpness)
        share = (sharpness[inner] - _SHARP) / (sharpness[inner] - sharpness[outer])
        ends.append(float(z_um[inner] + share * (z_um[outer] - z_um[inner])))
    return sum(ends) / 2


def wanted_range(
    z_um: F64, z_range_um: tuple[float, float] | None, focus: float, sweep: Sweep, curve: FocusCurve, *, given: bool
) -> tuple[float, float]:
    """Depths of later localizations: `z_range_um`, or the larger side of the sweep.

    Raises
    ------
    DataError
        When the sweep does not cover `z_range_um`, or focus is not inside the sweep.
    """
    low, high = float(z_um.min()), float(z_um.max())
    if curve.at_end and not given:
        raise DataError(
            f"The sharpest plane is at the end of the sweep ({curve.focus_um:g} µm), so focus cannot be found.",
            "Sweep past the focus by a few µm, or state it with --focus-um.",
        )
    step = abs(float(np.diff(z_um).mean()))
    if z_range_um is None:
        if high >= -low:
            return (min(3 * step, high / 2), high)
        return (low, max(-3 * step, low / 2))
    tolerance = 0.51 * step
    if z_range_um[0] < low - tolerance or z_range_um[1] > high + tolerance:
        mirrored = -z_range_um[1] >= low - tolerance and -z_range_um[0] <= high + tolerance
        hint = (
            "The other side of focus is covered: if the sweep ran the other way, say so with --flip-z. "
            if mirrored
            else ""
        )
        raise DataError(
            f"The z-range {z_range_um[0]:g} to {z_range_um[1]:g} µm is not covered: with focus at {focus:.1f} µm the "
            "sweep "
            f"({sweep.z_um[0]:g} to {sweep.z_um[-1]:g} µm) reaches from {low:.1f} to {high:.1f} µm.",
            hint + "Choose a range inside, or sweep farther.",
        )
    return (float(z_range_um[0]), float(z_range_um[1]))


def kept_planes(z_um: F64, wanted: tuple[float, float]) -> NDArray[np.bool_]:
    """The range with a margin, and the mirrored range on the other side of focus.

    Samples have emitters at negative defocus too, so training needs their pattern, and focus is found from both sides.
    """
    low, high = wanted[0] - _MARGIN_UM, wanted[1] + _MARGIN_UM
    reach = max(abs(wanted[0]), abs(wanted[1]))
    return (z_um >= min(low, -reach)) & (z_um <= max(high, reach))
