from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.ledger import Ledger, LedgerCounts

# What becomes of a frame, and how many were lost before it.
FATES = st.sampled_from(["analysed", "deferred", "skipped", "waiting"])
FRAMES = st.lists(st.tuples(st.integers(0, 5), FATES, st.sampled_from(["recorded", "unrecorded", "waiting"])))


@settings(max_examples=200, deadline=None)
@given(FRAMES)
def test_the_ledger_balances_after_every_step(frames: Any) -> None:
    ledger, index = Ledger(), -1
    expected = dict.fromkeys(LedgerCounts().as_dict(), 0)
    for gap, fate, kept in frames:
        index += gap + 1
        assert ledger.grab(index) == gap
        ledger.admit()
        # Between grabbing and admitting lies one call of the grab thread; from here on it has to balance.
        assert ledger.counts().balances
        expected["exposed"] = index + 1
        expected["grabbed"] += 1
        expected["lost"] += gap
        if fate == "analysed":
            ledger.analyse(1)
        elif fate != "waiting":
            ledger.turn_away(recorded=fate == "deferred")
        expected["in_flight" if fate == "waiting" else fate] += 1
        if kept == "recorded":
            ledger.record(1)
        elif kept == "unrecorded":
            ledger.leave_unrecorded()
        if kept != "waiting":
            expected[kept] += 1
        assert ledger.counts().balances
        assert ledger.counts().as_dict() == expected


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
    ledger.admit()
    assert ledger.counts().balances
    ledger.analyse(2)
    assert not ledger.counts().balances


def test_more_records_than_frames_show() -> None:
    ledger = Ledger()
    ledger.grab(0)
    ledger.admit()
    ledger.record(2)
    assert not ledger.counts().balances
