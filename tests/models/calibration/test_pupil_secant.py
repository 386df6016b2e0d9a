"""The secant through two turns ends where slow turns would end, and goes nowhere wild."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration.pupil import Pupil
from models.calibration.pupil_fit import LONGEST_STEP
from models.calibration.pupil_secant import Round, next_start

TRUTH = Pupil(0.45, 1.92, -0.3, 1.0, (0.05, -0.02))


def _round(start: Pupil, share: float) -> Round:
    """One that brings a share of what is missing."""
    vector = start.as_vector()
    return Round(start, start.moved_to(vector + share * (TRUTH.as_vector() - vector)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.3])
def test_two_turns_of_the_same_share_tell_the_end(share: float) -> None:
    first = _round(Pupil(0.46, 1.76, -0.46, 1.29, (0.2, -0.2)), share)
    assert next_start(None, first) == first.result
    second = _round(first.result, share)
    assert next_start(first, second).as_vector() == pytest.approx(TRUTH.as_vector(), abs=1e-9)


def test_a_turn_that_was_thrown_ahead_tells_the_end_too() -> None:
    first = _round(Pupil(0.46, 1.76, -0.46, 1.29, (0.2, -0.2)), 0.5)
    ahead = first.result.moved_to(first.result.as_vector() + 0.7 * first.step * LONGEST_STEP)
    assert next_start(first, _round(ahead, 0.5)).as_vector() == pytest.approx(TRUTH.as_vector(), abs=1e-9)


def test_turns_that_go_apart_go_back_to_the_answer_before_at_most() -> None:
    begin = Pupil(0.4, 1.5)
    step = np.zeros(len(begin.as_vector()))
    step[1] = 0.01
    first = Round(begin, begin.moved_to(begin.as_vector() + step))
    second = Round(first.result, begin.moved_to(begin.as_vector() + 2.01 * step))
    assert next_start(first, second).waves_per_um == pytest.approx(first.result.waves_per_um)


def test_steps_that_do_not_shrink_lead_no_farther_than_three_ways_between_answers() -> None:
    begin = Pupil(0.4, 1.5)
    step = np.zeros(len(begin.as_vector()))
    step[1] = 0.05
    first = Round(begin, begin.moved_to(begin.as_vector() + step))
    second = Round(first.result, begin.moved_to(begin.as_vector() + 1.99 * step))
    assert next_start(first, second).waves_per_um == pytest.approx(1.5 + 0.05 * (1.99 + 3 * 0.99))


def test_turns_that_changed_nothing_stay() -> None:
    still = Round(TRUTH, TRUTH)
    assert next_start(still, still) == TRUTH
