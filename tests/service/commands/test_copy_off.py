"""``bathyscope copy-off``: runs and recordings to a server or a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.commands.application import main
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.api_peer import recorded_run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "data").mkdir()
    with closing(Store.open(tmp_path / "data" / "bathyscope.db")) as store:
        store.migrate()
        yield recorded_run(tmp_path / "data", store)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server = S3Server(monkeypatch)
    yield server
    server.close()


def copy_off(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> int:
    data = ["--data", str(folder / "data")]
    monkeypatch.setattr(sys, "argv", ["bathyscope", "copy-off", *map(str, arguments), *data])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_run_is_copied_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: S3Server, tmp_path: Path, run: str
) -> None:
    url = f"s3://{BUCKET}/scope"
    assert copy_off(monkeypatch, tmp_path, run, "--to", url) == 0
    assert f"{url}/{run}.ome.zarr: 8 files with 0.1 MB verified, 0.1 MB sent." in capsys.readouterr().out
    assert f"scope/{run}.ome.zarr.sha256" in server.names()
    with closing(Store.open(tmp_path / "data" / "bathyscope.db")) as store:
        copy = store.runs.get(run).recording_copy
        assert copy is not None
        assert copy.state == "verified"
    assert copy_off(monkeypatch, tmp_path, run, "--to", url) == 0
    assert "verified, 0.0 MB sent." in capsys.readouterr().out


def test_a_recording_by_its_path_needs_no_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str
) -> None:
    (tmp_path / "share").mkdir()
    monkeypatch.chdir(tmp_path)
    recording = tmp_path / "data" / "recordings" / f"{run}.ome.zarr"
    recording.rename(tmp_path / "mine.ome.zarr")
    for sent in ("0.1 MB sent", "0.0 MB sent"):
        assert copy_off(monkeypatch, tmp_path, "mine.ome.zarr", "--to", "share") == 0
        assert sent in capsys.readouterr().out
    assert (tmp_path / "share" / "mine.ome.zarr" / "zarr.json").is_file()


def test_what_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: S3Server, tmp_path: Path, run: str
) -> None:
    (tmp_path / "share").mkdir()
    for arguments, words in (
        ((run,), "--to"),
        ((run, "--to", "ftp://host/x"), "ftp://host/x"),
        ((run, "--to", "none"), "Mount its share"),
        (("nobody", "--to", "share"), "There is no run 'nobody'"),
        (("none.ome.zarr", "--to", "share"), "There is no recording"),
    ):
        monkeypatch.chdir(tmp_path)
        assert copy_off(monkeypatch, tmp_path, *arguments) in (1, 2)
        assert words in capsys.readouterr().err
    server.go_away()
    assert copy_off(monkeypatch, tmp_path, run, "--to", f"s3://{BUCKET}/scope") == 1
    assert "Check the network" in capsys.readouterr().err
    server.come_back()
    with closing(Store.open(tmp_path / "data" / "bathyscope.db")) as store:
        open_run = store.runs.create(model_id="m", record=True, recording="recordings/open.ome.zarr").id
    assert copy_off(monkeypatch, tmp_path, open_run, "--to", "share") == 1
    assert "Only recordings of ended runs" in capsys.readouterr().err
