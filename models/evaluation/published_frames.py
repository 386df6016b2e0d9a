"""Frames of the published experiments, with their truth: points in a cube, light set by the SNR.

SNR, published form: 10 log10(ΣI² / Σ noise variance) with I the noise-free
signal above background and Poisson noise at scale a, which is
10 log10(a ΣI²/ΣI); the background of 5 % of the mean signal is added on top
(science.md, "Measured here"). Emitters are rendered straight from the optical
integral at continuous places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.noise import detect_electrons
from models.optics import ExactImages

__all__ = ["FRAME_SHAPE", "PublishedFrame", "published_frames"]

FRAME_SHAPE = (256, 256)

_CUBE_UM = 100.0
_BRIGHTNESS = (0.1, 1.0)
_BACKGROUND_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """One frame and its truth.

    Attributes
    ----------
    counts : ndarray of uint16, shape (H, W)
        Photo-electrons, one count each, no offset, no read noise.
    xyz_um : ndarray of float64, shape (N, 3)
    photons : ndarray of float64, shape (N,)
    background_e : float
        Photo-electrons per pixel.
    """

    counts: NDArray[np.uint16]
    xyz_um: NDArray[np.float64]
    photons: NDArray[np.float64]
    background_e: float


def published_frames(
    images: ExactImages, pixel_size_um: float, points: int, snr_db: float, frames: int, seed: int
) -> list[PublishedFrame]:
    """Frames of `points` emitters, uniform in 100 x 100 x 100 µm³ in the middle of the field, intensity U(0.1, 1)."""
    rng = np.random.default_rng([seed, points, round(10 * snr_db) + 1000])
    corner = (np.array(FRAME_SHAPE[::-1]) * pixel_size_um - _CUBE_UM) / 2
    drawn = []
    for _ in range(frames):
        xyz = np.column_stack([corner + rng.random((points, 2)) * _CUBE_UM, rng.random(points) * _CUBE_UM])
        brightness = rng.uniform(*_BRIGHTNESS, points)
        image = np.zeros(FRAME_SHAPE, np.float32)
        images.render(np.column_stack([xyz, brightness]), image)
        power = float(np.square(image).sum(dtype=np.float64)) / float(image.sum(dtype=np.float64))
        scale = 10 ** (snr_db / 10) / power
        background = _BACKGROUND_SHARE * scale * float(image.mean())
        noisy = np.empty(FRAME_SHAPE, np.float32)
        expected = image * np.float32(scale) + np.float32(background)
        detect_electrons(expected, noisy, np.uint64(rng.integers(2**63)), np.float32(0))
        counts = np.clip(noisy, 0, 65535).astype(np.uint16)
        drawn.append(PublishedFrame(counts, xyz, brightness * scale, background))
    return drawn
