"""From positions of a focus drive to depth in the sample.

Depth is positive away from the objective. Drives count along the axis that
points from the objective into the sample, whatever they carry. An objective
that moves along it takes the focal plane with it, so what lies still in the
sample comes nearer to the objective's side of focus: depth falls. A sample
that moves along it carries everything away from the objective: depth grows.

Either way the layer of immersion changes by the drive's step, and refraction
at the cover slip turns that into a larger step of the focal plane: sample
index over immersion index, for rays near the axis (Hell et al., J. Microsc.
169, 391, 1993).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

__all__ = ["DepthAxis", "depth_axis"]


@dataclass(frozen=True, slots=True)
class DepthAxis:
    """``z_um = sign * axial_scale * (stage_um - focus_um)``.

    Attributes
    ----------
    sign : int
        +1 when depth grows with the drive's position, -1 when it falls.
    axial_scale : float
        Depth per step of the drive.
    """

    sign: int
    axial_scale: float

    def depth(self, stage_um: NDArray[Any] | float, focus_um: float) -> NDArray[np.float64]:
        """Depth of a particle that lies still and is in focus at `focus_um`, µm."""
        return self.sign * self.axial_scale * (np.asarray(stage_um, np.float64) - focus_um)

    def stage(self, z_um: float, focus_um: float) -> float:
        """Position of the drive that brings such a particle to depth `z_um`, µm."""
        return focus_um + self.sign * z_um / self.axial_scale


def depth_axis(moves: Literal["objective", "sample"] | None, immersion_index: float, sample_index: float) -> DepthAxis:
    """Sign and scale of depth from the settings of the microscope.

    Raises
    ------
    DataError
        When `moves` is missing or an index is below 1.
    """
    if moves not in ("objective", "sample"):
        raise DataError(
            f"The setting microscope.moves is {moves or 'not made'}; it must be objective or sample: "
            "it fixes the sign of depth.",
            "State in the settings what the focus drive moves.",
        )
    if not (np.isfinite(immersion_index) and np.isfinite(sample_index)) or min(immersion_index, sample_index) < 1:
        raise DataError(
            f"The refractive indices are {immersion_index} (immersion) and {sample_index} (sample); none is below 1.",
            "Set them in the microscope's settings: 1 for air, 1.33 for water, 1.52 for oil and glass.",
        )
    return DepthAxis(-1 if moves == "objective" else 1, sample_index / immersion_index)
