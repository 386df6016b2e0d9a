"""A small optics and a movie of a few emitters, for tests of the image filter."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit.image_levels import ImageOptics
from models.fit.missed import MissedEmitters
from models.fit.scale import fit_range_um
from models.optics import Objective, computed_psf
from models.tables import Localizations
from models.tracking.image_tracker import ImageModel
from tests.models.joint_fit_scenes import READ_NOISE_E, expected_frame, noisy_frame

CAMERA = CameraModel(100.0, 1.0, READ_NOISE_E, 16, "samples")
DEPTHS_UM = (0.0, 30.0)
SHAPE = (96, 96)
FPS = 100.0
SPEED_UM = np.array([0.3, -0.2, 0.1])
"""Per frame."""

START = np.array([[20.0, 25.0, 8.0], [70.0, 30.0, 14.0], [30.0, 70.0, 5.0], [66.0, 72.0, 20.0]])


@cache
def image_model(pixel_um: float = 1.0) -> ImageModel:
    """Of a PSF on pixels of this size, without a field map."""
    psf = computed_psf(Objective(0.45, 0.8, pixel_um), np.arange(-4.0, 31.0))
    optics = ImageOptics(psf, CAMERA)
    return ImageModel(optics, CAMERA, None, DEPTHS_UM, MissedEmitters(optics, fit_range_um(psf, DEPTHS_UM)))


def places_um(frame: int, emitters: int = len(START)) -> NDArray[np.float64]:
    """Positions in a frame, shape (emitters, 3)."""
    return START[:emitters] + SPEED_UM * frame


@cache
def counts(frame: int, emitters: int = len(START)) -> NDArray[np.uint16]:
    """Counts of a frame (H, W)."""
    of = np.column_stack([places_um(frame, emitters), np.full(emitters, 2e4)])
    electrons = noisy_frame(expected_frame(image_model().optics.psf, of, 5.0, SHAPE), frame)
    return np.clip(np.rint(electrons / CAMERA.electrons_per_adu + CAMERA.offset_adu), 0, 65535).astype(np.uint16)


def candidates(frame: int, emitters: int = len(START)) -> Localizations:
    """What a localizer finds: all of them, with errors of 0.5 µm sideways and 2 µm in depth."""
    rng = np.random.default_rng(1000 + frame)
    x_um, y_um, z_um = (places_um(frame, emitters) + rng.normal(0, [0.5, 0.5, 2.0], (emitters, 3))).T
    columns = {name: np.full(emitters, 0.9) for name in Localizations.names()}
    columns |= {"frame": np.full(emitters, frame), "x_um": x_um, "y_um": y_um, "z_um": np.clip(z_um, 0.5, 29.5)}
    columns |= {"sigma_x_um": np.full(emitters, 0.5), "sigma_y_um": np.full(emitters, 0.5)}
    columns |= {"sigma_z_um": np.full(emitters, 2.0), "photons": np.full(emitters, 2e4)}
    return Localizations.from_columns(columns | {"chi2": np.full(emitters, np.nan)})
