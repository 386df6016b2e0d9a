"""Ghosts of moving emitters at negative defocus, for the experiment `moving`.

The rule is that of the experiment `ghosts`: a point that is left over after the
emitters that must be found, and is within 10 µm laterally of an emitter at
negative defocus, is a ghost of it. Frames have eight emitters that must be
found and four at -20 to -3 µm, all with the same motion. As there, the optics
are the hidden ones: a symmetric pattern does not tell the sides of focus apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.experiments.ghosts import FARTHER_UM, NEAREST_UM, count_ghosts
from evaluation.experiments.moving_points import movie_truth
from evaluation.experiments.moving_scenes import FIRST_SCORED, Movie, Scene, moving_emitters
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import Snr
from evaluation.scores.scoring import Row
from models.tables import Localizations, Tracks

__all__ = ["ghost_rows"]

_COUNTED, _WRONG = 8, 4
_MOVIES = 2
_FRAMES, _QUICK_FRAMES = 40, 16
_MOTIONS, _QUICK_MOTIONS = ("directed", "brownian 10"), ("directed",)
_DB, _QUICK_DB = (10.0, 20.0), (20.0,)

Find = Callable[[Movie], Mapping[str, Localizations | Tracks]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """A movie of emitters that must be found, and the places (F, W, 3) of those at negative defocus."""

    movie: Movie
    wrong_um: np.ndarray


def ghost_rows(optics: BenchmarkOptics, seed: int, find: Find, *, quick: bool) -> list[Row]:
    """Ghosts per emitter at negative defocus and frame, one row for each motion, SNR and method.

    Parameters
    ----------
    optics : BenchmarkOptics
        Hidden ones.
    seed : int
        Of the test frames.
    find : callable
        Points of each method in a movie, at its threshold.
    quick : bool
        Few conditions and frames.
    """
    counts: dict[tuple[str, float, str], list[float]] = {}
    for scene in _scenes(optics.reaching(FARTHER_UM), seed, quick=quick):
        for method, points in find(scene.movie).items():
            key = (scene.movie.scene.motion, scene.movie.snr_db, method)
            counts.setdefault(key, []).append(_per_emitter(points, scene))
    return [
        {
            "method": method,
            "motion": motion,
            "snr_db": db,
            "movies": len(each),
            "emitters": _WRONG,
            "ghosts": float(np.mean(each)),
            "ghosts_error": float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None,
        }
        for (motion, db, method), each in counts.items()
    ]


def _scenes(optics: BenchmarkOptics, seed: int, *, quick: bool) -> Iterator[_Scene]:
    low, high = optics.depths_um
    decibels = _QUICK_DB if quick else _DB
    frames = _QUICK_FRAMES if quick else _FRAMES
    for motion in _QUICK_MOTIONS if quick else _MOTIONS:
        counted, wrong = (Scene(motion, points, decibels, _MOVIES, frames) for points in (_COUNTED, _WRONG))
        for number in range(_MOVIES):
            found = moving_emitters(optics, counted, seed, number, (low + NEAREST_UM, high))
            others = moving_emitters(optics, wrong, seed, number, (low - FARTHER_UM, low - NEAREST_UM))
            images = found.with_others(others)
            for db in decibels:
                exposed = images.expose(Snr(db), np.random.default_rng([seed, 18, number, round(10 * db) + 1000]))
                movie = Movie(counted, db, number, exposed, movie_truth(exposed))
                yield _Scene(movie, np.stack([each[:, :3] for each in others.emitters]))


def _per_emitter(points: Localizations | Tracks, scene: _Scene) -> float:
    places = np.column_stack([points.x_um, points.y_um, points.z_um])
    emitters = scene.movie.frames.emitters
    numbers = range(FIRST_SCORED, len(emitters))
    ghosts = [
        count_ghosts(places[points.frame == number], emitters[number][:, :3], np.zeros((0, 3)), scene.wrong_um[number])
        for number in numbers
    ]
    return float(np.mean([each.ghosts for each in ghosts]))
