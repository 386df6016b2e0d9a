"""Samples for the simulated microscope: moving or fixed emitters, their images through a PSF, and their truth."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.motion import Motion, wandering
from models.optics import REFERENCE_OPTICS, computed_psf, reference_psf
from models.psf import Psf
from models.synthesis import PatternTable

__all__ = ["EmitterScene", "reference_camera", "reference_scene", "slide_scene"]

_REFERENCE_EXPOSURE_S = 0.01
"""Exposure for which brightness is given."""

_BLUR_PX = 0.5
"""An emitter that moves farther than this in one exposure is drawn at several positions along its path."""

_MOST_PLACES = 8

_SLIDE_Z_UM = np.arange(-16.0, 113.0)
"""Depths of the patterns of the slide: a sweep goes farther beyond focus than the reference patterns, µm."""


class EmitterScene:
    """Emitters imaged through a PSF; implements the simulated microscope's `Scene`.

    Moving the focus drive by s lowers every depth by s: the drive is taken to
    move the objective, in air. Moving the XY stage moves the emitters by as much.

    Parameters
    ----------
    psf : Psf
    shape : (H, W) of the sensor
    motion : Motion
        Positions at stage 0, µm.
    photons : ndarray of float64, shape (N,)
        Photo-electrons of each emitter in an exposure of 10 ms.
    background_e : float
        Background in such an exposure, photo-electrons per pixel.
    """

    def __init__(
        self,
        psf: Psf,
        shape: tuple[int, int],
        motion: Motion,
        photons: NDArray[np.float64],
        background_e: float,
    ) -> None:
        self.shape = shape
        self.pixel_size_um = psf.pixel_size_um
        self._table = PatternTable(psf)
        self._motion = motion
        self._photons = photons
        self._background_e = background_e
        # `truth` is called from another thread while a frame is rendered, and a motion may keep state.
        self._lock = threading.Lock()

    def truth(self, time_s: float, stage_um: float, xy_um: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
        """Emitters at `time_s`, shape (N, 4): id, x_um, y_um, z_um from the focal plane."""
        with self._lock:
            xyz = self._motion.positions(time_s)
        return np.column_stack([np.arange(len(xyz), dtype=np.float64), xyz + np.array([*xy_um, -stage_um])])

    def render(
        self, time_s: float, exposure_s: float, stage_um: float, xy_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float32]:
        """Expected photo-electrons, shape (H, W), of an exposure with its middle at `time_s`."""
        light = exposure_s / _REFERENCE_EXPOSURE_S
        image = np.full(self.shape, self._background_e * light, np.float32)
        ends = [self.truth(time_s + half, stage_um, xy_um) for half in (-exposure_s / 2, exposure_s / 2)]
        way_px = float(np.abs(ends[1][:, 1:] - ends[0][:, 1:]).max(initial=0.0)) / self.pixel_size_um
        places = int(np.clip(np.ceil(way_px / _BLUR_PX), 1, _MOST_PLACES))
        for place in range(places):
            share = (place + 0.5) / places
            xyz = ends[0][:, 1:] * (1 - share) + ends[1][:, 1:] * share
            self._table.render(np.column_stack([xyz, self._photons * (light / places)]), image)
        return image


def reference_scene(shape: tuple[int, int] = (256, 256), emitters: int = 20, seed: int = 1) -> EmitterScene:
    """The sample of the demo: emitters that wander through the whole depth range of the reference optics.

    Brightness is uniform over one to a tenth of 100,000 photo-electrons in
    10 ms, background 5 e- per pixel: bright beads on a good sCMOS camera.
    """
    psf = reference_psf()
    width_um, height_um = shape[1] * psf.pixel_size_um, shape[0] * psf.pixel_size_um
    # Beads stay a little inside the field and the depth range, so that each of them can be found.
    box = ((6.0, width_um - 6.0), (6.0, height_um - 6.0), (2.0, 98.0))
    photons = np.random.default_rng([seed, 1]).uniform(1e4, 1e5, emitters)
    return EmitterScene(psf, shape, wandering(emitters, box, seed), photons, background_e=5.0)


def slide_scene(shape: tuple[int, int] = (256, 256), emitters: int = 20, seed: int = 1) -> EmitterScene:
    """Immobile beads on a slide, in focus at stage 0, for the calibration of the simulated microscope.

    They are well separated, as on a good slide: on a grid, each up to a fifth
    of the grid spacing from its node.
    """
    psf = computed_psf(REFERENCE_OPTICS, _SLIDE_Z_UM)
    columns = max(1, round(np.sqrt(emitters * shape[1] / shape[0])))
    rows = max(1, -(-emitters // columns))
    random = np.random.default_rng([seed, 2])
    row, column = np.divmod(np.arange(emitters), columns)
    spacing_um = np.array([shape[1] / columns, shape[0] / rows]) * psf.pixel_size_um
    nodes = np.column_stack([column, row]) + 0.5 + random.uniform(-0.2, 0.2, (emitters, 2))
    places = np.column_stack([nodes * spacing_um, np.zeros(emitters)])
    photons = random.uniform(5e4, 1e5, emitters)
    return EmitterScene(psf, shape, _Immobile(places), photons, background_e=5.0)


class _Immobile:
    """Emitters that do not move; xyz_um of shape (N, 3)."""

    def __init__(self, xyz_um: NDArray[np.float64]) -> None:
        self._xyz_um = xyz_um

    def positions(self, time_s: float) -> NDArray[np.float64]:
        """The constant positions, µm."""
        return self._xyz_um


def reference_camera() -> CameraModel:
    """An sCMOS camera of the common kind: offset 100 ADU, 0.46 e-/ADU, 1.6 e- read noise, 16 bit."""
    return CameraModel(100.0, 0.46, 1.6, 16, "simulated")
