"""Output without a terminal, in any encoding, and after the reader has ended."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.commands import application as cli
from service.commands import console
from service.commands.console import progress


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


ENCODINGS = ("ascii", "latin-1", "gbk", "cp932", "cp437", "utf-8")


def _commands() -> Iterator[list[str]]:
    """Every command and its subcommands."""
    from typer.main import get_command

    waiting: list[tuple[list[str], Any]] = [([], get_command(cli.command_line()))]
    while waiting:
        path, command = waiting.pop()
        yield path
        waiting += [([*path, name], inner) for name, inner in getattr(command, "commands", {}).items()]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_help_of_every_command_prints_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(cli, "handle_ending_signals", lambda *_, **__: None)
    for command in _commands():
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
        monkeypatch.setattr(sys, "argv", ["bathyscope", *command, "--help"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        sys.stdout.flush()
        assert end.value.code in (0, None), command
        assert "Usage" in written.getvalue().decode(encoding), command


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_notes_results_and_progress_print_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    console.protect_streams()
    for say in (console.note, console.result):
        say("0.65 µm ± 3 – “FITC” 焦点 \udcff \x1b[2J")
    with progress("Depth µm", 4, "frames") as advance:
        advance(4, "σ 0.2 µm")
    stream.flush()
    said = written.getvalue().decode(encoding)
    assert "0.65 " in said
    assert "\x1b" not in said
    if encoding == "ascii":
        assert said.startswith('0.65 um +- 3 - "FITC" \\u7126\\u70b9 \\udcff \\x1b[2J')


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is of Linux")
@pytest.mark.parametrize("name", ["closed pipe", "/dev/full", "no stream"])
def test_a_full_standard_error_does_not_end_the_work(name: str) -> None:
    work = """
import sys
from service.commands.console import note, protect_streams, result
from service.process.logs import configure_logs
import structlog
protect_streams()
configure_logs("info")
for _ in range(3):
    note("on the way")
    structlog.get_logger().warning("event")
result("done")
"""
    ours, theirs = os.pipe()
    os.close(ours)
    target: Any = theirs if name == "closed pipe" else open("/dev/full", "w")  # noqa: SIM115
    command = [sys.executable, "-c", work]
    if name == "no stream":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=target, text=True, check=True)
    os.close(theirs)
    if name != "closed pipe":
        target.close()
    assert done.stdout == "done\n"


def test_an_ended_reader_does_not_end_the_work() -> None:
    lines = "protect_streams(); [result('x' * 99) for _ in range(9999)]; note('whole')"
    work = f"from service.commands.console import *; {lines}"
    command = f'{sys.executable} -c "{work}" | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == "whole\n"
