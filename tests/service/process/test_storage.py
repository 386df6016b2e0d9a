"""The check that results can be stored, on real disks and folders."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from service.process import storage as module
from service.process.storage import Storage, StorageWatch
from service.settings import load_settings
from service.store.errors import StoreError


def storage_in(folder: Path) -> Storage:
    folder.mkdir(exist_ok=True)
    (folder / "bathyscope.db").touch()
    return Storage(load_settings(command_line={"data_dir": folder}, environment={}))


def test_a_check_leaves_no_file_in_the_folder(tmp_path: Path) -> None:
    storage_in(tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["bathyscope.db"]


def test_a_full_disk_is_reported_until_there_is_space(small_disk: Path) -> None:
    storage = storage_in(small_disk)
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(StoreError, match="No space left on device"):
        storage.check()
    (small_disk / "filler").unlink()
    storage.check()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    storage = storage_in(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is not there any more"):
        storage.check()
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    storage.check()


def test_a_moved_database_is_reported(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    (tmp_path / "bathyscope.db").rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match=r"bathyscope\.db is not there any more"):
        storage.check()
    (tmp_path / "bathyscope.db").touch()
    with pytest.raises(StoreError, match="is another file"):
        storage.check()
    (tmp_path / "moved.db").replace(tmp_path / "bathyscope.db")
    storage.check()


def test_a_database_on_a_server_has_no_file_here(tmp_path: Path) -> None:
    values = {"data_dir": tmp_path, "database_url": "postgresql+psycopg://nobody@nowhere/none"}
    Storage(load_settings(command_line=values, environment={})).check()


def test_the_watch_reports_each_change_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PERIOD_S", 0.01)
    reported: list[str] = []
    ending, arrived = threading.Event(), threading.Semaphore(0)

    def report(kind: str, _text: str) -> None:
        reported.append(kind)
        arrived.release()

    storage = storage_in(tmp_path)
    watch = StorageWatch(storage, ending, report)
    watch.start()
    (tmp_path / "bathyscope.db").rename(tmp_path / "moved.db")
    assert arrived.acquire(timeout=30)
    (tmp_path / "moved.db").rename(tmp_path / "bathyscope.db")
    assert arrived.acquire(timeout=30)
    ending.set()
    watch.join(30)
    assert reported == ["storage_away", "storage_back"]
