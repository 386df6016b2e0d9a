"""The simulated noisy sweep through hidden optics, and the calibration that every method gets from it.

Twenty beads on a slide in the camera's field, 2-µm steps as published, two
exposures each, so bright that none saturates. The slide is tilted a little,
like real slides. `calibrate` gets only the counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.hidden_optics import FIELD_SHAPE
from evaluation.optics.images import ImageSource
from models.calibration.calibrating import calibrate
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.camera import CameraModel

__all__ = ["SWEEP_SEED", "draw_sweep", "sweep_calibration"]

SWEEP_SEED = 4_502_002
"""Of bead places, brightness and noise; validation and test frames have others."""

_REPEATS = 2
_PHOTONS = (1e5, 2e5)
_BACKGROUND_E = 5.0
_TILT_UM = 0.6


def draw_sweep(
    images: ImageSource,
    camera: CameraModel,
    pixel_size_um: float,
    *,
    z_um: NDArray[np.float64],
    beads: tuple[int, int] = (5, 4),
    shape: tuple[int, int] = FIELD_SHAPE,
    seed: int = SWEEP_SEED,
) -> Sweep:
    """Expose a slide of beads at many focus positions.

    Parameters
    ----------
    images : ImageSource
        What the microscope shows.
    camera : CameraModel
    pixel_size_um : float
    beads : (columns, rows)
        They lie on a grid, each up to a tenth of its spacing beside its node.
    shape : (H, W)
    z_um : ndarray of float64, shape (Z,)
        Focus positions.
    seed : int

    Returns
    -------
    Sweep
    """
    rng = np.random.default_rng(seed)
    columns, rows = beads
    nodes = np.array([(column, row) for row in range(rows) for column in range(columns)], np.float64) + 0.5
    nodes += rng.uniform(-0.1, 0.1, nodes.shape)
    spacing_um = np.array([shape[1] / columns, shape[0] / rows]) * pixel_size_um
    xy = nodes * spacing_um
    photons = rng.uniform(*_PHOTONS, len(xy))
    extent_um = np.array([shape[1], shape[0]]) * pixel_size_um
    height = ((xy / extent_um - 0.5) @ rng.uniform(-1, 1, 2)) * _TILT_UM
    planes = np.empty((len(z_um), _REPEATS, *shape), np.uint16)
    for plane, position in enumerate(z_um):
        expected = np.full(shape, _BACKGROUND_E, np.float32)
        images.render(np.column_stack([xy, height + position, photons]), expected)
        for repeat in range(_REPEATS):
            planes[plane, repeat] = camera.expose(expected, int(rng.integers(2**62)))
    return Sweep(planes, z_um, pixel_size_um, camera.bit_depth)


def sweep_calibration(
    sweep: Sweep,
    camera: CameraModel,
    progress: Callable[[float, str], None] | None = None,
    *,
    z_range_um: tuple[float, float],
    axial_scale: float = 1.0,
) -> Calibration:
    """Calibration of the sweep as `bathyscope calibrate` makes it, with the camera known from darks and flats."""
    return calibrate(sweep, z_range_um=z_range_um, camera=camera, axial_scale=axial_scale, progress=progress)
