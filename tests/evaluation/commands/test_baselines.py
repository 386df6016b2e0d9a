"""Tables of the baselines, at small size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from evaluation.commands.baselines import _one_bead
from evaluation.commands.bench import application
from models.calibration.calibrating import calibrate
from tests.conftest import need
from tests.models.bead_sweeps import PIXEL_UM, simulate


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep, _ = simulate()
    path = tmp_path_factory.mktemp("sweep") / "sweep.tif"
    tifffile.imwrite(path, sweep.planes[:, 0], metadata={"axes": "ZYX"})
    return path


def _bench(words: list[str]) -> str:
    done = CliRunner().invoke(application, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_isolated_emitters_are_compared_with_the_bound(tmp_path: Path) -> None:
    need("smappy")
    scores = tmp_path / "scores.json"
    printed = _bench(["isolated", "--frames", "2", "--snr-db", "20", "--depths-um", "3", "10", "--json", str(scores)])
    (row,) = json.loads(scores.read_text())["rows"]
    assert row["found"] == 1.0
    # Four lateral errors at the bound: more than three of it is one case in ten thousand.
    assert row["lateral_over_bound_rms"] < 3
    assert row["fits_per_second"] > 0
    assert "20 dB,   3 to  10 µm: found 1.00" in printed


def test_beads_are_scored_with_calibrations_from_all_and_from_one(
    movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.json"
    z_step_um = float(np.diff(simulate()[0].z_um)[0])
    words = f"baseline-beads {movie} --method lookup --z-range-um 4 14 --square-px 60 --every 3 --json {scores}"
    printed = _bench([*words.split(), "--pixel-size-um", str(PIXEL_UM), "--z-step-um", str(z_step_um)])
    rows = json.loads(scores.read_text())["rows"]
    assert [(row["calibrated with"], row["group"]) for row in rows] == [
        (known, group) for known in ("all black beads", "one black bead") for group in ("unseen", "unseen, isolated")
    ]
    assert rows[0]["beads"] > 1
    assert json.loads(scores.read_text())["provenance"]["machine"]["cores"] >= 1
    assert rows[0]["found"] > 0.8
    assert printed.count("lookup, ") == 4


def test_the_one_bead_is_a_used_one_with_room() -> None:
    sweep, _ = simulate()
    calibration = calibrate(sweep, z_range_um=(4.0, 14.0))
    mask = _one_bead(calibration, sweep)
    row, column = (round(float(each.mean())) for each in np.nonzero(mask))
    used = [bead for bead in calibration.report["beads"] if bead["used"]]
    assert mask.sum() == 9
    assert min(np.hypot(bead["x_um"] / PIXEL_UM - column, bead["y_um"] / PIXEL_UM - row) for bead in used) < 1
