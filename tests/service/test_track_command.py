"""The command `track`, as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from models.errors import DataError
from models.table_files import read_table, write_table
from models.tables import Localizations, Tracks
from service.commands import track


def _run(*arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(track.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture
def localizations(tmp_path: Path) -> Path:
    frames = np.arange(30)
    columns: dict[str, Any] = {name: np.full(30, 0.5) for name in Localizations.names()}
    columns |= {"frame": frames, "x_um": 10 + 0.4 * frames, "z_um": np.full(30, 50.0)}
    path = tmp_path / "found.csv"
    write_table(path, Localizations.from_columns(columns))
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tracks_are_written(localizations: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"tracks.{suffix}"
    for _ in range(2):  # the second run replaces the first one's output
        done = _run(localizations, "--fps", 100, "--out", out)
        assert done.exit_code == 0, done.output
        assert "1 tracks with 28 points" in done.stderr
    tracks = read_table(out, Tracks)
    assert set(tracks.track_id) == {1}
    assert tracks.t_s[-1] == pytest.approx(0.29)
    assert tracks.vx_um_s[-1] == pytest.approx(40, abs=4)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("arguments", [("--fps", "0"), ("--fps", "nan"), ("--fps", "fast"), ()])
def test_wrong_usage_is_status_2(localizations: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert _run(localizations, *arguments, "--out", tmp_path / "tracks.csv").exit_code == 2


def test_wrong_suffix_is_status_2(localizations: Path, tmp_path: Path) -> None:
    assert _run(localizations, "--fps", 100, "--out", tmp_path / "tracks.xlsx").exit_code == 2


def test_bad_input_fails_and_leaves_nothing(localizations: Path, tmp_path: Path) -> None:
    localizations.write_text(localizations.read_text().replace("50", "deep", 1))
    out = tmp_path / "tracks.csv"
    failed = _run(localizations, "--fps", 100, "--out", out)
    assert failed.exit_code == 1
    assert isinstance(failed.exception, DataError)
    assert "row 1" in str(failed.exception)
    assert [path.name for path in tmp_path.iterdir()] == [localizations.name]


def test_a_foreign_file_is_not_replaced(localizations: Path) -> None:
    before = localizations.read_bytes()
    failed = _run(localizations, "--fps", 100, "--out", localizations)
    assert failed.exit_code == 1
    assert "is not an output of this kind" in str(failed.exception)
    assert localizations.read_bytes() == before
