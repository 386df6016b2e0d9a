from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.ledger import Ledger, LedgerCounts

# What becomes of a frame, and how many were lost before it.
FATES = st.sampled_from(["analysed", "deferred", "waiting"])
FRAMES = st.lists(st.tuples(st.integers(0, 5), FATES, st.sampled_from(["recorded", "unrecorded", "waiting"])))


@settings(max_examples=200, deadline=None)
@given(FRAMES, st.booleans())
def test_the_ledger_balances_after_every_step(frames: Any, recorder_first: bool) -> None:
    ledger, index = Ledger(), -1
    expected = dict.fromkeys(LedgerCounts().as_dict(), 0)
    for gap, fate, kept in frames:
        index += gap + 1
        assert ledger.grab(index) == gap
        ledger.admit(index, recording=True)
        # Between grabbing and admitting lies one call of the grab thread; from here on it has to balance.
        assert ledger.counts().balances
        expected["exposed"] = index + 1
        expected["grabbed"] += 1
        expected["lost"] += gap
        steps = [(analyse, fate), (record, kept)]
        for step, what in steps[::-1] if recorder_first else steps:
            step(ledger, index, what)
            assert ledger.counts().balances
        # What was deferred and could not be written is skipped, in whichever order the two became known.
        fate = "skipped" if (fate, kept) == ("deferred", "unrecorded") else fate
        expected["in_flight" if fate == "waiting" else fate] += 1
        if kept != "waiting":
            expected[kept] += 1
        assert ledger.counts().as_dict() == expected


def analyse(ledger: Ledger, index: int, fate: str) -> None:
    if fate == "analysed":
        ledger.analyse(index)
    elif fate == "deferred":
        ledger.turn_away([index])


def record(ledger: Ledger, index: int, kept: str) -> None:
    if kept == "recorded":
        ledger.record([index])
    elif kept == "unrecorded":
        ledger.leave_unrecorded([index])


def test_without_a_recorder_late_frames_are_skipped() -> None:
    ledger = Ledger()
    for index in range(3):
        ledger.grab(index)
        ledger.admit(index, recording=False)
    ledger.turn_away([0, 2])
    assert ledger.counts() == LedgerCounts(exposed=3, grabbed=3, skipped=2, in_flight=1)


def test_frames_are_forgotten_when_their_fate_is_known() -> None:
    ledger = Ledger()
    for index in range(4):
        ledger.grab(index)
        ledger.admit(index, recording=True)
    ledger.analyse(0)
    ledger.record([0, 1])
    ledger.turn_away([1, 2])
    assert set(ledger._undecided) == {2, 3}
    ledger.leave_unrecorded([2, 3])
    ledger.analyse(3)
    assert not ledger._undecided
    assert ledger.counts() == LedgerCounts(
        exposed=4, grabbed=4, recorded=2, unrecorded=2, analysed=2, deferred=1, skipped=1
    )


@pytest.mark.parametrize("index", [3, 4])
def test_image_numbers_must_rise(index: int) -> None:
    ledger = Ledger()
    ledger.grab(4)
    with pytest.raises(ValueError, match="they must rise"):
        ledger.grab(index)
    assert ledger.counts() == LedgerCounts(exposed=5, grabbed=1, lost=4)


def test_a_frame_that_vanishes_shows() -> None:
    ledger = Ledger()
    ledger.grab(0)
    assert not ledger.counts().balances
    ledger.admit(0, recording=False)
    assert ledger.counts().balances
    ledger.analyse(0)
    ledger.analyse(0)
    assert not ledger.counts().balances


def test_more_records_than_frames_show() -> None:
    ledger = Ledger()
    ledger.grab(0)
    ledger.admit(0, recording=True)
    ledger.record([0, 1])
    assert not ledger.counts().balances
