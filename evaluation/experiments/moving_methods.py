"""Methods of the experiment `moving`, by name: frames of a movie in, localizations or tracks out.

All but the last have the same network. A method states a probability for each point; the
threshold on it is set on movies of other seeds, one for all motions and kinds
of light. What several methods need of a movie is computed once
(`MovieSources`), and what it cost is charged to each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from evaluation.experiments.benchmark import MethodRun, best_threshold
from evaluation.experiments.moving_points import FPS
from evaluation.experiments.moving_scenes import Movie
from evaluation.experiments.moving_scores import scored
from evaluation.optics.frames import Frames
from models.camera import CameraModel
from models.errors import DataError
from models.localization import Localizer
from models.metrics import score_table
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table
from models.tracking.image_tracker import ImageModel, one_thread
from models.tracking.smoother import Smoother
from models.weights import reference_model

__all__ = ["METHODS", "Form", "Found", "MovieMethod", "MovieSources", "find_thresholds"]

Form = Literal["localizations", "tracks", "smoothed"]
Found = Localizations | Tracks
Result = TypeVar("Result")


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
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def network_candidates(self) -> tuple[Localizations, float]:
        """Candidates of the network in all frames, and their processor time in s."""
        return self.once("network", lambda: self._candidates(self.network))

    def fit_candidates(self) -> tuple[Localizations, float]:
        """Candidates of the joint fit in all frames, and their processor time in s."""
        return self.once("fit", lambda: self._candidates(self.fit))

    def once(self, key: str, find: Callable[[], Result]) -> Result:
        """What `find` gives, computed at the first call with `key` and kept for the other methods."""
        if key not in self._known:
            self._known[key] = find()
        known: Result = self._known[key]
        return known

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


def _image_filter(sources: MovieSources) -> tuple[Found, float]:
    """Track in the images, the network's candidates as possible new emitters."""
    forward, _, seconds = sources.once("filter", lambda: _both_ways(sources))
    return forward, seconds


def _forward_backward(sources: MovieSources) -> tuple[Found, float]:
    """The same, smoothed with what came later; no image is used twice."""
    _, smoother, seconds = sources.once("filter", lambda: _both_ways(sources))
    begun = time.process_time()
    return smoother.finish(), seconds + time.process_time() - begun


def _both_ways(sources: MovieSources) -> tuple[Tracks, Smoother, float]:
    """Tracks of the image filter, what smooths them, and the processor time in s."""
    found, seconds = sources.network_candidates()
    folder = sources.network.model_folder or reference_model("full")
    smoother = Smoother(images=_image_model(folder, sources.frames.camera))
    begun = time.process_time()
    with one_thread():
        states = [
            smoother.step_image(number / FPS, number, found.select(found.frame == number), counts)[0]
            for number, counts in enumerate(sources.frames.counts)
        ]
    return Tracks.concatenate(state.rows() for state in states), smoother, seconds + time.process_time() - begun


def _without_network(sources: MovieSources) -> tuple[Found, float]:
    """Track in the images; new emitters come from the search of the residual alone."""
    tracker = _image_model(sources.network.model_folder or reference_model("full"), sources.frames.camera).tracker()
    nothing = Localizations.empty()
    begun = time.process_time()
    with one_thread():
        states = [
            tracker.step_image(number / FPS, number, nothing, counts)[0]
            for number, counts in enumerate(sources.frames.counts)
        ]
    return Tracks.concatenate(state.rows() for state in states), time.process_time() - begun


@lru_cache(maxsize=1)
def _image_model(folder: Path, camera: CameraModel) -> ImageModel:
    """What the filter needs of a model, for the movies of one camera."""
    model = Localizer.load(folder, camera=camera).image_model
    if model is None:
        raise DataError(f"The model in {folder} has no PSF.", "Restore the folder from a copy.")
    return model


_NETWORK, _FIT = MovieSources.network_candidates, MovieSources.fit_candidates

METHODS = (
    MovieMethod("cascade", "localizations", _NETWORK),
    MovieMethod("cascade, tracks", "tracks", _tracks(_NETWORK, track_table)),
    MovieMethod("cascade, smoothed", "smoothed", _tracks(_NETWORK, smoothed_tracks)),
    MovieMethod("cascade --refine", "localizations", _FIT),
    MovieMethod("cascade --refine, tracks", "tracks", _tracks(_FIT, track_table)),
    MovieMethod("cascade --refine, smoothed", "smoothed", _tracks(_FIT, smoothed_tracks)),
    MovieMethod("image filter", "tracks", _image_filter),
    MovieMethod("image filter, forward-backward", "smoothed", _forward_backward),
    MovieMethod("without network", "tracks", _without_network),
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
