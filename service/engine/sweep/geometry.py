"""Geometry of a sweep: sign and scale of depth, and the pixel size at the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from models.calibration.depth_axis import DepthAxis, depth_axis
from models.errors import DataError

if TYPE_CHECKING:
    from hardware.microscope import Microscope, MicroscopeDescription
    from service.settings import MicroscopePart

__all__ = ["axis_of", "pixel_size_of"]


def axis_of(part: MicroscopePart, description: MicroscopeDescription) -> DepthAxis:
    """The relation of drive position and depth; for the simulated microscope it is known.

    The sign comes from `moves`, or from the direction of the drive in the microscope's configuration (Micro-Manager's
    FocusDirection); when both are given, they must agree.

    Raises
    ------
    DataError
        When neither gives the sign, or they contradict each other.
    """
    moves = part.moves_of(description.focus_stage)
    if description.driver == "simulated" and moves is None:
        return depth_axis("objective", 1.0, 1.0)  # as the simulated scene is rendered
    direction = description.focus_direction
    # A drive that brings objective and sample together makes depth fall, whichever of the two it moves.
    following: Literal["objective", "sample"] | None = None
    if direction != 0:
        following = "objective" if direction > 0 else "sample"
    if moves is not None and following is not None and moves != following:
        raise DataError(
            f"The sign of depth is stated twice and differently: microscope.moves is {moves}, but FocusDirection "
            f"of {description.focus_stage} is {direction} in Micro-Manager's configuration, which means that a higher "
            f"position {'brings objective and sample together' if direction > 0 else 'takes them apart'} "
            f"(as moves = {following} does).",
            "Raise the drive a little and see what happens, then correct the wrong one: without moves FocusDirection "
            "decides; with FocusDirection 0 (unknown) moves decides.",
        )
    return depth_axis(moves or following, part.immersion_index, part.sample_index)


def pixel_size_of(microscope: Microscope, stated_um: float | None) -> float:
    """Size of a binned camera pixel at the sample, µm: as known to the microscope, or as stated.

    Raises
    ------
    DataError
        When it is neither known nor stated, or both differ.
    """
    known = microscope.description.pixel_size_um
    if known is not None:
        known *= microscope.camera_settings.binning
    if known is None and stated_um is None:
        raise DataError(
            "The microscope does not state its pixel size at the sample.",
            "State it, or set the pixel size in Micro-Manager.",
        )
    if known is not None and stated_um is not None and abs(stated_um / known - 1) > 0.01:
        raise DataError(
            f"The pixel size is stated to be {stated_um:g} µm, but {known:g} µm according to the "
            "microscope; they must agree to 1 %.",
            "Correct the one that is wrong.",
        )
    return float(stated_um if stated_um is not None else known)  # type: ignore[arg-type]
