"""Progress where there is no terminal: lines that stay readable in a log."""

from __future__ import annotations

import pytest

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
