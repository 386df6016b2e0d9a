"""Tracks of a whole movie with the image filter, with the same code as live: each image is fitted once.

Where light stands still beneath moving emitters, it is found first, in rounds
over the movie (`models.movie_light`).

The smoothed form needs no image again: what the fits say of each emitter is
kept, and the tracks are smoothed over it (`models.tracking.smoother`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
"""Rounds that find the static light beneath moving emitters. Further ones change nothing (docs/static-light.md)."""
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
    points, found = [], []
    with one_thread():
        for frames, numbers, lights in lit_frames(movie, localizer, light_of_movie):
            candidates = localizer.localize(
                remove_light(frames, lights), numbers, min(settings.least_probability, localizer.threshold)
            )
            states = []
            for number, counts, light in zip(numbers.tolist(), frames, lights, strict=True):
                its = candidates.select(candidates.frame == number)
                state, table = tracker.step_image(number / fps, number, its, counts, light)
                observe(state)
                states.append(state)
                found.append(kept(table, state, localizer.threshold)[0])
            points.append(lag.add(states))
            advance(begin * movie.shape[0] + (1 - begin) * (int(numbers[-1]) + 1))
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
) -> list[FrameLight | None] | None:
    """Static light of each frame from the movie and its tracks in turns; None where the movie has none to remove."""
    begun = begun_light(movie, localizer, mode)
    if begun is None or not begun.in_use:
        return None
    lights: list[FrameLight | None] | None = None
    rounds = [False] * (_NETWORK_ROUNDS if localizer.finds_candidates else 0) + [True] * _FIT_ROUNDS
    for done, fits in enumerate(rounds):

        def report(share: float, done: int = done) -> None:
            advance(_LIGHT_SHARE * (done + share) / len(rounds) * movie.shape[0])

        seen: list[FrameLight | None] = []
        smoother = Smoother(settings, images=images if fits else None)
        least = min(settings.least_probability, localizer.threshold)
        with one_thread():
            for frames, numbers, batch in lit_frames(movie, localizer, mode if lights is None else lights):
                candidates = localizer.localize(remove_light(frames, batch), numbers, least)
                seen += batch
                for number, counts, light in zip(numbers.tolist(), frames, batch, strict=True):
                    its = candidates.select(candidates.frame == number)
                    if fits:
                        smoother.step_image(number / fps, number, its, counts, light)
                    else:
                        smoother.step(number / fps, number, its)
                report((int(numbers[-1]) + 1) / movie.shape[0])
            lights = light_beneath(movie, smoother.finish(), images, seen)
    return lights
