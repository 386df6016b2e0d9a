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
    ledger, index = Ledger(recording=True), -1
    expected = dict.fromkeys(LedgerCounts().as_dict(), 0)
    for gap, fate, kept in frames:
        index += gap + 1
        assert ledger.grab(index) == gap
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
        ledger.analyse([index])
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
    ledger.turn_away([0, 2])
    assert ledger.counts() == LedgerCounts(exposed=3, grabbed=3, skipped=2, in_flight=1)


def test_frames_are_forgotten_when_their_fate_is_known() -> None:
    ledger = Ledger(recording=True)
    for index in range(4):
        ledger.grab(index)
    ledger.analyse([0])
    ledger.record([0, 1])
    ledger.turn_away([1, 2])
    assert set(ledger._undecided) == {2, 3}
    ledger.leave_unrecorded([2, 3])
    ledger.analyse([3])
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
    assert ledger.counts() == LedgerCounts(exposed=5, grabbed=1, lost=4, in_flight=1)


def test_what_is_about_to_be_stored_counts_as_analysed_in_what_is_stored_with_it() -> None:
    ledger = Ledger()
    for index in range(3):
        ledger.grab(index)
    assert ledger.counts(storing=2) == LedgerCounts(exposed=3, grabbed=3, analysed=2, in_flight=1)
    assert ledger.counts() == LedgerCounts(exposed=3, grabbed=3, in_flight=3)


def test_a_frame_that_is_reported_twice_or_never_came_is_refused() -> None:
    ledger = Ledger(recording=True)
    for index in range(3):
        ledger.grab(index)
    ledger.analyse([0])
    ledger.record([1])
    before = ledger.counts()
    for report, index in (
        (ledger.analyse, 0), (ledger.turn_away, 0), (ledger.analyse, 7),
        (ledger.record, 1), (ledger.leave_unrecorded, 1), (ledger.record, 7),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"frame {index} left the"):
            report([index])
    assert ledger.counts() == before


def test_recorded_frames_that_are_gone_are_withdrawn_with_the_deferred_ones_among_them() -> None:
    ledger = Ledger(recording=True)
    for index in range(5):
        ledger.grab(index)
    ledger.analyse([0, 1, 2])
    ledger.turn_away([3, 4])
    ledger.record(range(5))
    ledger.withdraw(3, deferred=1)
    counts = ledger.counts()
    assert counts.balances
    assert (counts.recorded, counts.unrecorded, counts.deferred, counts.skipped) == (2, 3, 1, 1)
