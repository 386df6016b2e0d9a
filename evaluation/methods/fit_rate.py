"""Speed of the baselines' fits without their detection. `isolated` measures their errors."""

from __future__ import annotations

import time

import numpy as np

from evaluation.experiments.isolated import isolated_frames
from evaluation.methods.spot_fitter import SpotFitter
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import PUBLISHED_CAMERA, Snr

__all__ = ["fits_per_second"]

_LIGHT = Snr(20.0)


def fits_per_second(
    fitter: SpotFitter, optics: BenchmarkOptics, z_um: float, shape: tuple[int, int], count: int = 20
) -> float:
    """Fits a second of processor time at one depth and full resolution, each with its own spline; without detection."""
    frames = isolated_frames(optics, (z_um, z_um), _LIGHT, 1, np.random.default_rng(1), shape)
    data = PUBLISHED_CAMERA.to_electrons(frames.counts[0])
    x_um, y_um, _, photons = frames.emitters[0][0]
    place = np.array([x_um, y_um]) / optics.pixel_size_um
    start = np.array([*place, z_um, photons, frames.background_e[0]])
    fitter.fit_at(data, start[None])
    begun = time.process_time()
    fitter.fit_at(data, np.repeat(start[None], count, axis=0))
    return count / max(time.process_time() - begun, 1e-9)
