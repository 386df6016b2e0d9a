"""Scenes of the experiment `moving`: patterns of motion, movies of them, and the conditions that are measured.

Movies have 40 frames at 100 frames/s in the published volume, fewer where there
are many points. The first ten frames are left out of the scores: a filter
begins there without knowledge. The walls of the volume reflect. Particles of a
vessel leave at its end and others enter at its beginning.

Light is constant in a movie, as a sample's is: the SNR in dB is the mean over
its frames. The same paths are exposed with different light, so that the
conditions of a motion differ by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.experiments.benchmark import VALIDATION_SEED
from evaluation.experiments.moving_points import MovieImages, movie_truth, render_movie, vessel
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, Box, Frames, Snr, middle_box
from models.motion import Brownian, Directed, Motion
from models.tables import Truth

__all__ = [
    "FIRST_SCORED",
    "MOTIONS",
    "SPEED_UM_S",
    "Movie",
    "Scene",
    "movies",
    "moving_emitters",
    "scenes",
    "validation_movies",
]

FIRST_SCORED = 10
SPEED_UM_S = 75.0
"""Blood cells of a young zebrafish (science.md)."""

_BRIGHTNESS = (0.1, 1.0)
_FROM_WALLS_UM = 2.0
_QUICK_POINTS, _QUICK_FRAMES = 4, 14


def _start(box_um: Box, points: int, rng: np.random.Generator) -> np.ndarray:
    low, high = np.array(box_um).T
    return rng.uniform(low + _FROM_WALLS_UM, high - _FROM_WALLS_UM, (points, 3))


def _directed(box_um: Box, points: int, rng: np.random.Generator) -> Motion:
    way = rng.standard_normal((points, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return Directed(_start(box_um, points, rng), SPEED_UM_S * way, box_um)


def _brownian(diffusion_um2_s: float) -> Callable[[Box, int, np.random.Generator], Motion]:
    def motion(box_um: Box, points: int, rng: np.random.Generator) -> Motion:
        seed = int(rng.integers(2**31))
        return Brownian(_start(box_um, points, rng), diffusion_um2_s, seed, box_um=box_um)

    return motion


def _pulsatile(box_um: Box, points: int, rng: np.random.Generator) -> Motion:
    # The mean over the cross-section is half of the peak.
    return vessel(box_um, points, int(rng.integers(2**31)), 2 * SPEED_UM_S)


MOTIONS: dict[str, Callable[[Box, int, np.random.Generator], Motion]] = {
    "directed": _directed,
    "brownian 10": _brownian(10.0),
    "brownian 1": _brownian(1.0),
    "pulsatile": _pulsatile,
}
"""Patterns of motion: directed at 75 µm/s, Brownian with 10 and 1 µm²/s, a heartbeat's flow with 75 µm/s on average."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Movies of one motion and number of points, and the light with which they are exposed.

    Attributes
    ----------
    motion : str
        One of `MOTIONS`.
    points : int
    decibels : tuple of float
        SNR of each condition, published form.
    movies : int
        Number of movies with different paths.
    frames : int
    """

    motion: str
    points: int
    decibels: tuple[float, ...]
    movies: int
    frames: int = 40


@dataclass(frozen=True, slots=True)
class Movie:
    """One movie with its truth.

    Attributes
    ----------
    scene : Scene
    snr_db : float
    number : int
        Of the movie in its scene, from 0.
    frames : Frames
    truth : Truth
        With track numbers.
    """

    scene: Scene
    snr_db: float
    number: int
    frames: Frames
    truth: Truth


def scenes(*, quick: bool) -> tuple[Scene, ...]:
    """The scenes that are measured."""
    if quick:
        return tuple(Scene(motion, _QUICK_POINTS, (10.0,), 1, _QUICK_FRAMES) for motion in ("directed", "brownian 10"))
    main = ("directed", "brownian 10")
    return (
        # At the same SNR movies differ in difficulty, because the shallowest emitter sets the SNR: several are needed.
        *(Scene(motion, 20, (-5.0, 0.0, 5.0, 10.0, 20.0), 4) for motion in main),
        *(Scene(motion, 20, (0.0, 5.0, 10.0), 2) for motion in MOTIONS if motion not in main),
        *(Scene(motion, 64, (10.0,), 2, 30) for motion in main),
        *(Scene(motion, 100, (30.0,), 2, 20) for motion in main),
    )


def validation_movies(optics: BenchmarkOptics, *, quick: bool) -> Iterator[Movie]:
    """Movies on which thresholds are set; their seed is one of their own."""
    if quick:
        chosen: tuple[Scene, ...] = (Scene("directed", _QUICK_POINTS, (10.0,), 1, _QUICK_FRAMES),)
    else:
        chosen = tuple(Scene(motion, 20, (0.0, 5.0, 10.0), 1) for motion in ("directed", "brownian 10"))
    for scene in chosen:
        yield from movies(optics, scene, VALIDATION_SEED)


def movies(optics: BenchmarkOptics, scene: Scene, seed: int) -> Iterator[Movie]:
    """All movies of a scene: those with the same paths and different light one after the other.

    Parameters
    ----------
    optics : BenchmarkOptics
    scene : Scene
    seed : int
        That of the test frames, or `VALIDATION_SEED`.
    """
    for number in range(scene.movies):
        images = moving_emitters(optics, scene, seed, number, optics.depths_um)
        for db in scene.decibels:
            rng = np.random.default_rng([seed, 17, *_words(scene, number), round(10 * db) + 1000])
            exposed = images.expose(Snr(db), rng)
            yield Movie(scene, db, number, exposed, movie_truth(exposed))


def moving_emitters(
    optics: BenchmarkOptics, scene: Scene, seed: int, number: int, depths_um: tuple[float, float]
) -> MovieImages:
    """One movie of a scene between two depths, before it is exposed."""
    rng = np.random.default_rng([seed, 16, *_words(scene, number)])
    box = middle_box(FRAME_SHAPE, optics.pixel_size_um, depths_um, optics.side_um)
    motion = MOTIONS[scene.motion](box, scene.points, rng)
    return render_movie(optics, motion, rng.uniform(*_BRIGHTNESS, scene.points), scene.frames)


def _words(scene: Scene, number: int) -> tuple[int, int, int]:
    return (list(MOTIONS).index(scene.motion), scene.points, number)
