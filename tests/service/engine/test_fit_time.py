"""The degree of the fit of each frame, with a clock of the test."""

from __future__ import annotations

import pytest

from models.tracking.compilation import REHEARSED_EMITTERS
from models.tracking.image_filter import FULL
from service.engine.fit_time import DEGREES, FitTime

MS = 1e-3
EMITTERS = REHEARSED_EMITTERS
PERIOD_S = 10 * MS
COSTS_S = {"full": 5 * MS, "steps": 2.5 * MS, "part": 1.3 * MS}
"""Of 16 emitters; one emitter takes 0.08 ms, and a fit without any 1.22 ms."""


class Clock:
    """Frames that come every 10 ms, arrive 6 ms after mid-exposure, and are localized in a given time."""

    def __init__(self, fit_time: FitTime, localizing_s: float = 3 * MS) -> None:
        self.fit_time, self.localizing_s = fit_time, localizing_s
        self.frame = 0

    def next(self, emitters: int = EMITTERS, frames: int = 1, waiting: int = 0) -> str:
        """Degree of the next frame, or of the first one of the next batch."""
        self.frame += frames
        time_s = self.frame * PERIOD_S
        taken_s = time_s + 6 * MS
        self.fit_time.begin(time_s, taken_s, frames)
        degree, self.effort = self.fit_time.choose(emitters, taken_s + self.localizing_s, frames, waiting)
        return degree


def begun(localizing_s: float = 3 * MS) -> Clock:
    clock = Clock(FitTime(COSTS_S), localizing_s)
    clock.next()
    return clock


def test_all_of_the_fit_is_made_when_there_is_time() -> None:
    clock = begun()
    assert [clock.next() for _ in range(5)] == ["full"] * 5
    assert clock.effort == FULL
    assert clock.fit_time.counts == {"full": 6, "steps": 0, "part": 0, "none": 0}


@pytest.mark.parametrize(
    ("localizing_ms", "degree"), [(3.9, "full"), (4.1, "steps"), (6.4, "steps"), (6.6, "part"), (7.9, "none")]
)
def test_what_there_is_no_time_for_is_left_out(localizing_ms: float, degree: str) -> None:
    # 9 of the 10 ms may be used.
    assert begun(localizing_ms * MS).next() == degree


def test_a_part_is_as_large_as_the_time_allows() -> None:
    clock = begun(6.6 * MS)
    assert clock.next() == "part"
    few = clock.effort
    clock.localizing_s = 6.9 * MS
    assert clock.next() == "part"
    assert few is not None
    assert clock.effort is not None
    assert EMITTERS > few.emitters > clock.effort.emitters >= 2
    assert (few.steps, few.search) == (1, False)


def test_many_emitters_take_more_time() -> None:
    clock = begun()
    assert clock.next(2 * EMITTERS) == "steps"
    assert clock.next(8 * EMITTERS) == "part"


def test_frames_that_have_waited_and_wait_get_less() -> None:
    clock = begun()
    assert clock.next(frames=2) == "steps"
    assert clock.next(frames=6) == "none"
    assert clock.next(waiting=1) == "full"
    assert clock.next(waiting=2) == "none"
    assert clock.next() == "full"


def test_the_time_of_a_fit_is_learned_and_a_slow_degree_is_tried_again() -> None:
    clock = begun()
    effort = FULL
    for _ in range(20):
        clock.fit_time.note("full", effort, EMITTERS, 9 * MS)
    assert clock.next() == "steps"
    later = [clock.next() for _ in range(150)]
    assert "full" in later
    assert later.index("full") > 10
    for _ in range(60):
        clock.fit_time.note("full", effort, EMITTERS, 4 * MS)
    assert clock.next() == "full"


def test_one_hiccup_does_not_stop_the_fit() -> None:
    clock = begun()
    for _ in range(30):
        clock.fit_time.note("full", FULL, EMITTERS, 3 * MS)
    clock.fit_time.note("full", FULL, EMITTERS, 8 * MS)
    assert [clock.next() for _ in range(3)] == ["full"] * 3


def test_the_first_frame_has_time() -> None:
    fit_time = FitTime()
    fit_time.begin(0.0, 6 * MS)
    assert fit_time.choose(0, 100.0)[0] == "full"
    assert tuple(fit_time.counts) == DEGREES


def test_frames_that_are_gathered_have_the_time_of_the_batch() -> None:
    fit_time = FitTime(COSTS_S)
    for frame in (1, 5, 9):
        fit_time.begin(frame * PERIOD_S, frame * PERIOD_S + 6 * MS, frames=4, gather_s=40 * MS)
    assert fit_time.choose(EMITTERS, 9 * PERIOD_S + 16 * MS, frames=4)[0] == "full"
    fit_time.begin(13 * PERIOD_S, 13 * PERIOD_S + 6 * MS, frames=4, gather_s=0.0)
    assert fit_time.choose(EMITTERS, 13 * PERIOD_S + 10 * MS, frames=4)[0] == "none"
