"""Tracks of a whole table of localizations: as live, or smoothed with what came later.

Both run the same tracker. The live form gives what an instrument would have
given while the frames came. The smoothed form waits until the end: it fills in
the points before a track was confirmed and those at which it was not seen,
cuts the points after its last localization, joins the pieces of a track that
was lost for a while, and estimates each point from all localizations of its
track.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from models.errors import DataError
from models.tables import Localizations, Tracks
from models.tracking.fixed_lag import FixedLag
from models.tracking.settings import Preset, TrackerSettings
from models.tracking.smoother import Smoother
from models.tracking.state import TracksLocalizations, TrackState
from models.tracking.tracker import Tracker

__all__ = ["MOST_IN_A_FRAME", "make_tracker", "smoothed_tracks", "track_table"]

MOST_IN_A_FRAME = 100_000
"""A sensor of 4096 x 4096 pixels would have 170 pixels for each, less than a pattern covers."""

_STATES_AT_ONCE = 64
"""Frames that are smoothed together with their lag: numpy is faster with many than with one."""


def make_tracker(preset: Preset = "default", settings: TrackerSettings | None = None) -> TracksLocalizations:
    """A new tracker of a preset; the preset `published` takes no settings.

    Raises
    ------
    DataError
        When settings are given to the preset `published`.
    """
    if preset == "published":
        if settings is not None and settings != TrackerSettings():
            raise DataError(
                "The preset 'published' has the settings of the publication; others were given.",
                "Remove the settings, or use the preset 'default'.",
            )
        # filterpy takes 0.8 s to import.
        from models.tracking.published import PublishedTracker

        return PublishedTracker()
    return Tracker(settings)


def track_table(
    found: Localizations,
    fps: float | None = None,
    settings: TrackerSettings | None = None,
    preset: Preset = "default",
    *,
    times_s: Mapping[int, float] | None = None,
    lag_frames: int = 0,
    observe: Callable[[TrackState], object] = lambda _state: None,
) -> Tracks:
    """Track a whole table, with the same result as live.

    Parameters
    ----------
    found : Localizations
        In any order.
    fps : float, optional
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional
    preset : {"default", "published"}
    times_s : mapping of int to float, optional
        Instead of `fps`: the times of all frames that were analysed, with localizations or without, s.
    lag_frames : int
        Points are smoothed by so many frames after them, as those that a run stores; 0: as a run shows them.
    observe : callable
        Receives the tracks after each frame.

    Returns
    -------
    Tracks
        The confirmed tracks, frame after frame.

    Raises
    ------
    DataError
        When the frame rate is not positive, or a position or sigma is not a finite number; when a frame has more
        than `MOST_IN_A_FRAME` localizations, or no time; when the tracker of the preset is not smoothed, and
        `lag_frames` is not 0.
    """
    tracker, lag = make_tracker(preset, settings), FixedLag(lag_frames)
    ordered, frames = _by_frame(found)
    parts, states = [], []
    for t_s, frame, part in _steps(tracker, frames, _rate(fps, times_s)):
        states.append(tracker.step(t_s, frame, ordered.select(part)))
        observe(states[-1])
        if len(states) == _STATES_AT_ONCE:
            parts.append(lag.add(states))
            states = []
    return Tracks.concatenate([*parts, lag.add(states), lag.finish()])


def smoothed_tracks(
    found: Localizations,
    fps: float | None = None,
    settings: TrackerSettings | None = None,
    *,
    times_s: Mapping[int, float] | None = None,
) -> Tracks:
    """Track a whole table, and smooth the tracks with what came later.

    Parameters
    ----------
    found, fps, settings, times_s
        As those of `track_table`.

    Returns
    -------
    Tracks
        All points from the first localization of a track to its last one, frame after frame.

    Raises
    ------
    DataError
        As `track_table`.
    """
    smoother = Smoother(settings, fps)
    ordered, frames = _by_frame(found)
    for t_s, frame, part in _steps(smoother, frames, _rate(fps, times_s)):
        smoother.step(t_s, frame, ordered.select(part))
    return smoother.finish()


def _rate(fps: float | None, times_s: Mapping[int, float] | None) -> float | Mapping[int, float]:
    if fps is None and times_s is not None:
        return times_s
    if fps is None or times_s is not None:
        raise DataError("Neither a frame rate nor times, or both, are given.", "Give one of them.")
    if not 0 < fps < np.inf:
        raise DataError(f"The frame rate is {fps} fps; it must be positive and finite.", "Give the camera's rate.")
    return fps


def _by_frame(found: Localizations) -> tuple[Localizations, list[tuple[int, slice]]]:
    """The table in order of frames, and the rows of each frame."""
    ordered = found.select(np.argsort(found.frame, kind="stable"))
    frames, starts = np.unique(ordered.frame, return_index=True)
    ends = np.append(starts, len(ordered))[1:]
    crowd = int(np.max(ends - starts, initial=0))
    if crowd > MOST_IN_A_FRAME:
        raise DataError(
            f"Frame {frames[np.argmax(ends - starts)]} has {crowd} localizations; at most {MOST_IN_A_FRAME} are "
            "tracked.",
            "Check the column of frame numbers: rows of many frames may have the same number.",
        )
    parts = zip(frames.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return ordered, [(frame, slice(start, end)) for frame, start, end in parts]


def _steps(
    tracker: TracksLocalizations | Smoother, frames: list[tuple[int, slice]], rate: float | Mapping[int, float]
) -> Iterator[tuple[float, int, slice]]:
    """Time, number and rows of each frame.

    Of a frame rate, frames with localizations and those between them in which tracks are alive; else all frames.
    """
    if not isinstance(rate, float | int):
        rows = dict(frames)
        if unknown := sorted(rows.keys() - rate.keys()):
            raise DataError(f"Frame {unknown[0]} has localizations and no time.", "Give the times of all frames.")
        yield from ((rate[frame], frame, rows.get(frame, slice(0))) for frame in sorted(rate))
        return
    following = 0
    for frame, part in frames:
        while following < frame and not tracker.idle:
            yield following / rate, following, slice(0)
            following += 1
        yield frame / rate, frame, part
        following = frame + 1
