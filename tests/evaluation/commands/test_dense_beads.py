"""The table of composed frames, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile
from typer.testing import CliRunner

from evaluation.commands.bench import application
from models.calibration.calibrating import calibrate
from models.calibration.sweep import Sweep
from service.commands.calibrate import checkerboard
from tests.models.bead_sweeps import CAMERA, simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crowds")
    sweep: Sweep = simulate()[0]
    tifffile.imwrite(path / "sweep.tif", sweep.planes[:, 0], metadata={"axes": "ZYX"})
    black = checkerboard(sweep.shape, 60, "black")
    calibrate(sweep, z_range_um=(4.0, 14.0), camera=CAMERA, mask=black).save(path / "calibration")
    return path


def _bench(words: list[str]) -> str:
    done = CliRunner().invoke(application, ["dense-beads", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_unseen_beads_of_composed_frames_are_scored(folder: Path) -> None:
    scores = folder / "scores.json"
    words = f"{folder / 'sweep.tif'} --calibration {folder / 'calibration'} --method lookup --frames 3 --shift-px 16"
    printed = _bench([*words.split(), "--json", str(scores)])
    figures = json.loads(scores.read_text())
    assert (figures["method"], figures["frames"]) == ("lookup", 3)
    assert 0 < figures["threshold"] < 1
    assert figures["within_um"]["10"]["jaccard"] > 0.4
    assert figures["within_um"]["5"]["jaccard"] <= figures["within_um"]["10"]["jaccard"]
    # Patterns of Gaussians that overlap give a look-up little information on depth.
    assert figures["flattened"]["sigma_um"] < 2.0
    assert "unseen beads, " in printed
    assert "within 10 µm: Jaccard 0." in printed


@pytest.mark.parametrize("words", ["", "--method lookup --refine", "--method oracle"])
def test_wrong_usage_is_status_2(words: str, folder: Path) -> None:
    arguments = ["dense-beads", str(folder / "sweep.tif"), "--calibration", str(folder / "calibration")]
    assert CliRunner().invoke(application, [*arguments, *words.split()]).exit_code == 2
