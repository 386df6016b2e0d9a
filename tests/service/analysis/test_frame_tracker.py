"""Tracks of frames improve the static light of later ones, and end when it becomes known."""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware.microscope import Frame
from models.background.frame_light import FrameLight, LightMap
from models.background.static_light import StaticLight
from service.analysis.frame_localizer import FrameCandidates
from service.analysis.frame_tracker import FrameTracker
from tests.models.image_samples import CAMERA, FPS, SHAPE, candidates, counts, image_model

FRAMES = 24


class Localizer:
    """What the tracker asks of a localizer."""

    threshold = 0.5
    image_model = image_model()


class Static(StaticLight):
    """Notes the maps that the tracks give."""

    def __init__(self) -> None:
        super().__init__(CAMERA, lambda _: 0.0, "on")
        self.given: list[int] = []

    def use(self, light: LightMap, number: int) -> None:
        self.given.append(number)


def _tracked(static: Static | None, lit_from: int, count: int = FRAMES) -> list[Any]:
    """States after each frame; the static light is known from frame `lit_from` on."""
    localizer: Any = Localizer()
    tracker = FrameTracker(image_model().tracker(), localizer)
    light = LightMap(np.full(SHAPE, 5.0, np.float32), CAMERA, 1.0)
    states = []
    for n in range(count):
        m = n % FRAMES
        its = FrameLight(light, 1.0, n) if n >= lit_from else None
        frame = Frame(counts(m), n, n / FPS, "simulation", 0.0)
        states.append(tracker.track(FrameCandidates(frame, candidates(m), its, localizer, static), None).state)
    return states


def test_tracks_end_when_static_light_is_first_removed() -> None:
    states = _tracked(Static(), lit_from=12)
    before, after = states[11].track_id, states[-1].track_id
    assert len(before) == len(after) == 4
    assert not set(before) & set(after)


def test_tracks_go_on_where_nothing_follows_the_light() -> None:
    states = _tracked(None, lit_from=12)
    assert states[11].track_id.tolist() == states[-1].track_id.tolist()


def test_a_better_map_is_given_after_256_frames() -> None:
    static = Static()
    _tracked(static, lit_from=0, count=260)
    assert static.given == [256 + 64]
