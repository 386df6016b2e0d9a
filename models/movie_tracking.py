"""Tracks of a whole movie with the image filter, with the same code as live: each image is fitted once.

The smoothed form needs no image again: what the fits say of each emitter is
kept, and the tracks are smoothed over it (`models.tracking.smoother`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.background.frame_light import remove_light
from models.background.mode import StaticLightMode
from models.movie_localization import Movie, lit_frames
from models.tables import Localizations, Tracks
from models.tracking.fixed_lag import FixedLag
from models.tracking.image_tracker import ImageModel, kept, one_thread
from models.tracking.settings import TrackerSettings
from models.tracking.smoother import Smoother
from models.tracking.state import TrackState

if TYPE_CHECKING:
    from models.localization import Localizer

__all__ = ["track_movie"]


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
    smoother = Smoother(settings, images=images) if smooth else None
    tracker = smoother or images.tracker(settings)
    lag = FixedLag(0 if smooth else lag_frames)
    points, found = [], []
    with one_thread():
        for frames, numbers, lights in lit_frames(movie, localizer, static_light):
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
            advance(int(numbers[-1]) + 1)
        tracks = Tracks.concatenate([*points, lag.finish()]) if smoother is None else smoother.finish()
    return tracks, Localizations.concatenate(found)
