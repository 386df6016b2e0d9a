"""Sweeps of beads whose truth is known, for the tests of calibration.

The pattern is a flat-topped disc above focus and a Gaussian below, so the
two sides of focus differ and a reversed sweep can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.sweep import Sweep
from models.camera import CameraModel

Looks = Callable[[NDArray[np.float64], NDArray[np.float64], float], NDArray[np.float64]]

PIXEL_UM = 1.0
CAMERA = CameraModel(100.0, 2.0, 3.0, 16, "simulated")


@dataclass(frozen=True)
class Truth:
    """What the sweep was made of."""

    positions_px: NDArray[np.float64]
    heights_um: NDArray[np.float64]
    focus_um: float


def pattern(dx: NDArray[np.float64], dy: NDArray[np.float64], z_um: float, size: float = 1.3) -> NDArray[np.float64]:
    """Share of the light in each pixel of a bead at depth z."""
    sigma = np.hypot(size, 0.25 * z_um)
    blend = float(np.clip(z_um / 6, 0, 1))
    radius = (dx**2 + dy**2) / (2 * sigma**2)
    # A flat top that is 1.26 times wider is as concentrated as the Gaussian, so both sides are equally sharp.
    values = (1 - blend) * np.exp(-radius) + blend * np.exp(-((radius / 1.26**2) ** 2)) / 1.4
    return values / values.sum()


def astigmatic_pattern(dx: NDArray[np.float64], dy: NDArray[np.float64], z_um: float) -> NDArray[np.float64]:
    """Share of the light in each pixel of a bead at depth z: a line along y at 4 µm, along x at -4 µm."""
    across_x, across_y = (1.3 * np.hypot(1, (z_um - line) / 3.5) for line in (4.0, -4.0))
    values = np.exp(-(dx**2) / (2 * across_x**2) - dy**2 / (2 * across_y**2))
    return values / values.sum()


def simulate(
    *,
    beads: int = 12,
    shape: tuple[int, int] = (176, 176),
    z_um: NDArray[np.float64] | None = None,
    focus_um: float = 2.3,
    photons: float = 60_000.0,
    tilt_um: tuple[float, float] = (0.0, 0.0),
    walk_px_per_um: tuple[float, float] = (0.0, 0.0),
    bleaching: float = 0.0,
    repeats: int = 1,
    noise: bool = True,
    sign: int = 1,
    camera: CameraModel = CAMERA,
    seed: int = 3,
    looks: Looks = pattern,
) -> tuple[Sweep, Truth]:
    """A sweep of beads on a jittered grid, tilted, walking and bleaching as told."""
    random = np.random.default_rng(seed)
    stage = np.arange(-6.0, 21.0) if z_um is None else z_um
    side = int(np.ceil(np.sqrt(beads)))
    pitch = np.array([shape[1], shape[0]]) / side
    cells = [(column, row) for row in range(side) for column in range(side)][:beads]
    positions = (np.array(cells) + 0.5) * pitch + random.uniform(-2, 2, (beads, 2))
    centred = (positions - np.array([shape[1], shape[0]]) / 2) / (max(shape) / 2)
    heights = centred @ np.array(tilt_um)
    brightness = photons * random.uniform(0.7, 1.3, beads)
    rows, columns = np.indices(shape)
    planes = np.empty((len(stage), repeats, *shape), np.uint16)
    for index, position in enumerate(stage):
        depth = sign * (position - focus_um)
        walk = np.array(walk_px_per_um) * depth
        image = np.full(shape, 20.0)
        for (x, y), height, light in zip(positions, heights, brightness, strict=True):
            image += (
                light
                * (1 - bleaching * index / len(stage))
                * looks(columns - x - walk[0], rows - y - walk[1], depth + height)
            )
        for repeat in range(repeats):
            planes[index, repeat] = (
                camera.expose(image.astype(np.float32), seed * 1000 + index * 10 + repeat) if noise else np.round(image)
            )
    return Sweep(planes, stage, PIXEL_UM), Truth(positions, heights, focus_um)
