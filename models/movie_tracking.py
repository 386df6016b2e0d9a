"""Tracks of a whole movie with the image filter, with the same code as live: each image is fitted once.

Where light stands still beneath moving emitters, it is found first, in rounds
over the movie (`models.movie_light`).

The smoothed form needs no image again: what the fits say of each emitter is
kept, and the tracks are smoothed over it (`models.tracking.smoother`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.background.frame_light import FrameLight, remove_light
from models.background.mode import StaticLightMode
from models.movie_light import light_beneath
from models.movie_localization import Lights, Movie, begun_light, lit_frames
from models.tables import Localizations, Tracks
from models.tracking.fixed_lag import FixedLag
from models.tracking.image_tracker import ImageModel, kept, one_thread
from models.tracking.settings import TrackerSettings
from models.tracking.smoother import Smoother
from models.tracking.state import TrackState

if TYPE_CHECKING:
    from models.localization import Localizer

__all__ = ["track_movie"]

_NETWORK_ROUNDS, _FIT_ROUNDS = 2, 1
"""Rounds that find the static light beneath moving emitters. More of them are better and take longer
(docs/static-light.md)."""
_LIGHT_SHARE = 0.6
"""Of the whole time, for these rounds."""


def track_movie(
    movie: Movie,
    localizer: Localizer,
    images: ImageModel,
    fps: float,
    settings: TrackerSettings | None = None,
    static_light: StaticLightMode = "auto",
    *,
    smooth: bool = False,
    lag_frames: int = 0,
    advance: Callable[[float], None] = lambda _done: None,
    observe: Callable[[TrackState], object] = lambda _state: None,
) -> tuple[Tracks, Localizations]:
    """Track all frames of a movie.

    Parameters
    ----------
    movie : Movie
    localizer : Localizer
        Finds the candidates.
    images : ImageModel
        Of the localizer.
    fps : float
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional
    static_light : {"auto", "on", "off"}
        See `models.background`.
    smooth : bool
        Smooth the tracks with what came later.
    lag_frames : int
        Else, smooth each point with so many of the next frames, as a run stores it.
    advance : callable
        Called with the number of frames done.
    observe : callable
        Receives the tracks after each frame, as live.

    Returns
    -------
    tracks : Tracks
    localizations : Localizations
        Those that a run keeps: from the model's threshold on, and those of shown tracks.

    Raises
    ------
    DataError
        As `localize_movie`.
    """
    settings = settings or TrackerSettings()
    beneath = _light_beneath(movie, localizer, images, fps, settings, static_light, advance)
    light_of_movie: StaticLightMode | Lights = static_light if beneath is None else beneath
    begin = 0.0 if beneath is None else _LIGHT_SHARE
    smoother = Smoother(settings, images=images) if smooth else None
    tracker = smoother or images.tracker(settings)
    lag = FixedLag(0 if smooth else lag_frames)
    points, found, total = [], [], movie.shape[0]
    with one_thread():
        for batch in _candidates(movie, localizer, settings, light_of_movie):
            states = []
            for each in batch:
                t_s = each.number / fps
                state, table = tracker.step_image(t_s, each.number, each.found, each.counts, each.light)
                observe(state)
                states.append(state)
                found.append(kept(table, state, localizer.threshold)[0])
            points.append(lag.add(states))
            advance(begin * total + (1 - begin) * (batch[-1].number + 1))
        tracks = Tracks.concatenate([*points, lag.finish()]) if smoother is None else smoother.finish()
    return tracks, Localizations.concatenate(found)


def _light_beneath(
    movie: Movie,
    localizer: Localizer,
    images: ImageModel,
    fps: float,
    settings: TrackerSettings,
    mode: StaticLightMode,
    advance: Callable[[float], None],
) -> Lights | None:
    """Static light of each frame, found in rounds of tracking; None where the movie has none to remove."""
    begun = begun_light(movie, localizer, mode)
    if begun is None or not begun.in_use:
        return None
    known: StaticLightMode | Lights = mode
    rounds = [False] * (_NETWORK_ROUNDS if localizer.finds_candidates else 0) + [True] * _FIT_ROUNDS
    share = _LIGHT_SHARE / len(rounds)
    with one_thread():
        for done, fits in enumerate(rounds):
            smoother, lights = Smoother(settings, images=images if fits else None), []
            for batch in _candidates(movie, localizer, settings, known):
                for each in batch:
                    lights.append(each.light)
                    if fits:
                        smoother.step_image(each.number / fps, each.number, each.found, each.counts, each.light)
                    else:
                        smoother.step(each.number / fps, each.number, each.found)
                advance(share * (done * movie.shape[0] + batch[-1].number + 1))
            known = light_beneath(movie, smoother.finish(), images, lights)
    return None if isinstance(known, str) else known


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame with its candidates and its static light."""

    number: int
    counts: NDArray[np.uint16]
    light: FrameLight | None
    found: Localizations


def _candidates(
    movie: Movie, localizer: Localizer, settings: TrackerSettings, lights: StaticLightMode | Lights
) -> Iterator[list[_Frame]]:
    """The frames of a movie with their candidates, batch by batch."""
    least = min(settings.least_probability, localizer.threshold)
    for frames, numbers, of_frames in lit_frames(movie, localizer, lights):
        found = localizer.localize(remove_light(frames, of_frames), numbers, least)
        yield [
            _Frame(number, counts, light, found.select(found.frame == number))
            for number, counts, light in zip(numbers.tolist(), frames, of_frames, strict=True)
        ]
