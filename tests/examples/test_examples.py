"""The scripts and notebooks of examples/ run as they are, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, need

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
WRITTEN = {
    "calibrate_sweep.py": ("calibration/report.html", r"4 of 4 beads were used"),
    "democamera.py": ("democamera.png", " tracks with "),
    "drive_service.py": ("run.csv", "frames analysed"),
    "follow_bead.py": (None, "From mid-exposure to the command to the stage: p50 "),
    "plot_tracks.py": ("tracks.png", "Wrote"),
    "score_against_truth.py": ("movie.ome.tif", "positions: Jaccard index 0."),
    "sweep_train_run_plot.py": ("tracks.png", " tracks with "),
    "track_movie.py": ("tracks.csv", "Track 1: "),
}
"""Script -> a file that it writes, or None, and a part of what it prints."""

SHORT = {"democamera.py": ["0.2"], "follow_bead.py": ["3"], "sweep_train_run_plot.py": ["0.2"]}
"""Arguments that make a script short: minutes of training, seconds of feedback."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples, from which the packages of this repository are imported."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*WRITTEN, "simulated_data.py"}
    assert len(NOTEBOOKS) == 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", sorted(WRITTEN))
def test_script(folder: Path, script: str) -> None:
    written, said = WRITTEN[script]
    if script == "democamera.py":
        need("mm_test_adapters")
    command = [sys.executable, script, *SHORT.get(script, [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert written is None or (folder / "example-data" / written).stat().st_size > 0


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND")  # a notebook shows its pictures itself
    book = nbformat.read(folder / name, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "save the notebook without its outputs"
    NotebookClient(book, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
