"""Progress where there is no terminal: lines that stay readable in a log."""

from __future__ import annotations

import sys
import threading

import pytest

from service import console
from service.console import progress


@pytest.mark.parametrize(
    ("total", "unit", "done", "line"),
    [
        (1.0, "", 1.0, "Work: 100/100 % joining"),
        (4, "frames", 4, "Work: 4/4 frames joining"),
        (2.5, "min", 2.5, "Work: 2.5/2.5 min joining"),
    ],
)
def test_amounts_are_shown_as_they_are_counted(
    capsys: pytest.CaptureFixture[str], total: float, unit: str, done: float, line: str
) -> None:
    with progress("Work", total, unit) as advance:
        advance(0)  # too soon for a line
        advance(done, "joining")
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_cancellation_that_was_lost_ends_the_work_at_its_next_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_cancelled", threading.Event())
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(KeyboardInterrupt):
        console.cancel()
    with pytest.raises(KeyboardInterrupt), progress("Work", 4, "frames") as advance:
        advance(1)
    with pytest.raises(KeyboardInterrupt), progress("Work", 4, "frames"):
        pass
