"""A sweep as a value: one field of beads, imaged at many positions of the focus drive.

A sweep is checked before it is used, because a calibration from a bad sweep looks
plausible and is wrong everywhere. This file rejects contradictory axes and steps,
too few planes, saturated images, and images that do not change with focus. The
checks that need beads (no usable bead, beads that move, a range that the sweep
does not cover) are in `bead_rejection`, `assembly` and `sweep_focus`.

With a symmetric pattern a reversed sweep cannot be detected, because both sides
of focus look the same. It is noticed only when the sweep does not cover the side
of focus that was asked for, so that message mentions the direction too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.errors import DataError
from models.quantities import PIXEL_SIZE_UM, REPEATS, STAGE_UM, SWEEP_PLANES, Z_STEP_UM
from models.saturation import top_of_range

__all__ = ["FocusCurve", "Sweep", "fine_detail", "fit_peak"]

# Largest share of saturated pixels; a few bright beads have less.
_SATURATED_SHARE = 0.02
# Sharpness of the sharpest plane over that of the median plane; a visible focus gives 1.5 and more, noise 1.0.
_LEAST_FOCUS_CONTRAST = 1.15


@dataclass(frozen=True, slots=True)
class FocusCurve:
    """Sharpness of the field over the sweep.

    Attributes
    ----------
    sharpness : ndarray of float64, shape (Z,)
        Energy of fine detail above the camera's noise, relative to the sharpest plane.
    focus_um : float
        Peak of the curve, fitted between planes, sweep coordinates, µm.
    at_end : bool
        The sharpest plane is the first or the last: focus may lie outside the sweep.
    """

    sharpness: NDArray[np.float64]
    focus_um: float
    at_end: bool


@dataclass(frozen=True)
class Sweep:
    """One field at many focus positions.

    Attributes
    ----------
    planes : ndarray of uint16, shape (Z, R, H, W)
        Camera counts; R repeats of each plane.
    z_um : ndarray of float64, shape (Z,)
        Sweep coordinate of each plane, µm, strictly monotonic, evenly spaced.
    pixel_size_um : float
        Camera pixel at the sample, µm.
    bit_depth : int
        Bits of a count.
    """

    planes: NDArray[np.uint16]
    z_um: NDArray[np.float64]
    pixel_size_um: float
    bit_depth: int = 16

    def __post_init__(self) -> None:
        """Reject contradictory axes, steps and pixel sizes."""
        if self.planes.ndim != 4 or self.planes.dtype != np.uint16:
            raise DataError(
                f"The sweep has shape {self.planes.shape} and type {self.planes.dtype}; "
                "it is (Z, R, H, W) of unsigned 16-bit counts.",
                "Save the sweep as a 16-bit stack with axes Z, Y, X or Z, repeat, Y, X.",
            )
        count = len(self.planes)
        if len(self.z_um) != count:
            raise DataError(
                f"The sweep has {count} planes but {len(self.z_um)} positions; each plane has one.",
                "Check the order of the axes: the first is z, the second the repeats.",
            )
        if count < SWEEP_PLANES.low:
            raise DataError(
                f"The sweep has {count} planes; at least {SWEEP_PLANES.low:g} are needed to follow a pattern.",
                "Sweep with a smaller step, or check that the first axis of the file is z.",
            )
        SWEEP_PLANES.check(count)
        REPEATS.check(self.planes.shape[1])
        PIXEL_SIZE_UM.check(self.pixel_size_um)
        if not np.all(np.isfinite(self.z_um)):
            raise DataError("The sweep positions contain values that are not numbers.", "Check the start and the step.")
        for position in (self.z_um.min(), self.z_um.max()):
            STAGE_UM.check(float(position))
        steps = np.diff(self.z_um)
        if np.any(steps == 0) or np.any(np.sign(steps) != np.sign(steps[0])):
            raise DataError(
                f"The sweep positions go back and forth (steps from {steps.min():g} to {steps.max():g} µm); "
                "a sweep goes one way.",
                "Sort the planes by position, and leave out doubled ones (repeats are the second axis).",
            )
        if np.abs(steps - steps.mean()).max() > 0.1 * abs(steps.mean()):
            raise DataError(
                f"The steps of the sweep vary from {steps.min():g} to {steps.max():g} µm; they must be even to 10 %.",
                "Sweep with a constant step, and let the drive settle at each plane.",
            )
        Z_STEP_UM.check(abs(float(steps.mean())))

    @classmethod
    def from_steps(
        cls,
        planes: NDArray[Any],
        *,
        pixel_size_um: float,
        z_step_um: float,
        z_start_um: float | None = None,
        bit_depth: int = 16,
    ) -> Self:
        """Build a sweep from planes at even steps.

        Parameters
        ----------
        planes : ndarray of uint16, shape (Z, H, W) or (Z, R, H, W)
            Camera counts.
        pixel_size_um, z_step_um : float
            Camera pixel at the sample and step of the sweep, µm.
        z_start_um : float, optional
            Sweep coordinate of the first plane, µm; 0 when not given.
        bit_depth : int
            Bits of a count.

        Raises
        ------
        DataError
            When step, start or axes make no sense.
        """
        if not np.isfinite(z_step_um) or z_step_um <= 0:
            raise DataError(
                f"The step of the sweep is {z_step_um} µm; it must be positive.",
                "Give the distance between planes as a positive number; a sweep that runs toward the objective "
                "is stated with --flip-z.",
            )
        Z_STEP_UM.check(z_step_um)
        start = 0.0 if z_start_um is None else z_start_um
        stack = planes[:, None] if planes.ndim == 3 else planes
        return cls(stack, start + z_step_um * np.arange(len(planes), dtype=np.float64), pixel_size_um, bit_depth)

    @property
    def z_step_um(self) -> float:
        """Mean distance between planes, µm; negative when the sweep goes down."""
        return float(np.diff(self.z_um).mean())

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return (self.planes.shape[2], self.planes.shape[3])

    @cached_property
    def saturation_adu(self) -> int:
        """The count at the top of the camera's range, ADU, as the counts show it."""
        return top_of_range(self.planes, self.bit_depth)

    def mean_plane(self, index: int) -> NDArray[np.float32]:
        """Mean of the repeats of one plane, ADU, shape (H, W)."""
        return self.planes[index].mean(axis=0, dtype=np.float32)  # type: ignore[no-any-return]

    def mean_planes(self) -> NDArray[np.float32]:
        """Means of the repeats of all planes, ADU, shape (Z, H, W)."""
        return np.stack([self.mean_plane(index) for index in range(len(self.planes))])

    def check_exposure(self) -> None:
        """Reject a sweep that is overexposed or empty.

        Raises
        ------
        DataError
            When many pixels are at the top of the range, or all counts are equal.
        """
        if self.planes.min() == self.planes.max():
            raise DataError(
                f"Every pixel of the sweep has the count {self.planes.min()}; a sweep shows beads.",
                "Open the shutter, check the light and the file.",
            )
        top = self.saturation_adu
        share = max(float((plane >= top).mean()) for plane in self.planes)
        if share > _SATURATED_SHARE:
            raise DataError(
                f"{share:.0%} of the pixels of a plane are saturated (count {top}); "
                f"at most {_SATURATED_SHARE:.0%} may be.",
                "Lower the exposure or the light and sweep again.",
            )

    def focus_curve(self) -> FocusCurve:
        """Sharpness of each plane, and its maximum.

        Beads are points, so the plane has most fine detail where they are in focus.

        Raises
        ------
        DataError
            When nothing changes with focus.
        """
        energy = np.empty(len(self.planes))
        for index in range(len(self.planes)):
            energy[index] = fine_detail(self.mean_plane(index))
        if energy.max() <= _LEAST_FOCUS_CONTRAST * np.median(energy):
            raise DataError(
                "Nothing changes with focus: the sharpest plane has "
                f"{energy.max() / max(np.median(energy), 1e-12):.2f} times the fine detail of "
                f"the median plane, at least {_LEAST_FOCUS_CONTRAST} is needed.",
                "Check that the focus drive moved, that its range includes the focus, and that beads are in the field.",
            )
        sharpness = energy / energy.max()
        best = int(sharpness.argmax())
        at_end = best in (0, len(sharpness) - 1)
        return FocusCurve(sharpness, fit_peak(self.z_um, sharpness), at_end)


