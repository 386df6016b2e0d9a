"""Tracks of a whole table of localizations: as live, or smoothed with what came later.

Both run the same tracker. The live form gives what an instrument would have
given while the frames came. The smoothed form waits until the end: it fills in
the points before a track was confirmed and those at which it was not seen,
cuts the points after its last localization, joins the pieces of a track that
was lost for a while, and estimates each point from all localizations of its
track.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.tables import Localizations, Tracks
from models.tracking.links import Links, TrackLinks
from models.tracking.published import PublishedTracker
from models.tracking.relinking import relink
from models.tracking.settings import Preset, TrackerSettings
from models.tracking.smoothing import Motion, Path, Smoothed, smooth
from models.tracking.state import TracksLocalizations
from models.tracking.tracker import Tracker, measurements

__all__ = ["MOST_IN_A_FRAME", "make_tracker", "smoothed_tracks", "track_table"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_IN_A_FRAME = 100_000
"""A sensor of 4096 x 4096 pixels would have 170 pixels for each, less than a pattern covers."""


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
        return PublishedTracker()
    return Tracker(settings)


def track_table(
    found: Localizations, fps: float, settings: TrackerSettings | None = None, preset: Preset = "default"
) -> Tracks:
    """Track a whole table, with the same result as live.

    Parameters
    ----------
    found : Localizations
        In any order.
    fps : float
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional
    preset : {"default", "published"}

    Returns
    -------
    Tracks
        The confirmed tracks, frame after frame.

    Raises
    ------
    DataError
        When the frame rate is not positive, or a position or sigma is not a finite number; when a frame has more
        than `MOST_IN_A_FRAME` localizations.
    """
    tracker = make_tracker(preset, settings)
    ordered, frames = _by_frame(found, fps)
    rows = [tracker.step(frame / fps, frame, ordered.select(part)).rows() for frame, part in _steps(tracker, frames)]
    return Tracks.concatenate(rows)


def smoothed_tracks(found: Localizations, fps: float, settings: TrackerSettings | None = None) -> Tracks:
    """Track a whole table, and smooth the tracks with what came later.

    Parameters
    ----------
    found : Localizations
        In any order.
    fps : float
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional

    Returns
    -------
    Tracks
        All points from the first localization of a track to its last one, frame after frame.

    Raises
    ------
    DataError
        As `track_table`.
    """
    settings = settings or TrackerSettings()
    links = Links()
    tracker = Tracker(settings, links)
    ordered, frames = _by_frame(found, fps)
    for frame, part in _steps(tracker, frames):
        tracker.step(frame / fps, frame, ordered.select(part))
    measured, variance = measurements(ordered, np.arange(len(ordered)), settings)
    starts = {frame: part.start for frame, part in frames}
    motion = Motion.of(tracker.noise, settings.keep_model)

    def paths(tracks: Sequence[TrackLinks]) -> list[Path]:
        return [_path(track, starts, measured, variance, fps) for track in tracks]

    tracks = links.tracks()
    tracks = relink(tracks, paths(tracks), motion)
    return _table(tracks, smooth(paths(tracks), motion), fps, settings.show_sigma_um)


def _by_frame(found: Localizations, fps: float) -> tuple[Localizations, list[tuple[int, slice]]]:
    """The table in order of frames, and the rows of each frame."""
    if not 0 < fps < np.inf:
        raise DataError(f"The frame rate is {fps} fps; it must be positive and finite.", "Give the camera's rate.")
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


def _steps(tracker: TracksLocalizations, frames: list[tuple[int, slice]]) -> Iterator[tuple[int, slice]]:
    """Frames with localizations, and those between them in which tracks are alive."""
    following = 0
    for frame, part in frames:
        while following < frame and not tracker.idle:
            yield following, slice(0)
            following += 1
        yield frame, part
        following = frame + 1


def _path(track: TrackLinks, starts: dict[int, int], measured: F64, variance: F64, fps: float) -> Path:
    first, last = int(track.frame[0]), int(track.frame[-1])
    at = track.frame - first
    rows = np.array([starts[frame] for frame in track.frame.tolist()]) + track.localization
    seen = np.zeros(last - first + 1, bool)
    seen[at] = True
    where, spread = np.zeros((len(seen), 3)), np.ones((len(seen), 3))
    where[at], spread[at] = measured[:, rows].T, variance[:, rows].T
    return Path(np.arange(first, last + 1) / fps, seen, where, spread)


def _table(tracks: Sequence[TrackLinks], smoothed: Sequence[Smoothed], fps: float, show_sigma_um: float) -> Tracks:
    parts = []
    for track, points in zip(tracks, smoothed, strict=True):
        frames = np.arange(track.frame[0], track.frame[-1] + 1)
        parts.append(
            Tracks(
                np.full(len(frames), track.track_id),
                frames,
                frames / fps,
                points.position_um[:, 0],
                points.position_um[:, 1],
                points.position_um[:, 2],
                points.velocity_um_s[:, 0],
                points.velocity_um_s[:, 1],
                points.velocity_um_s[:, 2],
                points.sigma_um[:, 0],
                points.sigma_um[:, 1],
                points.sigma_um[:, 2],
                np.isin(frames, track.frame).astype(np.int64),
                np.ones(len(frames)),
            )
        )
    table = Tracks.concatenate(parts)
    mean_variance = (table.sigma_x_um**2 + table.sigma_y_um**2 + table.sigma_z_um**2) / 3
    table = table.select((table.observed == 1) | (mean_variance < show_sigma_um**2))
    return table.select(np.lexsort((table.track_id, table.frame)))
