"""Movies of moving points with their truth: the frames of `tracking` and `brownian`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.experiments.benchmark import Benchmark
from evaluation.optics.frames import FRAME_SHAPE, Frames, Light, expose
from models.motion import Motion
from models.tables import Localizations, Truth

__all__ = ["BLUR_S", "FPS", "movie", "movie_truth", "tracked_localizations"]

FPS = 100.0
_BLUR_PLACES = 3
"""Places along the way of an exposure at which a moving point is drawn: at 100 µm/s it goes 1 µm, or 1.5 pixels."""

BLUR_S = (1 - 1 / _BLUR_PLACES**2) / FPS
"""Exposure whose blur is that of the drawn places: the mean of n places in a frame is less blurred than a continuous
exposure."""

_USUAL_SIGMA_UM = (1.5, 1.5, 2.0)
"""Errors of look-ups in `snr` and `density`."""


def movie(benchmark: Benchmark, motion: Motion, brightness: np.ndarray, light: Light, count: int, seed: int) -> Frames:
    """Expose `count` frames of points (relative brightness (N,)) that move, with exposure blur.

    The truth of a frame is the middle of its exposure, which lasts as long as the frame.
    """
    emitters, drawn = [], []
    for number in range(count):
        places = [
            np.column_stack([motion.positions((number + (part + 0.5) / _BLUR_PLACES) / FPS), brightness])
            for part in range(_BLUR_PLACES)
        ]
        emitters.append(places[_BLUR_PLACES // 2])
        blurred = np.concatenate(places)
        blurred[:, 3] /= _BLUR_PLACES
        drawn.append(blurred)
    return expose(benchmark.optics, emitters, light, FRAME_SHAPE, benchmark.rng(6, seed), drawn=drawn)


def movie_truth(frames: Frames) -> Truth:
    """Truth with track numbers: the row of a point is its number in every frame."""
    count = len(frames.emitters[0])
    numbers = np.repeat(np.arange(len(frames)), count)
    x, y, z = np.concatenate(frames.emitters)[:, :3].T
    return Truth(numbers, x, y, z, np.tile(np.arange(count), len(frames)))


def tracked_localizations(candidates: Localizations, found: Localizations, *, probabilities: bool) -> Localizations:
    """What the tracker is given: all candidates of a method that states probabilities, else those it accepts.

    Sigmas are those of a look-up where none are stated, and a score that is no probability becomes 0.9.
    """
    given = candidates if probabilities else replace(found, probability=np.full(len(found), 0.9))
    stated = {}
    for name, usual in zip(("sigma_x_um", "sigma_y_um", "sigma_z_um"), _USUAL_SIGMA_UM, strict=True):
        values = getattr(given, name)
        stated[name] = np.where(np.isfinite(values), values, usual)
    return replace(given, **stated)
