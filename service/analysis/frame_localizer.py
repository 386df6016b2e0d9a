"""The first half of the analysis: candidates of emitters in each frame, from the networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.background.frame_light import FrameLight, remove_light
from models.background.mode import StaticLightMode
from models.background.static_light import StaticLight
from models.tables import Localizations
from models.tracking.image_tracker import ImageModel

__all__ = ["FrameCandidates", "FrameLocalizer", "LocalizesFrames"]


class LocalizesFrames(Protocol):
    """The part of a localizer that the engine uses."""

    @property
    def threshold(self) -> float:
        """Probability at which the model calls something an emitter."""

    def localize(
        self, frames: NDArray[np.uint16], frame_numbers: NDArray[np.int64], least: float | None = None
    ) -> Localizations:
        """Find the emitters of frames of shape (B, H, W), down to the probability `least`; None: the threshold."""

    @property
    def image_model(self) -> ImageModel | None:
        """What a fit of the images needs; None where the model has no PSF."""

    def static_light(self, mode: StaticLightMode) -> StaticLight | None:
        """What follows the static light of the frames of one run; None when it is off."""


@dataclass(frozen=True, slots=True)
class FrameCandidates:
    """A frame with its candidates.

    Attributes
    ----------
    frame : Frame
    found : Localizations
        Candidates of this frame, from a probability below the model's threshold on.
    light : FrameLight or None
        Static light of the frame; None where none is known.
    localizer : LocalizesFrames
        The one that found them.
    static : StaticLight or None
        What follows the light, where tracks may improve it.
    """

    frame: Frame
    found: Localizations
    light: FrameLight | None
    localizer: LocalizesFrames
    static: StaticLight | None = None


class FrameLocalizer:
    """Finds the candidates of frames, after it has removed their static light.

    Parameters
    ----------
    localizer : LocalizesFrames
    least : float, optional
        Probability from which candidates are given; the model's threshold when not given.
    static_light : {"auto", "on", "off"}
        Whether light that stands still is removed from the frames; see `models.background`.
    """

    def __init__(
        self, localizer: LocalizesFrames, least: float | None = None, static_light: StaticLightMode = "off"
    ) -> None:
        self._least = least
        self._mode = static_light
        self.swap(localizer)

    def swap(self, localizer: LocalizesFrames) -> None:
        """Continue with another model.

        The estimate of the static light starts again, because the two may describe the camera differently.
        """
        self._localizer = localizer
        self._light = localizer.static_light(self._mode)

    @property
    def removes_static_light(self) -> bool | None:
        """Whether static light is removed from the present frames; None when that is off."""
        light = self._light
        return None if light is None else light.in_use

    def begin_with(self, frames: Iterable[NDArray[np.uint16]], count: int) -> None:
        """Take a first map of the static light from `count` frames (H, W) of a recording; see `StaticLight`."""
        if self._light is not None:
            self._light.begin_with(frames, count)

    def localize(self, frames: Sequence[Frame]) -> list[FrameCandidates]:
        """Candidates of each frame, whose static light is followed; one call of the network for all of them."""
        followed = self._light
        pixels = np.stack([frame.pixels for frame in frames])
        return self.localize_in([None] * len(frames) if followed is None else followed.follow(pixels), frames)

    def localize_in(self, lights: Sequence[FrameLight | None], frames: Sequence[Frame]) -> list[FrameCandidates]:
        """As `localize`, with the static light of each frame given."""
        localizer = self._localizer
        pixels = np.stack([frame.pixels for frame in frames])
        numbers = np.array([frame.index for frame in frames], np.int64)
        least = None if self._least is None else min(self._least, localizer.threshold)
        found = localizer.localize(remove_light(pixels, lights), numbers, least)
        return [
            FrameCandidates(frame, found.select(found.frame == frame.index), light, localizer, self._light)
            for frame, light in zip(frames, lights, strict=True)
        ]
