"""Live refinement keeps within its time."""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware.microscope import Frame
from models.background.frame_light import FrameLight
from models.tables import Localizations
from service.engine.live_refinement import LiveRefinement


def _frame(index: int) -> Frame:
    return Frame(np.zeros((4, 4), np.uint16), index, 0.01 * index, "test", 0.0)


def _found(frame: int, count: int) -> Localizations:
    columns = {name: np.ones(count) for name in Localizations.__slots__ if name != "frame"}
    return Localizations(frame=np.full(count, frame, np.int64), **columns)


class _Fit:
    """A fit that only takes time, by a clock of its own."""

    def __init__(self, monkeypatch: Any, cost_s: float) -> None:
        self.now_s, self._cost_s = 0.0, cost_s
        self.frames: list[int] = []
        monkeypatch.setattr("service.engine.live_refinement.time.monotonic", lambda: self.now_s)

    def __call__(self, frame: Frame, found: Localizations, light: FrameLight | None) -> Localizations:
        self.now_s += self._cost_s * len(found)
        self.frames.append(frame.index)
        return found


def test_the_newest_frames_are_refined_while_there_is_time(monkeypatch: Any) -> None:
    fit = _Fit(monkeypatch, 0.004)
    refinement = LiveRefinement(fit)
    frames, found = [_frame(n) for n in range(4)], [_found(n, 2) for n in range(4)]
    assert len(refinement.refine(frames, found, [None] * 4, until_s=0.06)) == 4
    # 40 ms are expected of a frame, by the first guess: the fourth is not begun at 24 ms of 60.
    assert fit.frames == [3, 2, 1]
    assert refinement.frames == 3


def test_without_time_nothing_is_refined_and_nothing_changes(monkeypatch: Any) -> None:
    fit = _Fit(monkeypatch, 0.004)
    found = [_found(0, 2)]
    assert LiveRefinement(fit).refine([_frame(0)], found, [None], until_s=0.01)[0] is found[0]
    assert fit.frames == []


def test_a_slow_fit_is_not_tried_again_soon(monkeypatch: Any) -> None:
    fit = _Fit(monkeypatch, 0.5)
    refinement = LiveRefinement(fit)
    refinement.refine([_frame(0)], [_found(0, 1)], [None], until_s=1.0)
    refinement.refine([_frame(1)], [_found(1, 1)], [None], until_s=fit.now_s + 0.4)
    assert fit.frames == [0]
    refinement.refine([_frame(2)], [_found(2, 0)], [None], until_s=fit.now_s + 0.4)
    assert refinement.frames == 1
