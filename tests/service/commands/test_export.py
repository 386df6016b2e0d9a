"""``bathyscope export``: runs of a data directory, and tables of tracks."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from models.table_files import read_table, write_table
from models.tables import Tracks
from service.commands.application import main
from service.export.formats import FORMATS
from service.store.store import Store
from tests.service.export.samples import readable_tracks, stored_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> str:
    with closing(Store.open(data / "bathyscope.db")) as store:
        store.migrate()
        return stored_run(store)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_table(tmp_path / "tracks.csv", readable_tracks())
    return tmp_path / "tracks.csv"


def export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "export", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_in_every_format(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    run: str,
    name: str,
) -> None:
    out = tmp_path / f"out{FORMATS[name].suffixes[0]}"
    for _ in range(2):  # an output of the same kind is replaced
        assert export(monkeypatch, run, "--data", data, "--format", name, "--out", out) == 0
    assert FORMATS[name].is_ours(out)
    assert "3 tracks with 10 points of revision 2." in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "shift_um"), [((), 1000.0), (("--revision", 1), 0.0)])
def test_the_revision_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, run: str, arguments: tuple[object], shift_um: float
) -> None:
    out = tmp_path / "out.parquet"
    assert export(monkeypatch, run, "--data", data, "--format", "parquet", "--out", out, *arguments) == 0
    np.testing.assert_array_equal(read_table(out, Tracks).x_um, readable_tracks().x_um + shift_um)


def test_a_table_of_tracks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, table: Path
) -> None:
    out = tmp_path / "out.xml"
    assert export(monkeypatch, table, "--format", "trackmate", "--out", out, "--pixel-size-um", 0.5) == 0
    assert 'pixelwidth="0.5"' in out.read_text(encoding="utf-8")
    assert "source: tracks.csv" in out.read_text(encoding="utf-8")
    assert "3 tracks with 10 points." in capsys.readouterr().err


def test_a_run_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, run: str
) -> None:
    out = tmp_path / "out.csv"
    assert export(monkeypatch, "other", "--data", data, "--format", "csv", "--out", out) == 1
    assert f"{run} (revision 2)" in capsys.readouterr().err
    assert export(monkeypatch, run, "--data", data, "--format", "csv", "--out", out, "--revision", 3) == 1
    assert "no revision 3" in capsys.readouterr().err
    assert export(monkeypatch, run, "--data", tmp_path, "--format", "csv", "--out", out) == 1
    assert "There is no database" in capsys.readouterr().err
    assert not out.exists()


def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, table: Path
) -> None:
    for arguments, words in {
        ("--format", "geff", "--out", tmp_path / "a.csv"): "must end in .geff",
        ("--format", "csv", "--out", tmp_path / "a.csv", "--revision", 1): "no revisions",
        ("--format", "xls", "--out", tmp_path / "a.xls"): "xls",
    }.items():
        assert export(monkeypatch, table, *arguments) == 2
        assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert export(monkeypatch, "run", "--format", "csv", "--out", tmp_path / "a.csv", "--pixel-size-um", 1.0) == 2


def test_another_file_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, table: Path
) -> None:
    (tmp_path / "a.xml").write_text("<image/>")
    assert export(monkeypatch, table, "--format", "trackmate", "--out", tmp_path / "a.xml") == 1
    assert "not an output of this kind" in capsys.readouterr().err
    assert (tmp_path / "a.xml").read_text() == "<image/>"
    # The table itself has the suffix of napari's table, and is another one.
    assert export(monkeypatch, table, "--format", "napari", "--out", table) == 1
    np.testing.assert_array_equal(read_table(table, Tracks).x_um, readable_tracks().x_um)


def test_figures_of_tracks_are_further_columns(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    run: str,
    table: Path,
) -> None:
    out = tmp_path / "out.csv"
    for source in ((run, "--data", data), (table,)):
        assert export(monkeypatch, *source, "--format", "csv", "--out", out, "--measures", "--exposure-s", 0.005) == 0
        assert "track_diffusion_um2_s" in out.read_text().splitlines()[0].split(",")
    for wrong, words in (
        ((table, "--exposure-s", 0.01), "--exposure-s"),
        ((run, "--data", data, "--measures", "--localizations", table), "database"),
    ):
        assert export(monkeypatch, *wrong, "--format", "csv", "--out", tmp_path / "no.csv") == 2
        assert words in " ".join(capsys.readouterr().err.split())
