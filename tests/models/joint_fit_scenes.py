"""Frames for tests of the joint fit, made by `Psf.image`: interpolated by scipy, and not cropped."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.optics import Objective, computed_psf
from models.psf import Psf
from models.tables import Localizations

READ_NOISE_E = 1.6
BACKGROUND_E = 5.0

SHAPE = (192, 192)
SMALL = (96, 96)
"""Enough for `asymmetric_psf`."""

Array = NDArray[np.float64]

CROWD = np.array(
    [
        [40.2, 41.7, 8.3, 3e4],
        [47.4, 40.1, 14.2, 4e4],
        [36.0, 47.0, 20.0, 4e4],
        [70.3, 20.4, 1.2, 5e3],
        [93.9, 50.8, 6.0, 2e4],
        [60.0, -3.0, 15.0, 4e4],
    ]
)
"""Bright emitters in a `SMALL` frame of `sharp_psf`; the last two are at an edge and outside."""


@cache
def sharp_psf() -> Psf:
    """As sharp as that of the reference optics, on pixels of 1 µm."""
    return computed_psf(Objective(0.45, 0.8, 1.0), np.arange(-4.0, 31.0))


def nearby(emitters: Array, seed: int = 5) -> Array:
    """Emitters near the true ones, as in the middle of a fit."""
    return emitters + np.random.default_rng(seed).normal(0, [0.3, 0.3, 0.3, 500.0], emitters.shape)


def expected_frame(
    psf: Psf, emitters: Array, background: float = BACKGROUND_E, shape: tuple[int, int] = SHAPE
) -> Array:
    """Expected photo-electrons of emitters (N, 4), x, y, z in µm and photons."""
    expected = np.full(shape, background)
    for x_um, y_um, z_um, photons in emitters:
        expected += photons * psf.image(x_um, y_um, z_um, shape)
    return expected


def noisy_frame(expected: Array, seed: int) -> NDArray[np.float32]:
    """A frame with photon and read noise."""
    random = np.random.default_rng(seed)
    light = random.poisson(np.maximum(expected, 0))
    return (light + random.normal(0, READ_NOISE_E, expected.shape)).astype(np.float32)


def network_detections(emitters: Array, frame: int = 3) -> Localizations:
    """Detections of a network at emitters (N, 4), with probability 0.5."""
    values = np.asarray(emitters, np.float64).reshape(-1, 4)
    columns: dict[str, Any] = {name: np.full(len(values), 0.5) for name in Localizations.names()}
    columns |= {"frame": np.full(len(values), frame), "background": np.full(len(values), 3.0)}
    columns |= dict(zip(("x_um", "y_um", "z_um", "photons"), values.T, strict=True))
    return Localizations.from_columns(columns)


def above_half(found: Localizations) -> Localizations:
    """Localizations with a probability above 0.5."""
    return found.select(found.probability > 0.5)


def asymmetric_psf() -> Psf:
    """Rings beyond focus and discs before it, as with spherical aberration; 1-µm pixels and planes."""
    steps = np.arange(-24, 25) / 2
    radius = np.hypot(steps[:, None], steps[None, :])
    z_um = np.arange(-20.0, 31.0)
    width = 1.2 + 0.3 * np.abs(z_um)[:, None, None]
    disc = 1 / (1 + np.exp(np.clip(4 * (radius - width), -50, 50)))
    ring = np.exp(-2 * (radius - width) ** 2)
    part = np.clip(0.5 + z_um / 10, 0.0, 1.0)[:, None, None]
    planes = part * ring / ring.sum(axis=(1, 2), keepdims=True) + (1 - part) * disc / disc.sum(
        axis=(1, 2), keepdims=True
    )
    return Psf((planes * 4).astype(np.float32), z_um, 1.0, 2)
