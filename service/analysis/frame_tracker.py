"""The second half of the analysis: tracks after each frame, from its image and its candidates."""

from __future__ import annotations

from dataclasses import dataclass

from models.background.static_light import StaticLight
from models.tables import Localizations
from models.tracking import TracksLocalizations, TrackState
from models.tracking.image_filter import FULL, Effort
from models.tracking.image_tracker import ImageTracker, kept
from models.tracking.light_beneath_tracks import LightBeneathTracks
from service.analysis.frame_localizer import FrameCandidates, LocalizesFrames

__all__ = ["FrameResult", "FrameTracker"]


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Localizations of one frame, and the tracks after it.

    Attributes
    ----------
    frame : the camera's image number
    time_s : mid-exposure on the monotonic clock, s
    found : localizations of this frame: from the model's threshold on, and those of shown tracks below it
    state : the tracks after it; its `localization` are rows of `found`
    """

    frame: int
    time_s: float
    found: Localizations
    state: TrackState


class FrameTracker:
    """Tracks emitters in the images or, with another tracker than an `ImageTracker`, in the candidates.

    Candidates of another model than those of the frame before end all live tracks, because depths of two models
    differ. An `ImageTracker` fits images where the present model has a PSF.

    Parameters
    ----------
    tracker : TracksLocalizations
        New for each run: it keeps state.
    localizer : LocalizesFrames
        Of the first frames.
    """

    def __init__(self, tracker: TracksLocalizations, localizer: LocalizesFrames) -> None:
        self._tracker = tracker
        self._images = tracker if isinstance(tracker, ImageTracker) else None
        self._localizer = localizer
        self._start_s: float | None = None
        self._beneath: LightBeneathTracks | None = None
        self._static: StaticLight | None = None

    @property
    def fits(self) -> bool:
        """Whether emitters are fitted to the images."""
        return self._images is not None and self._images.fits

    def follow(self, localizer: LocalizesFrames) -> None:
        """Continue with the candidates of another model; nothing happens when it is the same."""
        if localizer is self._localizer:
            return
        self._localizer = localizer
        if self._images is None:
            self._tracker.end_all()
        else:
            self._images.swap(localizer.image_model)

    def _improve_light(self, candidates: FrameCandidates, state: TrackState) -> None:
        """Let the tracks improve the static light of later frames."""
        if candidates.static is not self._static:
            self._static, self._beneath = candidates.static, None
            images = candidates.localizer.image_model
            if images is not None and candidates.static is not None:
                self._beneath = LightBeneathTracks(images, candidates.static)
        if self._beneath is not None and self._beneath.add(candidates.frame.pixels, candidates.light, state):
            self._tracker.end_all()

    def emitters(self, candidates: FrameCandidates) -> int:
        """Expected number of emitters in the fit of the next frame."""
        return 0 if self._images is None else self._images.emitters(candidates.found)

    def track(self, candidates: FrameCandidates, effort: Effort | None = FULL) -> FrameResult:
        """Tracks after a frame. Times count from the frame of the first call.

        Parameters
        ----------
        candidates : FrameCandidates
        effort : Effort or None
            How much of the fit is made, when emitters are fitted to the images.
        """
        frame, found = candidates.frame, candidates.found
        self.follow(candidates.localizer)
        if self._start_s is None:
            self._start_s = frame.time_s
        t_s = frame.time_s - self._start_s
        if self._images is None:
            state = self._tracker.step(t_s, frame.index, found)
        else:
            state, found = self._images.step_image(t_s, frame.index, found, frame.pixels, candidates.light, effort)
            self._improve_light(candidates, state)
        found, state = kept(found, state, candidates.localizer.threshold)
        return FrameResult(frame.index, frame.time_s, found, state)
