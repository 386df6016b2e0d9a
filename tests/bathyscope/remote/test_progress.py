"""Progress on a terminal, elsewhere, and not at all."""

from __future__ import annotations

import sys
import time

import pytest

from bathyscope.remote import progress


def test_a_terminal_shows_one_bar_for_all_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.following("train slide", shown=True) as show:
        show("queued", 0, None, "")
        show("compute", 3, 12, "min")
    said = capsys.readouterr().err
    assert "train slide: compute" in said
    assert "3/12 min" in said


def test_elsewhere_a_line_comes_with_each_step_and_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with progress.following("train slide", shown=True) as show:
        for done in range(4):
            show("compute", done, 12, "min")
            now_s[0] += 2.0
        show("done", 12, 12, "min")
    assert capsys.readouterr().err.splitlines() == [
        "train slide: compute 0/12 min",
        "train slide: compute 3/12 min",
        "train slide: done 12/12 min",
    ]


def test_nothing_is_shown_when_that_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.following("train slide", shown=False) as show:
        show("compute", 1, 12, "min")
    assert capsys.readouterr().err == ""
