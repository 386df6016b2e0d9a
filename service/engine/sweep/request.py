"""The request of a sweep, and its size: planes, memory and disk, checked before the drive moves.

A step in the wrong unit would give a million planes. So the size is computed
here from the request alone, and compared with the free memory and disk; the
positions of the drive come from the same range.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from models.calibration.depth_axis import DepthAxis
from models.errors import DataError
from models.memory import require_memory
from models.quantities import DEPTH_UM, EXPOSURE_S, PIXEL_SIZE_UM, REPEATS, SETTLE_S, SWEEP_PLANES, Z_STEP_UM

__all__ = ["SweepRequest", "SweepSize"]

# Planes beyond focus that make its peak visible when the wanted range begins there, and margin at the far end, µm.
_BEYOND_FOCUS_UM = 8.0
_BEYOND_END_UM = 3.0

_BYTES_PER_COUNT = 2
_COMPUTING_BYTES = 24
"""Memory of the computation for each pixel of each plane: the mean counts, the electrons and their copies (float32)."""

_GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class SweepSize:
    """How large a sweep becomes, at most.

    Attributes
    ----------
    planes, repeats : int
        Positions of the drive, and exposures at each.
    shape : (int, int)
        Rows and columns of a frame.
    """

    planes: int
    repeats: int
    shape: tuple[int, int]

    @property
    def frame_bytes(self) -> int:
        """Of one exposure."""
        return math.prod(self.shape) * _BYTES_PER_COUNT

    @property
    def total_bytes(self) -> int:
        """Of all exposures."""
        return self.planes * self.repeats * self.frame_bytes

    @property
    def computing_bytes(self) -> int:
        """Memory that the calibration needs in addition to the exposures."""
        return self.planes * math.prod(self.shape) * _COMPUTING_BYTES

    def __str__(self) -> str:
        """Planes and bytes as text."""
        rows, columns = self.shape
        return (
            f"{self.planes} planes of {self.repeats} exposures of {columns} x {rows} pixels, "
            f"{self.total_bytes / _GIGABYTE:.3g} GB"
        )

    def check_memory(self, *, exposures_too: bool) -> None:
        """Refuse a sweep whose calibration needs more memory than is free.

        Parameters
        ----------
        exposures_too : bool
            Whether the exposures are kept in memory, not in a file.

        Raises
        ------
        DataError
            With planes and bytes.
        """
        needed = self.computing_bytes + (self.total_bytes if exposures_too else 0)
        require_memory(
            needed,
            f"The sweep would have {self}; its calibration",
            "Choose a larger step, a smaller z-range, fewer repeats or a region of the sensor.",
        )

    def check_disk(self, folder: Path, floor_gb: float, *, written: int = 0) -> None:
        """Refuse a sweep that would not leave `floor_gb` (1 GB = 10^9 bytes) free on the disk of `folder`.

        Parameters
        ----------
        folder : Path
        floor_gb : float
        written : int
            Bytes of the sweep that are already written.

        Raises
        ------
        DataError
            With planes and bytes.
        """
        free = shutil.disk_usage(folder).free
        if free + written - self.total_bytes < floor_gb * _GIGABYTE:
            raise DataError(
                f"The sweep would have {self}; {free / _GIGABYTE:.3g} GB are free in {folder}, and "
                f"{floor_gb:g} GB are left free (engine.free_space_floor_gb).",
                "Free some space, or choose a larger step, a smaller z-range, fewer repeats or a region of the sensor.",
            )


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """Range, step and exposures of a sweep.

    Attributes
    ----------
    z_range_um : (low, high)
        Depths that the sweep covers, µm from focus.
    z_step_um : float
        Step of the drive, µm.
    repeats : int
        Exposures at each plane.
    settle_s : float
        Wait after each move, s.
    pixel_size_um : float or None
        Camera pixel at the sample, where the microscope does not state it.
    exposure_s : float or None
        Exposure of the sweep; None: the present one.
    """

    z_range_um: tuple[float, float]
    z_step_um: float
    repeats: int = 2
    settle_s: float = 0.05
    pixel_size_um: float | None = None
    exposure_s: float | None = None

    def check(self) -> None:
        """Refuse values that are out of range.

        Raises
        ------
        DataError
            For a value beyond its plausible range, or a range of depths that is not rising.
        """
        Z_STEP_UM.check(self.z_step_um)
        for depth_um in self.z_range_um:
            DEPTH_UM.check(depth_um, "the z-range")
        if self.z_range_um[0] >= self.z_range_um[1]:
            raise DataError(
                f"The z-range is {self.z_range_um[0]:g} to {self.z_range_um[1]:g} µm; its low end must be below its "
                "high end.",
                "Give the low and the high end, for example 0 and 40 µm.",
            )
        REPEATS.check(self.repeats)
        SETTLE_S.check(self.settle_s)
        for quantity, value in ((PIXEL_SIZE_UM, self.pixel_size_um), (EXPOSURE_S, self.exposure_s)):
            if value is not None:
                quantity.check(value)

    @property
    def covered_um(self) -> tuple[float, float]:
        """Depths of the sweep where the limits allow: the range, focus and a margin, µm from focus."""
        low, high = self.z_range_um
        return min(low - _BEYOND_END_UM, -_BEYOND_FOCUS_UM), max(high + _BEYOND_END_UM, _BEYOND_FOCUS_UM)

    def size(self, axis: DepthAxis, shape: tuple[int, int]) -> SweepSize:
        """How large the sweep becomes at most, for frames of `shape` (H, W).

        Raises
        ------
        DataError
            For a value out of range (see `check`), or a number of planes that no calibration has.
        """
        self.check()
        low, high = self.covered_um
        # One more than the whole steps, because the ends of the range may lie between two steps.
        planes = math.ceil((high - low) / axis.axial_scale / self.z_step_um - 1e-9) + 1
        size = SweepSize(planes, self.repeats, shape)
        if not SWEEP_PLANES.holds(planes):
            raise DataError(
                f"The sweep would have {size}; plausible numbers of planes are {SWEEP_PLANES.low:g} to "
                f"{SWEEP_PLANES.high:g} ({SWEEP_PLANES.reason}).",
                f"Choose a {'larger' if planes > SWEEP_PLANES.high else 'smaller'} step (now {self.z_step_um:g} µm) or "
                "another z-range; both are in µm.",
            )
        return size
