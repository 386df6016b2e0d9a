"""Methods of the experiment `moving`, by name: frames of a movie in, localizations or tracks out.

All have the same network. A method states a probability for each point; the
threshold on it is set on movies of other seeds, one for all motions and kinds
of light. What several methods need of a movie is computed once
(`MovieSources`), and what it cost is charged to each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from evaluation.experiments.benchmark import MethodRun, best_threshold
from evaluation.experiments.moving_points import FPS
from evaluation.experiments.moving_scenes import Movie
from evaluation.experiments.moving_scores import scored
from evaluation.optics.frames import Frames
from models.metrics import score_table
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table

__all__ = ["METHODS", "Form", "Found", "MovieMethod", "MovieSources", "find_thresholds"]

Form = Literal["localizations", "tracks", "smoothed"]
Found = Localizations | Tracks


@dataclass
class MovieSources:
    """Results that several methods share, of one movie.

    Attributes
    ----------
    frames : Frames
    network, fit : MethodRun
        Network alone, and with the joint fit of each frame.
    """

    frames: Frames
    network: MethodRun
    fit: MethodRun
    _known: dict[str, tuple[Found, float]] = field(default_factory=dict, repr=False)

    def network_candidates(self) -> tuple[Localizations, float]:
        """Candidates of the network in all frames, and their processor time in s."""
        return self._once("network", lambda: self._candidates(self.network))

    def fit_candidates(self) -> tuple[Localizations, float]:
        """Candidates of the joint fit in all frames, and their processor time in s."""
        return self._once("fit", lambda: self._candidates(self.fit))

    def _once(self, key: str, find: Callable[[], tuple[Localizations, float]]) -> tuple[Localizations, float]:
        if key not in self._known:
            self._known[key] = find()
        found, seconds = self._known[key]
        return found, seconds  # type: ignore[return-value]

    def _candidates(self, method_run: MethodRun) -> tuple[Localizations, float]:
        before = method_run.seconds
        found = method_run.candidates(self.frames)
        return found, method_run.seconds - before


@dataclass(frozen=True, slots=True)
class MovieMethod:
    """A method in the comparison.

    Attributes
    ----------
    name : str
        In tables and figures.
    form : str
        ``"localizations"``, ``"tracks"`` (each point from the frames until then) or ``"smoothed"`` (from all frames).
    find : callable
        (what is shared) to all points with their probabilities, and the processor time in s.
    """

    name: str
    form: Form
    find: Callable[[MovieSources], tuple[Found, float]]


def _tracks(
    candidates: Callable[[MovieSources], tuple[Localizations, float]], track: Callable[[Localizations, float], Tracks]
) -> Callable[[MovieSources], tuple[Found, float]]:
    """Track the candidates of a localizer."""

    def find(sources: MovieSources) -> tuple[Found, float]:
        found, seconds = candidates(sources)
        begun = time.process_time()
        tracks = track(found, FPS)
        return tracks, seconds + time.process_time() - begun

    return find


_NETWORK, _FIT = MovieSources.network_candidates, MovieSources.fit_candidates

METHODS = (
    MovieMethod("cascade", "localizations", _NETWORK),
    MovieMethod("cascade, tracks", "tracks", _tracks(_NETWORK, track_table)),
    MovieMethod("cascade, smoothed", "smoothed", _tracks(_NETWORK, smoothed_tracks)),
    MovieMethod("cascade --refine", "localizations", _FIT),
    MovieMethod("cascade --refine, tracks", "tracks", _tracks(_FIT, track_table)),
    MovieMethod("cascade --refine, smoothed", "smoothed", _tracks(_FIT, smoothed_tracks)),
)
"""All methods; the first one of the joint fit is what the others are compared with."""


def find_thresholds(found: Sequence[tuple[Movie, dict[str, Found]]]) -> dict[str, float]:
    """Threshold of each method with the best mean Jaccard index over validation movies.

    Parameters
    ----------
    found : sequence of (Movie, dict)
        What each method found in each movie, by its name.
    """
    thresholds = {}
    for name in found[0][1]:
        tables = [(scored(each[name]), scored(movie.truth)) for movie, each in found]
        thresholds[name], _ = best_threshold(
            np.concatenate([table.probability for table, _ in tables]),
            lambda threshold, tables=tables: [  # type: ignore[misc]
                score_table(table.select(table.probability >= threshold), truth).jaccard for table, truth in tables
            ],
        )
    return thresholds
