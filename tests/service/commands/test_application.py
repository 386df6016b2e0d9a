"""How every command ends when it fails, is cancelled, or the disk is full."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile

from service.commands import application as cli
from tests.conftest import ROOT
from tests.models.bead_sweeps import simulate
from tests.models.test_training import small_calibration

COMMAND = [sys.executable, "-c", "from service.commands.application import main; main()"]


@pytest.fixture(autouse=True)
def _process_comes_back() -> Iterator[None]:
    """Restore what a command changes in this process: the signal handler, and the variable of --debug."""
    before = signal.getsignal(signal.SIGTERM)
    os.environ.pop("BATHYSCOPE_DEBUG", None)
    yield
    os.environ.pop("BATHYSCOPE_DEBUG", None)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Arguments of commands that take some time and succeed."""
    folder = tmp_path_factory.mktemp("inputs")
    tifffile.imwrite(folder / "sweep.tif", simulate(beads=9)[0].planes[:, 0], photometric="minisblack")
    small_calibration().save(folder / "calibration")
    return {
        "calibrate": ["calibrate", f"{folder / 'sweep.tif'}", "--pixel-size-um", "1", "--z-step-um", "1"],
        "train": ["train", str(folder / "calibration"), "--minutes", "3"],
    }


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_failure_is_one_line_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _main(monkeypatch, "track", tmp_path / "none.csv", "--fps", 100, "--out", tmp_path / "t.csv") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")
    assert len(said.err.splitlines()) == 1
    assert "none.csv" in said.err


def test_an_unexpected_error_is_one_line_and_has_a_traceback_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("x_um")

    monkeypatch.setattr("models.table_files.read_table", fail)
    arguments = ("track", tmp_path / "a.csv", "--fps", 100, "--out", tmp_path / "t.csv")
    assert _main(monkeypatch, *arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: KeyError: 'x_um'. This error is unexpected.")
    assert len(said.splitlines()) == 1
    monkeypatch.setattr(sys, "argv", ["bathyscope", "--debug", *map(str, arguments)])
    with pytest.raises(KeyError):
        cli.main()


@pytest.mark.parametrize("name", ["", "camera.json/below"])
def test_an_output_that_cannot_be_written_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    inputs: dict[str, list[str]],
    tmp_path: Path,
    name: str,
) -> None:
    (tmp_path / "camera.json").write_text("mine")
    out = tmp_path / name if name else Path("/proc/none/calibration")
    assert _main(monkeypatch, *inputs["calibrate"], "--out", out) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"Error: {out} cannot be written")
    assert "Choose another place" in said
    assert [path.name for path in tmp_path.iterdir()] == ["camera.json"]


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["calibrate", "train"])
def test_cancelled_work_leaves_nothing(
    inputs: dict[str, list[str]], tmp_path: Path, command: str, way: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*COMMAND, *inputs[command], "--out", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Test runners in the background may be started with Ctrl-C ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)  # into the work
        process.send_signal(way)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, said
    assert said.splitlines()[-1] == "Cancelled; no output was written."
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "room"),
    [
        ("calibrate", 8192),
        # Less than the weights, more than a function that is compiled here for the first time, and cached.
        ("train", 2**20),
    ],
)
def test_a_full_disk_is_reported_and_leaves_nothing(
    inputs: dict[str, list[str]], tmp_path: Path, command: str, room: int
) -> None:
    arguments = [*inputs[command], "--out", str(tmp_path / "out")]
    if command == "train":
        arguments += ["--samples", "1"]  # one step, and the time that a busy machine needs for it
    # Compiled code has its cache elsewhere, so that what is full is the place of the output only.
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        # Files of this process end there, where writing fails as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"Error: There is no room for {tmp_path / 'out'}")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_a_library_turns_into_an_error_is_a_cancellation() -> None:
    code = """
import os, signal, time
from service.commands import application

def command(standalone_mode):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt:
        raise ValueError("half imported")

application.command_line = lambda: command
application.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "Cancelled; no output was written.\n")
