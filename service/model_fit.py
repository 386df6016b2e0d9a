"""Whether a model fits the optics that are there: the pixel size at the sample, and the bits of a count.

The engine refuses to track with a model that does not fit; the list of models
states the same reasons before one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.camera import contradicts_depth
from models.errors import DataError

__all__ = ["ModelOptics", "PresentOptics", "misfits"]

_PIXEL_TOLERANCE = 0.02
"""Largest difference of the pixel size, which shifts depth by the same share; smaller ones come from rounding."""


@dataclass(frozen=True, slots=True)
class ModelOptics:
    """The optics that a model was made for.

    Attributes
    ----------
    id : of the model
    pixel_size_um : camera pixel at the sample, µm
    bit_depth : bits of a count of its camera
    """

    id: str
    pixel_size_um: float
    bit_depth: int


@dataclass(frozen=True, slots=True)
class PresentOptics:
    """The optics of the microscope as it is set.

    Attributes
    ----------
    pixel_size_um : binned camera pixel at the sample, µm; None: not known
    bit_depth : bits of a count
    """

    pixel_size_um: float | None
    bit_depth: int


def misfits(model: ModelOptics, present: PresentOptics) -> list[DataError]:
    """Why the model does not fit, each with its remedy; empty when it fits."""
    found = []
    pixel_um = present.pixel_size_um
    if pixel_um is not None and abs(pixel_um / model.pixel_size_um - 1) > _PIXEL_TOLERANCE:
        found.append(
            DataError(
                f"The camera has {pixel_um:g} µm per pixel at the sample; the model {model.id} "
                f"was made for {model.pixel_size_um:g} µm.",
                "Calibrate and train at this objective and binning, or choose another model.",
            )
        )
    if contradicts_depth(model.bit_depth, present.bit_depth):
        found.append(
            DataError(
                f"The camera counts with {present.bit_depth} bits; the model {model.id} was made for a camera with "
                f"{model.bit_depth} bits, and offset and gain do not carry over.",
                "Set the camera to that bit depth, or calibrate and train with this one.",
            )
        )
    return found
