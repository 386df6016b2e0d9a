"""The command `evaluate`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from models.table_files import write_table
from models.tables import Localizations, Tracks, Truth
from service.commands import evaluate

KEYS = [
    "jaccard",
    "precision",
    "recall",
    "tp",
    "fp",
    "fn",
    "rmse_um",
    "rmse_lateral_um",
    "rmse_axial_um",
    "chance_jaccard",
]


def _run(*arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(evaluate.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text("frame,x_um,y_um,z_um\n0,0,0,10\n0,50,0,10\n1,0,0,10\n1,0,80,120\n")
    return path


def _predicted(path: Path, kind: Any, rows: list[tuple[int, float, float, float]]) -> Path:
    values = np.array(rows, np.float64).reshape(-1, 4)
    columns: dict[str, Any] = {name: np.ones(len(values)) for name in kind.names()}
    columns |= {"frame": values[:, 0], "x_um": values[:, 1], "y_um": values[:, 2], "z_um": values[:, 3]}
    write_table(path, kind.from_columns(columns))
    return path


@pytest.mark.parametrize("kind", [Localizations, Tracks])
def test_figures_as_json_and_as_a_table(truth: Path, tmp_path: Path, kind: Any) -> None:
    predicted = _predicted(tmp_path / "found.parquet", kind, [(0, 3, 4, 10), (1, 0, 0, 15), (1, 40, 40, 10)])
    out = tmp_path / "scores" / "score.json"
    done = _run(predicted, truth, "--json", out)
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert list(figures) == KEYS
    assert (figures["tp"], figures["fp"], figures["fn"]) == (2, 1, 2)
    assert figures["jaccard"] == pytest.approx(0.4)
    assert figures["rmse_um"] == pytest.approx(5.0)
    assert figures["rmse_axial_um"] == pytest.approx(np.sqrt(12.5))
    assert 0 <= figures["chance_jaccard"] < 0.4
    assert "Jaccard index" in done.stdout
    assert "0.400" in done.stdout


def test_tolerance_and_depth_range(truth: Path, tmp_path: Path) -> None:
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(0, 3, 4, 10), (1, 0, 0, 10)])
    out = tmp_path / "score.json"
    assert _run(predicted, truth, "--tolerance-um", 4.9, "--z-range-um", 0, 100, "--json", out).exit_code == 0
    figures = json.loads(out.read_text())
    assert (figures["tp"], figures["fp"], figures["fn"]) == (1, 1, 2)


def test_undefined_figures_are_null(tmp_path: Path) -> None:
    nothing = tmp_path / "truth.csv"
    nothing.write_text("frame,x_um,y_um,z_um\n")
    predicted = _predicted(tmp_path / "found.csv", Localizations, [])
    done = _run(predicted, nothing, "--json", tmp_path / "score.json")
    assert done.exit_code == 0
    assert "undefined" in done.stdout
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["jaccard"] is figures["chance_jaccard"] is figures["rmse_um"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--tolerance-um", value) for value in ("0", "-1", "nan", "inf", "1e308", "wide")),
        *(("--z-range-um", *pair) for pair in (("5", "1"), ("1", "1"), ("nan", "1"), ("0", "inf"))),
        ("--frames",),
    ],
)
def test_wrong_usage_is_status_2(truth: Path, arguments: tuple[str, ...]) -> None:
    assert _run(truth, truth, *arguments).exit_code == 2


def test_bad_input_is_status_1(truth: Path, tmp_path: Path) -> None:
    for predicted, says in ((tmp_path / "none.csv", "cannot be read"), (truth, "lacks columns 'photons'")):
        failed = _run(predicted, truth, "--json", tmp_path / "score.json")
        assert failed.exit_code == 1
        assert says in str(failed.exception)
    assert not (tmp_path / "score.json").exists()


def test_truth_scored_by_itself_is_perfect(truth: Path, tmp_path: Path) -> None:
    table = Truth.from_columns(
        {"frame": [0, 0], "x_um": [0, 50], "y_um": [0, 0], "z_um": [10, 10], "track_id": [-1, -1]}
    )
    write_table(truth, table)
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(0, 0, 0, 10), (0, 50, 0, 10)])
    done = _run(predicted, truth)
    assert done.exit_code == 0
    assert "1.000" in done.stdout


def test_tables_without_common_frames_are_reported(truth: Path, tmp_path: Path) -> None:
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(2, 0, 0, 10), (3, 0, 0, 10)])
    failed = _run(predicted, truth, "--json", tmp_path / "score.json")
    assert failed.exit_code == 1
    assert "localizations are in frames 2 to 3, the truth in frames 0 to 1; they have no frame" in str(failed.exception)
    assert not (tmp_path / "score.json").exists()
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(1, 0, 0, 10), (2, 0, 0, 10)])
    done = _run(predicted, truth)
    assert done.exit_code == 0
    assert "one of them may count frames from 1" in done.stderr
    truth.write_text("frame,x_um,y_um,z_um\n0,1,1,1\n7,1,1,1\n")
    done = _run(predicted, truth)
    assert done.exit_code == 0
    assert "and no frame has both" in done.stderr
    assert "0.000" in done.stdout


def test_figures_do_not_replace_a_table(truth: Path, tmp_path: Path) -> None:
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(0, 0, 0, 10)])
    before = truth.read_bytes()
    failed = _run(predicted, truth, "--json", truth)
    assert failed.exit_code == 1
    assert "exists and is not an output of this kind" in str(failed.exception)
    assert truth.read_bytes() == before


def test_a_frame_in_which_everything_matches_everything_is_refused(tmp_path: Path) -> None:
    """All frame numbers are 0 by mistake; 9 million pairs would need gigabytes."""
    rows = [(0, 0.01 * n, 0.0, 10.0) for n in range(3000)]
    predicted = _predicted(tmp_path / "found.parquet", Localizations, rows)
    failed = _run(predicted, _predicted(tmp_path / "truth.parquet", Truth, rows), "--tolerance-um", 100)
    assert failed.exit_code == 1
    assert "3000 localizations and 3000 positions of truth in one frame have 9000000 pairs" in str(failed.exception)


def test_a_frame_number_far_away_costs_nothing(truth: Path, tmp_path: Path) -> None:
    truth.write_text("frame,x_um,y_um,z_um\n0,0,0,10\n1000000000000,0,0,10\n")
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(0, 0, 0, 10), (10**12, 0, 0, 10)])
    done = _run(predicted, truth)
    assert done.exit_code == 0
    assert "1.000" in done.stdout


def test_positions_in_another_unit_are_reported(truth: Path, tmp_path: Path) -> None:
    """Nanometres that are small enough to be micrometres."""
    predicted = _predicted(tmp_path / "found.csv", Localizations, [(0, 1000, 2000, 5000), (1, 0, 0, 9000)])
    done = _run(predicted, truth)
    assert done.exit_code == 0
    assert "The localizations lie at x 0 to 1000, y 0 to 2000, z 5000 to 9000 µm" in done.stderr
    assert "the truth at x 0 to 50, y 0 to 80, z 10 to 120 µm" in done.stderr
    assert "Nothing matches" not in _run(_predicted(predicted, Localizations, [(0, 0, 0, 10)]), truth).stderr


@pytest.mark.parametrize(("found", "expected"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_tables_of_no_row_and_of_one(tmp_path: Path, found: int, expected: int) -> None:
    row = [(5, 1.0, 2.0, 3.0)]
    predicted = _predicted(tmp_path / "found.csv", Localizations, row[:found])
    done = _run(predicted, _predicted(tmp_path / "truth.csv", Truth, row[:expected]), "--json", tmp_path / "score.json")
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "score.json").read_text())
    assert (figures["tp"], figures["fp"], figures["fn"]) == (
        found * expected,
        found - expected * found,
        expected - found * expected,
    )


def _tracks(path: Path, rows: list[tuple[int, int, float, float, float]]) -> Path:
    values = np.array(rows, np.float64)
    columns: dict[str, Any] = {name: np.ones(len(values)) for name in Tracks.names()}
    names = ("track_id", "frame", "x_um", "y_um", "z_um")
    write_table(path, Tracks.from_columns(columns | dict(zip(names, values.T, strict=True))))
    return path


def test_tracks_are_scored_as_tracks_when_the_truth_has_identities(tmp_path: Path) -> None:
    rows = [(1, frame, 10.0 * frame, 0.0, 10.0) for frame in range(4)]
    real = Truth.from_columns(
        dict(zip(("track_id", "frame", "x_um", "y_um", "z_um"), np.array(rows, np.float64).T, strict=True))
    )
    truth = tmp_path / "truth.csv"
    write_table(truth, real)
    predicted = _tracks(tmp_path / "tracks.csv", [*rows[:2], *((2, *row[1:]) for row in rows[2:])])
    out = tmp_path / "score.json"
    done = _run(predicted, truth, "--json", out)
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert list(figures)[: len(KEYS)] == KEYS
    assert figures["jaccard"] == 1.0
    expected = {"alpha": 0.5, "beta": 20 * 0.5 / 30, "jsc": 1 / 3, "jsc_theta": 0.5, "idf1": 0.5, "track_rmse_um": 0.0}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert (figures["true_tracks"], figures["found_tracks"], figures["paired_tracks"]) == (1, 2, 1)
    assert "JSC of tracks" in done.stdout
    done = _run(predicted, truth, "--z-range-um", 0, 100, "--json", out)
    assert list(json.loads(out.read_text())) == KEYS
    assert "not scored in a range of depths" in done.stderr
    predicted = _tracks(tmp_path / "tracks.csv", [rows[0], (1, 0, 50.0, 0.0, 10.0)])
    done = _run(predicted, truth, "--json", out)
    assert done.exit_code == 0
    assert list(json.loads(out.read_text())) == KEYS
    assert "two points of track 1 in frame 0" in done.stderr
