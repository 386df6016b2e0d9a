"""Smoothed tracks of a whole run, some hundreds of frames at a time, with the numbers of its live tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.tables import Localizations, TrackEvents, Tracks
from models.tracking.events import TableObserver
from models.tracking.numbering import LiveNumbers
from models.tracking.smoother import Smoother
from models.tracking.state import TrackState
from service.analysis.frame_localizer import FrameCandidates
from service.analysis.live_tracks import LiveTracks
from service.tracking_settings import TrackingPart

if TYPE_CHECKING:
    from models.tracking.image_tracker import ImageModel

__all__ = ["ROUNDING_S", "SmoothedRun"]

_SMOOTHED_FRAMES = 600
"""Frames whose points are smoothed in one step: about a second, for which a run that begins may wait."""

ROUNDING_S = 1e-6
"""Tolerance of times, which are differences of clock readings: far below a frame period, far above their last bit."""


class SmoothedRun:
    """Takes the frames of a run, and gives smoothed points and their merges and splits.

    Parameters
    ----------
    live : LiveTracks
        Of the run; the smoothed tracks keep their numbers.
    tracking : TrackingPart
    images : ImageModel, optional
        Of the frames that are given to `step_image`.
    """

    def __init__(self, live: LiveTracks, tracking: TrackingPart, images: ImageModel | None = None) -> None:
        self._live = live
        self._tracking = tracking
        self._smoother = Smoother(tracking.tracker_settings, images=images)
        self._numbers = LiveNumbers(live.last)
        self._observer = TableObserver(tracking.observer())
        self._points: list[Tracks] = []
        self._events: list[TrackEvents] = []

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame; give the tracks after it, whose `localization` are rows of `found`."""
        return self._smoother.step(t_s, frame, found)

    def step_image(self, t_s: float, candidates: FrameCandidates) -> tuple[TrackState, Localizations]:
        """Take the image of one frame, with its candidates; give the tracks after it, and the fitted localizations."""
        frame = candidates.frame
        return self._smoother.step_image(t_s, frame.index, candidates.found, frame.pixels, candidates.light)

    def end_all(self) -> None:
        """End every track."""
        self._note(self._smoother.finish())
        self._events.append(self._observer.finish())
        self._observer = TableObserver(self._tracking.observer())

    def take(self) -> tuple[Tracks, TrackEvents]:
        """Points and events that are ready."""
        if self._smoother.frames >= _SMOOTHED_FRAMES + Smoother.KEPT_FRAMES:
            self._note(self._smoother.take())
        points, self._points = self._points, []
        events, self._events = self._events, []
        return Tracks.concatenate(points), TrackEvents.concatenate(events)

    def _note(self, points: Tracks) -> None:
        numbered = self._numbered(points)
        self._points.append(numbered)
        self._events.append(self._observer.add(numbered))

    def _numbered(self, points: Tracks) -> Tracks:
        if not len(points):
            return points
        ahead = self._smoother.ahead
        ends = np.concatenate([points.t_s, ahead.t_s])
        live = self._live.within(float(ends.min()) - ROUNDING_S, float(ends.max()) + ROUNDING_S)
        return self._numbers.rename(points, ahead, live)
