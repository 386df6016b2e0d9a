"""The tracker with its points given later, smoothed by what came after them.

Frames are taken as live. What the tracker linked is kept, and points are given
when nothing that comes later changes them noticeably: with a lag, so that
memory does not grow with the length of a run, or all at the end. A track keeps
the number that the tracker gave it; of joined pieces all have that of the
first one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.tables import Localizations, Tracks
from models.tracking.links import Links, TrackLinks
from models.tracking.relinking import relink
from models.tracking.settings import TrackerSettings
from models.tracking.smoothing import Motion, Path, Smoothed, smooth
from models.tracking.state import TrackState
from models.tracking.tracker import Tracker, measurements

if TYPE_CHECKING:
    from models.background.frame_light import FrameLight
    from models.tracking.image_tracker import ImageModel

__all__ = ["Smoother"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LAG_FRAMES = 300
"""More than the longest gap that is closed, and many times the memory of the filters."""


class Smoother:
    """Takes localizations frame after frame, and gives smoothed points.

    Parameters
    ----------
    settings : TrackerSettings, optional
    fps : float, optional
        Frames per second. With it, tracks have points in every frame from their first to their last one; else in
        those frames that were taken.
    images : ImageModel, optional
        Tracks camera frames, which are given to `step_image`.

    Attributes
    ----------
    ahead : Tracks
        Points after those that were given last, as they are known until now.
    """

    KEPT_FRAMES = 2 * _LAG_FRAMES
    """Frames that are kept after points were taken: those not given yet, and as many before them."""

    def __init__(
        self, settings: TrackerSettings | None = None, fps: float | None = None, images: ImageModel | None = None
    ) -> None:
        self._settings = settings or TrackerSettings()
        self._fps = fps
        self._links = Links()
        self._images = None if images is None else images.tracker(self._settings, self._links)
        self._tracker = Tracker(self._settings, self._links) if self._images is None else self._images.filter
        self._frames: list[int] = []
        self._measured: dict[int, tuple[F64, F64]] = {}
        self._wholes: dict[int, int] = {}
        self._given: set[int] = set()
        self._given_to = -1
        self.ahead = Tracks.empty()

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even an unconfirmed one."""
        return self._tracker.idle

    @property
    def frames(self) -> int:
        """Number of frames that are kept."""
        return len(self._frames)

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame; see `TracksLocalizations.step`."""
        state = (self._images or self._tracker).step(t_s, frame, found)
        self._keep(frame, found)
        return state

    def step_image(
        self,
        t_s: float,
        frame: int,
        found: Localizations,
        counts: NDArray[np.uint16],
        light: FrameLight | None = None,
    ) -> tuple[TrackState, Localizations]:
        """Take one camera frame with its candidates; see `ImageTracker.step_image`."""
        if self._images is None:
            raise TypeError("camera frames need `images`")
        state, table = self._images.step_image(t_s, frame, found, counts, light)
        self._keep(frame, table)
        return state, table

    def _keep(self, frame: int, found: Localizations) -> None:
        self._frames.append(frame)
        self._measured[frame] = measurements(found, np.arange(len(found)), self._settings)

    def take(self) -> Tracks:
        """Points that have not been given yet, up to a lag behind the newest frame; frame after frame."""
        return self._take((self._frames[-1] if self._frames else 0) - _LAG_FRAMES)

    def finish(self) -> Tracks:
        """All points that have not been given yet. All tracks end, and are not joined to later ones."""
        points = self._take(None)
        self._tracker.end_all()
        return points

    def _take(self, until: int | None) -> Tracks:
        motion = Motion.of(self._tracker.noise, self._settings.keep_model)
        tracks = self._joined(self._links.tracks())
        if self._join_pieces(tracks, relink(tracks, self._paths(tracks), motion)):
            tracks = self._joined(tracks)
        last = (self._frames[-1] if self._frames else -1) if until is None else until
        tracks = [track for track in tracks if track.frame[-1] > self._given_to]
        points = self._table(tracks, smooth(self._paths(tracks), motion))
        self.ahead = points.select(points.frame > last)
        points = points.select((points.frame > self._given_to) & (points.frame <= last))
        self._given.update(np.unique(points.track_id).tolist())
        self._given_to = max(self._given_to, last)
        self._forget(None if until is None else until - _LAG_FRAMES)
        return points

    def _joined(self, tracks: Sequence[TrackLinks]) -> list[TrackLinks]:
        """The tracks, those of one number in one piece."""
        wholes: dict[int, TrackLinks] = {}
        for track in sorted(tracks, key=lambda track: int(track.frame[0])):
            number = self._wholes.get(track.track_id, track.track_id)
            renamed = TrackLinks(number, track.frame, track.localization)
            wholes[number] = wholes[number].join(renamed) if number in wholes else renamed
        return [wholes[number] for number in sorted(wholes)]

    def _join_pieces(self, pieces: Sequence[TrackLinks], wholes: Sequence[TrackLinks]) -> bool:
        """Note which pieces are of which track now; one that was given with its own number keeps it."""
        kept = {track.track_id for track in wholes}
        joined = [piece for piece in pieces if piece.track_id not in kept | self._given]
        for piece in joined:
            for whole in wholes:
                place = int(np.searchsorted(whole.frame, piece.frame[0]))
                if place < len(whole.frame) and (
                    (whole.frame[place], whole.localization[place]) == (piece.frame[0], piece.localization[0])
                ):
                    self._rename(piece.track_id, whole.track_id)
        return bool(joined)

    def _rename(self, piece: int, whole: int) -> None:
        for other, its in list(self._wholes.items()):
            if its == piece:
                self._wholes[other] = whole
        self._wholes[piece] = whole

    def _forget(self, before: int | None) -> None:
        """Drop frames before a number; None: all."""
        count = len(self._frames) if before is None else bisect_left(self._frames, before)
        for frame in self._frames[:count]:
            del self._measured[frame]
        del self._frames[:count]
        self._links.forget(before)

    def _between(self, first: int, last: int) -> tuple[I64, F64]:
        """Numbers and times of the frames of a track."""
        if self._fps is not None:
            frames = np.arange(first, last + 1)
            return frames, frames / self._fps
        known = self._frames[bisect_left(self._frames, first) : bisect_right(self._frames, last)]
        return np.array(known, np.int64), np.array([self._links.times_s[frame] for frame in known])

    def _paths(self, tracks: Sequence[TrackLinks]) -> list[Path]:
        return [self._path(track) for track in tracks]

    def _path(self, track: TrackLinks) -> Path:
        frames, times_s = self._between(int(track.frame[0]), int(track.frame[-1]))
        at = np.searchsorted(frames, track.frame)
        seen = np.zeros(len(frames), bool)
        seen[at] = True
        where, spread = np.zeros((len(frames), 3)), np.ones((len(frames), 3))
        for place, frame, row in zip(at.tolist(), track.frame.tolist(), track.localization.tolist(), strict=True):
            measured, variance = self._measured[frame]
            where[place], spread[place] = measured[:, row], variance[:, row]
        return Path(times_s, seen, where, spread)

    def _table(self, tracks: Sequence[TrackLinks], smoothed: Sequence[Smoothed]) -> Tracks:
        parts = []
        for track, points in zip(tracks, smoothed, strict=True):
            frames, times_s = self._between(int(track.frame[0]), int(track.frame[-1]))
            parts.append(
                Tracks(
                    np.full(len(frames), track.track_id),
                    frames,
                    times_s,
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
        table = table.select((table.observed == 1) | (mean_variance < self._settings.show_sigma_um**2))
        return table.select(np.lexsort((table.track_id, table.frame)))
