"""Result of measuring a camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel

__all__ = ["CameraMeasurement"]


@dataclass(frozen=True)
class CameraMeasurement:
    """Camera and photon-transfer curve, from darks and flats or from a sweep.

    Attributes
    ----------
    camera : CameraModel
        Figures for all pixels.
    hot_pixels : ndarray of int64, shape (N, 2)
        Row and column of hot pixels.
    offset_map_adu, read_noise_map_e : ndarray of float32, shape (H, W), or None
        Per-pixel figures; None when there were too few darks.
    mean_adu, variance_adu2 : ndarray of float64, shape (M,)
        The photon-transfer curve.
    notes : tuple of str
        Notes for the user.
    """

    camera: CameraModel
    hot_pixels: NDArray[np.int64]
    offset_map_adu: NDArray[np.float32] | None
    read_noise_map_e: NDArray[np.float32] | None
    mean_adu: NDArray[np.float64]
    variance_adu2: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the maps are not part of them."""
        return {
            "camera": self.camera.as_dict(),
            "hot_pixels": [[int(row), int(column)] for row, column in self.hot_pixels],
            "photon_transfer": {
                "mean_adu": [float(v) for v in self.mean_adu],
                "variance_adu2": [float(v) for v in self.variance_adu2],
            },
            "notes": list(self.notes),
        }
