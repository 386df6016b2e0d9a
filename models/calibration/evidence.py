"""Images and curves of a sweep for the report of a calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.beads import Bead
from models.calibration.sweep import FocusCurve

__all__ = ["Evidence"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Images and curves of the report.

    Attributes
    ----------
    field_image : ndarray of float32, shape (H, W)
        Brightest value of each pixel around focus, photo-electrons.
    beads : tuple of Bead
        All candidates, accepted or rejected with a reason.
    thumbnails : ndarray of float32, shape (B, 3, n, n)
        Cut-outs of the candidates near the low end, in focus and at the high end.
    thumbnail_z_um : tuple of float
        Their depths.
    focus : FocusCurve
        Sharpness over the sweep.
    sweep_um, z_um : ndarray of float64, shape (Z,)
        Sweep positions and depths of the planes.
    light : ndarray of float64, shape (Z,)
        Light of the beads at each plane, relative to the median plane.
    walk_um : ndarray of float64, shape (Z, 2)
        Lateral drift, µm.
    residual_um : ndarray of float64, shape (B, Z)
        Apparent minus true depth of each used bead; NaN where not fitted.
    notes : tuple of str
        Notes for the user.
    """

    field_image: F32
    beads: tuple[Bead, ...]
    thumbnails: F32
    thumbnail_z_um: tuple[float, ...]
    focus: FocusCurve
    sweep_um: F64
    z_um: F64
    light: F64
    walk_um: F64
    residual_um: F64
    notes: tuple[str, ...]
