"""Movies of moving points with their truth: the frames of `moving`, `tracking` and `brownian`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.frames import FRAME_SHAPE, Box, Frames, Light, expose_images, render_images
from evaluation.optics.images import ImageSource
from models.motion import Motion, PulsatileFlow
from models.tables import Localizations, Truth

__all__ = ["BLUR_S", "FPS", "MovieImages", "movie_truth", "render_movie", "tracked_localizations", "vessel"]

F64 = NDArray[np.float64]

FPS = 100.0
_NODES = (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3))
"""Times in an exposure at which a moving point is drawn, in parts of it: the nodes of Gauss and Legendre, whose mean
and variance are those of the whole exposure. At 200 µm/s the two places are 1.2 µm or 1.8 pixels apart."""

_JUMP_UM = 50.0
"""A larger step is the entry of another emitter at the other end of a vessel."""

BLUR_S = float(1.5 * (_NODES[1] - _NODES[0]) / FPS)
"""Exposure whose blur of a random walk is that of the two places: var Δ = 2 D (T - a/2) for places that are the time a
apart, and 2 D (T - E/3) for a continuous exposure E."""

_USUAL_SIGMA_UM = (1.5, 1.5, 2.0)
"""Errors of look-ups in `snr` and `density`."""


@dataclass(frozen=True, slots=True)
class MovieImages:
    """A movie without light and noise; rendering takes most of the time, so it is done once for all kinds of light.

    Attributes
    ----------
    rendered : ndarray of float32, shape (F, H, W)
        In units of the brightness.
    emitters : tuple of F ndarrays of float64, shape (N, 4)
        Mean x, y, z in the exposure, µm, and relative brightness.
    """

    rendered: NDArray[np.float32]
    emitters: tuple[F64, ...]

    def expose(self, light: Light, rng: np.random.Generator) -> Frames:
        """Frames with the same light in all of them (see `expose_images`)."""
        return expose_images(self.rendered, self.emitters, light, rng, steady=True)

    def with_others(self, others: MovieImages) -> MovieImages:
        """The same movie with the light of others in it, which are not in the truth."""
        return MovieImages(self.rendered + others.rendered, self.emitters)


def render_movie(images: ImageSource, motion: Motion, brightness: F64, count: int) -> MovieImages:
    """Render `count` frames of points (relative brightness (N,)) that move, with exposure blur.

    The exposure lasts as long as the frame. The truth is the mean position in it, which is where the light is: a
    Brownian particle is elsewhere in the middle of the exposure, by 0.13 µm along each axis with 10 µm²/s.
    """
    emitters, drawn = [], []
    for number in range(count):
        before, after = (motion.positions((number + part) / FPS) for part in _NODES)
        entered = np.linalg.norm(after - before, axis=1) > _JUMP_UM
        mean = np.where(entered[:, None], after, (before + after) / 2)
        emitters.append(np.column_stack([mean, brightness]))
        drawn.append(np.concatenate([np.column_stack([each, brightness / 2]) for each in (before, after)]))
    return MovieImages(render_images(images, drawn, FRAME_SHAPE), tuple(emitters))


def movie_truth(frames: Frames) -> Truth:
    """Truth with track numbers: a point keeps its row in every frame, and has a new number after a jump."""
    places = np.stack([each[:, :3] for each in frames.emitters])
    begins = np.ones(places.shape[:2], bool)
    begins[1:] = np.linalg.norm(np.diff(places, axis=0), axis=2) > _JUMP_UM
    numbers = np.cumsum(begins.T.ravel()).reshape(begins.T.shape).T - 1
    x, y, z = places.reshape(-1, 3).T
    return Truth(np.repeat(np.arange(len(frames)), places.shape[1]), x, y, z, numbers.ravel())


def vessel(box_um: Box, points: int, seed: int, peak_um_s: float) -> PulsatileFlow:
    """Pulsatile flow through a bent vessel that crosses a box from left to right and becomes deeper."""
    low, high = np.array(box_um).T
    middle = (low + high) / 2
    line = np.array([[low[0], middle[1] - 15, 0], middle, [high[0], middle[1] + 15, 0]])
    line[:, 2] = low[2] + (high - low)[2] * np.array([0.3, 0.5, 0.7])
    radius = min(15.0, 0.25 * (high - low)[2])
    return PulsatileFlow(line, radius, points, seed, peak_um_s=peak_um_s, beat_hz=2.5, pulsation=0.8)


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
