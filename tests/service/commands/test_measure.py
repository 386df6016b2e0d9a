"""The command `measure`, as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import typer
from typer.testing import CliRunner, Result

from models.errors import DataError
from models.measures import TrackMeasures
from models.table_files import write_table
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks
from service.commands import measure


def _run(*arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(measure.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three Brownian particles with 2 µm²/s, 100 frames at 100 frames/s: tracks and localizations."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(1)
    walks = rng.normal(0, np.sqrt(2 * 2.0 * 0.01), (100, 3, 3)).cumsum(axis=0) + 40 * np.arange(1, 4)[:, None]
    measured = (walks + rng.normal(0, 0.2, walks.shape)).reshape(-1, 3)
    columns: dict[str, Any] = {name: np.full(300, 0.9) for name in Localizations.names()}
    columns |= dict(zip(("x_um", "y_um", "z_um"), measured.T, strict=True))
    columns |= {name: np.full(300, 0.2) for name in ("sigma_x_um", "sigma_y_um", "sigma_z_um")}
    found = Localizations.from_columns(columns | {"frame": np.repeat(np.arange(100), 3)})
    write_table(folder / "found.csv", found)
    write_table(folder / "tracks.csv", smoothed_tracks(found, 100.0))
    return folder / "tracks.csv", folder / "found.csv"


def test_figures_are_written(tables: tuple[Path, Path], tmp_path: Path) -> None:
    tracks, found = tables
    out, figures = tmp_path / "new" / "measures.csv", tmp_path / "ensemble.json"
    for _ in range(2):  # the second run replaces the output of the first
        done = _run(tracks, "--localizations", found, "--out", out, "--json", figures)
        assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert tuple(rows[0]) == TrackMeasures.names()
    assert len(rows) == 3
    assert [int(row["observed"]) for row in rows] == [100, 100, 100]
    ensemble = json.loads(figures.read_text())
    assert ensemble["tracks"] == 3
    low, high = (ensemble["diffusion_um2_s"]["all"][end] for end in ("low", "high"))
    assert low < 2.0 < high
    assert "Diffusion all, µm²/s" in done.stdout
    assert "figures of 3 tracks" in done.stderr


def test_parquet_without_localizations(tables: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "measures.parquet"
    done = _run(tables[0], "--out", out)
    assert done.exit_code == 0, done.output
    assert "Without --localizations" in done.stderr
    assert tuple(pyarrow.parquet.read_table(out).column_names) == TrackMeasures.names()
    assert _run(tables[0], "--out", out).exit_code == 0


def test_no_tracks(tmp_path: Path) -> None:
    write_table(tmp_path / "none.csv", Tracks.empty())
    done = _run(tmp_path / "none.csv", "--out", tmp_path / "measures.csv", "--json", tmp_path / "ensemble.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "ensemble.json").read_text())["diffusion_um2_s"]["x"]["value"] is None
    assert (tmp_path / "measures.csv").read_text().splitlines() == [",".join(TrackMeasures.names())]


def test_localizations_of_another_movie(tables: tuple[Path, Path], tmp_path: Path) -> None:
    columns: dict[str, Any] = {name: np.full(5, 0.5) for name in Localizations.names()}
    write_table(tmp_path / "other.csv", Localizations.from_columns(columns | {"frame": np.arange(5)}))
    done = _run(tables[0], "--localizations", tmp_path / "other.csv", "--out", tmp_path / "measures.csv")
    assert done.exit_code == 0, done.output
    assert "same movie" in done.stderr


def test_what_is_refused(tables: tuple[Path, Path], tmp_path: Path) -> None:
    tracks, found = tables
    assert _run(tracks, "--out", tmp_path / "measures.txt").exit_code == 2
    implausible = _run(tracks, "--out", tmp_path / "measures.csv", "--exposure-s", "-1").exception
    assert isinstance(implausible, DataError)
    assert isinstance(_run(tracks, "--out", found).exception, DataError)
    too_long = _run(tracks, "--out", tmp_path / "measures.csv", "--exposure-s", "1").exception
    assert isinstance(too_long, DataError)
    assert "time between frames" in str(too_long)
