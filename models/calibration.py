"""A calibration: what one z-sweep taught about the optics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.psf import Psf

__all__ = ["Calibration", "FieldMap"]


@dataclass(frozen=True, slots=True)
class FieldMap:
    """How depth appears to change over the field: ``z_apparent - z = offset + tilt + curvature`` in µm.

    Attributes
    ----------
    centre_um : (x, y) of the field's centre
    half_width_um : scale that makes u = (x - cx)/half_width of order 1
    tilt_um : (per u, per v): taken to be the sample's, so it is reported but not removed from depths
    curvature_um : (u², u v, v², mean): taken to be the optics', removed from depths
    """

    centre_um: tuple[float, float]
    half_width_um: float
    tilt_um: tuple[float, float]
    curvature_um: tuple[float, float, float, float]


@dataclass(frozen=True)
class Calibration:
    """PSF, focus, field and camera learned from one z-sweep. See contracts.md for the meaning of each figure."""

    id: str
    psf: Psf
    z_range_um: tuple[float, float]
    camera: CameraModel
    field: FieldMap | None
    focus_um: float
    sweep_z_um: NDArray[np.float64]
    axial_scale: float
    sign: int
    size_variation: float
    report: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write calibration.json, psf.zarr and the report."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what `save` wrote."""
        raise NotImplementedError
