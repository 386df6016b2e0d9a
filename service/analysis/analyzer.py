"""From frames to localizations to tracks, in one thread. Deferred frames are analysed with it after the run.

Live, a `FrameLocalizer` and a `FrameTracker` work in two threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hardware.microscope import Frame
from models.background.mode import StaticLightMode
from models.tracking import TracksLocalizations
from service.analysis.frame_localizer import FrameLocalizer, LocalizesFrames
from service.analysis.frame_tracker import FrameResult, FrameTracker

__all__ = ["Analyzer"]


class Analyzer:
    """A `FrameLocalizer` and a `FrameTracker`, one after the other.

    Parameters
    ----------
    localizer : LocalizesFrames
    tracker : TracksLocalizations
        New for each run: it keeps state. An `ImageTracker` is given the images too.
    least : float, optional
        Probability from which candidates are given to the tracker; the model's threshold when not given.
    static_light : {"auto", "on", "off"}
        Whether light that stands still is removed from the frames; see `models.background`.

    Attributes
    ----------
    localizer : FrameLocalizer
    tracker : FrameTracker
    """

    def __init__(
        self,
        localizer: LocalizesFrames,
        tracker: TracksLocalizations,
        least: float | None = None,
        static_light: StaticLightMode = "off",
    ) -> None:
        self.localizer = FrameLocalizer(localizer, least, static_light)
        self.tracker = FrameTracker(tracker, localizer)

    def analyze(self, frames: Sequence[Frame]) -> Iterator[FrameResult]:
        """Results of frames, in order, with all of the fit."""
        for candidates in self.localizer.localize(frames):
            yield self.tracker.track(candidates)
