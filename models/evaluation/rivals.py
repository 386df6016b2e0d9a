"""Are the rivals strong? Isolated emitters against the Cramér-Rao bound, and how fast the fits are.

A rival that is beaten must have been at its best. For one emitter alone, with
the exact PSF, there is nothing that a maximum-likelihood fit could do wrong
but its spline, its region, its valley and its stopping; so its errors in
units of the bound say what is left on the table. Nothing is gated: an answer
in a wrong valley counts with its whole error in the root mean square, and
beside it the median says how good the others are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bounds import JointBounds
from models.camera import CameraModel
from models.fitting.spot_fitter import SpotFitter
from models.noise import detect_electrons
from models.optics import ExactImages, Objective
from models.psf import Psf

__all__ = ["IsolatedErrors", "fits_per_second", "isolated_errors", "isolated_frame"]

Array = NDArray[np.float64]

_BACKGROUND_SHARE = 0.05
"""Of the mean signal, as in the published frames."""

_MEDIAN_OF_NORMAL = 0.6745
"""Median of the absolute value of a standard normal variable."""


@dataclass(frozen=True, slots=True)
class IsolatedErrors:
    """Errors of a method on single emitters of one depth slice, in units of the bound.

    Attributes
    ----------
    z_um : (low, high)
    frames : int
    found : float
        Share of the frames with an answer.
    surplus : float
        Further answers per frame.
    lateral, axial : float
        Root mean square of error over bound; 1 is the bound.
    lateral_median, axial_median : float
        The same from the median, for a normal distribution.
    sigma_lateral_um, sigma_axial_um : float
        Median bounds.
    photons : float
        Median.
    """

    z_um: tuple[float, float]
    frames: int
    found: float
    surplus: float
    lateral: float
    axial: float
    lateral_median: float
    axial_median: float
    sigma_lateral_um: float
    sigma_axial_um: float
    photons: float


def isolated_frame(
    images: ExactImages, pixel_um: float, shape: tuple[int, int], z_um: float, snr_db: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], Array, float]:
    """One emitter near the middle of a frame, at an SNR of the published form.

    Returns
    -------
    counts : ndarray of uint16, shape (H, W)
        Photo-electrons, one count each.
    emitter : ndarray of float64, shape (4,)
        x, y, z in µm and photo-electrons.
    background_e : float
    """
    middle = (np.array(shape[::-1]) - 1) / 2 * pixel_um
    x_um, y_um = middle + rng.uniform(-5, 5, 2)
    image = np.zeros(shape, np.float32)
    images.render(np.array([[x_um, y_um, z_um, 1.0]]), image)
    photons = 10 ** (snr_db / 10) * float(image.sum()) / float((image.astype(np.float64) ** 2).sum())
    background = _BACKGROUND_SHARE * photons * float(image.mean())
    noisy = np.empty(shape, np.float32)
    expected = image * np.float32(photons) + np.float32(background)
    detect_electrons(expected, noisy, np.uint64(rng.integers(2**63)), np.float32(0))
    return np.clip(noisy, 0, 65535).astype(np.uint16), np.array([x_um, y_um, z_um, photons]), background


def isolated_errors(
    fitter: SpotFitter,
    objective: Objective,
    psf: Psf,
    snr_db: float,
    slices_um: tuple[tuple[float, float], ...],
    frames: int,
    shape: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> list[IsolatedErrors]:
    """Errors by depth slice, `frames` frames in each; the answer of a frame is its best one.

    `psf` is that of `objective`, for the bounds.
    """
    bounds = JointBounds(psf)
    images = ExactImages(objective, (0.0, max(high for _, high in slices_um)))
    rows = []
    for low, high in slices_um:
        rng = np.random.default_rng([seed, round(10 * low), round(10 * snr_db) + 1000])
        ratios, sigmas, photons, answers = [], [], [], 0
        for _ in range(frames):
            z_um = rng.uniform(low, high)
            counts, emitter, background = isolated_frame(images, psf.pixel_size_um, shape, z_um, snr_db, rng)
            found = fitter(counts[None], np.zeros(1, np.int64))
            answers += len(found)
            sigma = bounds.of_frame(emitter[None], background, 0.0, shape).sigma[0, :3]
            sigmas.append(sigma)
            photons.append(emitter[3])
            if len(found):
                best = int(found.probability.argmax())
                ratios.append((found.xyz_um[best] - emitter[:3]) / sigma)
        ratio = np.array(ratios).reshape(-1, 3)
        lateral, axial = ratio[:, :2].ravel(), ratio[:, 2]
        rows.append(
            IsolatedErrors(
                (low, high),
                frames,
                len(ratio) / frames,
                (answers - len(ratio)) / frames,
                _rms(lateral),
                _rms(axial),
                _from_median(lateral),
                _from_median(axial),
                float(np.median(np.array(sigmas)[:, :2])),
                float(np.median(np.array(sigmas)[:, 2])),
                float(np.median(photons)),
            )
        )
    return rows


def fits_per_second(
    fitter: SpotFitter, objective: Objective, pixel_um: float, z_um: float, shape: tuple[int, int], count: int = 20
) -> float:
    """Fits a second of processor time at one depth and full resolution, each with its own spline; without detection."""
    images = ExactImages(objective, (0.0, z_um + 1.0))
    counts, emitter, background = isolated_frame(images, pixel_um, shape, z_um, 20.0, np.random.default_rng(1))
    data = CameraModel().to_electrons(counts)
    start = np.array([emitter[0] / pixel_um, emitter[1] / pixel_um, z_um, emitter[3], background])
    fitter.fit_at(data, start[None])
    begun = time.process_time()
    fitter.fit_at(data, np.repeat(start[None], count, axis=0))
    return count / max(time.process_time() - begun, 1e-9)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def _from_median(values: Array) -> float:
    return float(np.median(np.abs(values))) / _MEDIAN_OF_NORMAL if len(values) else float("nan")
