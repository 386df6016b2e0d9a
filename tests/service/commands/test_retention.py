"""``bathyscope retention``: deletes by the rules, or says what it would delete."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import filelock
import pytest

from service.commands.application import main
from service.store.store import Store
from tests.service.api_peer import recorded_run

RULES = "[retention]\nkeep_days = 0.0000001\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "rules.toml").write_text(RULES)
    return folder


@pytest.fixture
def run(data: Path) -> str:
    with closing(Store.open(data / "bathyscope.db")) as store:
        store.migrate()
        return recorded_run(data, store)


def retention(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: str) -> int:
    config = str(data.parent / "rules.toml")
    monkeypatch.setattr(sys, "argv", ["bathyscope", "retention", "--data", str(data), "--config", config, *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_dry_run_deletes_nothing_and_the_command_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, run: str, tmp_path: Path
) -> None:
    recording = data / "recordings" / f"{run}.ome.zarr"
    assert retention(monkeypatch, data, "--dry-run") == 0
    assert f"would be deleted: recording of run {run}" in capsys.readouterr().out
    assert recording.exists()
    assert retention(monkeypatch, data, "--json", str(tmp_path / "done.json")) == 0
    assert f"deleted: recording of run {run}" in capsys.readouterr().out
    assert not recording.exists()
    done = json.loads((tmp_path / "done.json").read_text())
    assert [item["run_id"] for item in done["delete"]] == [run]
    with closing(Store.open(data / "bathyscope.db")) as store:
        assert store.runs.get(run).recording is None
        assert store.events.list().items[0].kind == "recording_deleted"
    assert retention(monkeypatch, data) == 0
    assert "0 deleted" in capsys.readouterr().out


def test_beside_a_service_only_the_dry_run_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, run: str
) -> None:
    with filelock.FileLock(data / ".lock"):
        assert retention(monkeypatch, data) == 1
        assert "POST /api/v1/retention" in capsys.readouterr().err
        assert retention(monkeypatch, data, "--dry-run") == 0
        assert run in capsys.readouterr().out


def test_files_that_cannot_be_deleted_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, run: str
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patched:
        patched.setattr("service.files.run_removal.delete_folder", refuse)
        assert retention(monkeypatch, data) == 1
    assert f"Files of run {run} could not be deleted" in capsys.readouterr().err
    assert retention(monkeypatch, data) == 0  # the next call finishes it
    assert not (data / "recordings" / f"{run}.ome.zarr").exists()


def test_without_rules_or_data_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    assert retention(monkeypatch, data.parent / "none") == 1
    assert "There is no data directory" in capsys.readouterr().err
    (data.parent / "rules.toml").write_text("")
    assert retention(monkeypatch, data) == 1
    assert "retention.keep_days" in capsys.readouterr().err
    (data.parent / "rules.toml").write_text("[retention]\nkeep_days = -1\n")
    assert retention(monkeypatch, data) == 1
    assert "retention.keep_days is -1" in capsys.readouterr().err
