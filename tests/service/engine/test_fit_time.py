"""The degree of the fit of each frame, with a clock of the test."""

from __future__ import annotations

import pytest

from models.tracking.image_filter import FULL
from service.engine.fit_time import DEGREES, EFFORTS, FitCost, FitTime

MS = 1e-3
EMITTERS = 16
FULL_S, STEPS_S = 5 * MS, 2.5 * MS
COST = FitCost.of({"full": FULL_S, "steps": STEPS_S}, EMITTERS, 1.3 * MS)
"""One emitter takes 0.08 ms in few steps, and a fit without any 1.22 ms."""


class Clock:
    """Frames that come in a given period, and whose fits take a given time."""

    def __init__(self, period_s: float, cost: FitCost = COST) -> None:
        self.fit_time, self.period_s, self.time_s = FitTime(cost), period_s, 0.0
        self.next()

    def next(
        self,
        emitters: int = EMITTERS,
        waited_s: float = 0.0,
        waiting: int = 0,
        missing: int = 0,
        full_s: float = FULL_S,
        steps_s: float = STEPS_S,
    ) -> str:
        """Degree of the next frame."""
        self.time_s += self.period_s
        degree, self.effort = self.fit_time.choose(self.time_s, emitters, waited_s, waiting, missing)
        self.fit_time.note(degree, emitters, {"full": full_s, "steps": steps_s, "none": 0.0}[degree])
        return degree


def test_the_cost_of_a_fit_has_a_fixed_part() -> None:
    assert COST.fixed_emitters * COST.emitter_s["steps"] == pytest.approx(1.22 * MS)
    assert COST.emitter_s["steps"] == pytest.approx(0.08 * MS)


def test_all_of_the_fit_is_made_when_there_is_time() -> None:
    clock = Clock(10 * MS)
    assert [clock.next() for _ in range(5)] == ["full"] * 5
    assert clock.effort == FULL
    assert clock.fit_time.counts == {"full": 6, "steps": 0, "none": 0}


@pytest.mark.parametrize(("period_ms", "degree"), [(6.8, "full"), (6.4, "steps"), (3.4, "steps")])
def test_what_there_is_no_time_for_is_left_out(period_ms: float, degree: str) -> None:
    # Three quarters of the period may be used.
    clock = Clock(period_ms * MS)
    assert [clock.next() for _ in range(4)] == [degree] * 4
    assert clock.effort == EFFORTS[degree]


def test_a_fit_that_takes_longer_than_a_frame_is_made_for_some_frames() -> None:
    clock = Clock(1.5 * MS)
    degrees = [clock.next() for _ in range(54)]
    # Each frame saves 1.125 ms, and a fit takes 2.5 ms.
    assert degrees.count("steps") == pytest.approx(54 * 1.125 / 2.5, abs=2)
    assert degrees.count("full") == 0
    assert "steps steps" not in " ".join(degrees[4:])


def test_a_fit_that_takes_many_frames_is_not_made() -> None:
    clock = Clock(0.5 * MS)
    assert {clock.next() for _ in range(20)} == {"none"}


def test_many_emitters_take_more_time() -> None:
    clock = Clock(10 * MS)
    assert clock.next(4 * EMITTERS) == "steps"
    assert clock.next(40 * EMITTERS) == "none"


def test_a_late_frame_is_not_fitted() -> None:
    clock = Clock(10 * MS)
    assert clock.next(waited_s=19 * MS) == "full"
    assert clock.next(waited_s=21 * MS) == "none"
    assert clock.next(waiting=6) == "full"
    assert clock.next(waiting=7) == "none"
    assert clock.next() == "full"


def test_while_frames_are_missing_less_is_fitted() -> None:
    clock = Clock(10 * MS)
    assert clock.next(missing=1) == "full"
    lossy = [clock.next(missing=1) for _ in range(200)]
    assert lossy[1] == "steps"
    assert lossy[-100:] == ["none"] * 100
    after = [clock.next() for _ in range(1000)]
    assert after[-100:] == ["full"] * 100
    assert "full" not in after[:100]


def test_the_time_of_a_fit_is_learned_and_a_slow_degree_is_tried_again() -> None:
    clock = Clock(10 * MS)
    for _ in range(30):
        clock.next(full_s=12 * MS)
    degrees = [clock.next(full_s=12 * MS) for _ in range(2000)]
    assert 0 < degrees.count("full") < 20
    for _ in range(2000):
        clock.next(full_s=4 * MS)
    assert clock.next(full_s=4 * MS) == "full"


def test_one_hiccup_does_not_stop_the_fit() -> None:
    clock = Clock(10 * MS)
    for _ in range(30):
        clock.next(full_s=3 * MS)
    clock.next(full_s=12 * MS)
    assert [clock.next(full_s=3 * MS) for _ in range(3)][-1] == "full"


def test_the_first_frame_has_time() -> None:
    fit_time = FitTime()
    assert fit_time.choose(0.0, 0)[0] == "full"
    assert tuple(fit_time.counts) == DEGREES