def fine_detail(plane: NDArray[np.float32]) -> float:
    """Variance of a plane (H, W) between two scales: difference of Gaussians with 1 and 3 pixels."""
    detail = ndimage.gaussian_filter(plane, 1.0) - ndimage.gaussian_filter(plane, 3.0)
    return float(np.mean(detail.astype(np.float64) ** 2))


def fit_peak(z_um: NDArray[np.float64], sharpness: NDArray[np.float64]) -> float:
    """Peak of a sharpness curve between its samples, µm.

    A parabola through the logarithm of all neighbouring samples above half of
    the highest (a Gaussian peak is a parabola there), at least three.
    """
    best = int(sharpness.argmax())
    first, last = best, best
    while first > 0 and sharpness[first - 1] > 0.5 * sharpness[best]:
        first -= 1
    while last < len(sharpness) - 1 and sharpness[last + 1] > 0.5 * sharpness[best]:
        last += 1
    first, last = max(min(first, best - 1), 0), min(max(last, best + 1), len(sharpness) - 1)
    if last - first < 2:
        return float(z_um[best])
    centred = z_um[first : last + 1] - z_um[best]
    heights = np.log(np.maximum(sharpness[first : last + 1], 1e-6 * sharpness[best]))
    # A lower limit of the weights keeps the equations of three samples independent.
    weight = np.maximum(sharpness[first : last + 1] / sharpness[best], 0.05)
    design = np.stack([centred**2, centred, np.ones_like(centred)], axis=1)
    square, slope, _ = np.linalg.lstsq(design * weight[:, None], heights * weight, rcond=None)[0]
    if square >= 0:
        return float(z_um[best])
    return float(z_um[best] + np.clip(-slope / (2 * square), centred[0], centred[-1]))
