"""The file of the database under attack: moved, replaced, removed, and opened by processes that come later."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.errors import StoreError
from service.store.result_batch import ResultBatch
from service.store.sqlite_file import SqliteFile
from service.store.store import Store
from tests.service.store_samples import frame_times, sample_batch, sample_ledger

_READ = """
import sys
from pathlib import Path
from service.store.errors import StoreError
from service.store.store import Store

store = Store.open(Path(sys.argv[1]))
try:
    print([run.id for run in store.runs.list().items])
except StoreError as error:
    print(error)
"""

_WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from service.store.store import Store

store = Store.open(Path(sys.argv[1]))
store.migrate()
store.runs.create(model_id="m", record=False, run_id="kept")
os._exit(0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bathyscope.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store in use, whose results are in the log only."""
    store = Store.open(path)
    store.migrate()
    store.runs.create(model_id="m", record=False, run_id="kept")
    store.append("kept", ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    yield store
    store.close()


def elsewhere(program: str, path: Path) -> str:
    """What another process says of the database."""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def other_database(path: Path) -> Path:
    other = Store.open(path)
    other.migrate()
    other.runs.create(model_id="m", record=False, run_id="other")
    other.close()
    return path


def assert_whole(store: Store, path: Path) -> None:
    assert store.runs.get("kept").ledger == sample_ledger(0)
    assert store.tracks.get("kept", 1).items[0].points == 10
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_nothing_is_made_where_the_database_is_missing(path: Path) -> None:
    store = Store.open(path)
    for ask in (store.check, store.runs.list, store.runs.interrupt_open):
        with pytest.raises(StoreError, match=r"There is no database.*Start the service on this data directory once"):
            ask()
    assert list(path.parent.iterdir()) == []


def test_moved_database_loses_nothing(store: Store, path: Path, tmp_path: Path) -> None:
    log = log_of(path).read_bytes()
    assert len(log) > 0
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match=r"was moved or removed while it is in use.*Put it back"):
        store.check()
    with pytest.raises(StoreError, match="moved or removed"):
        store.append("kept", ResultBatch(*sample_batch(1), frame_times(1)), sample_ledger(1))
    assert "There is no database" in elsewhere(_READ, path)
    assert not path.exists()
    assert log_of(path).read_bytes() == log

    (tmp_path / "moved.db").rename(path)
    assert_whole(store, path)
    store.append("kept", ResultBatch(*sample_batch(1), frame_times(1)), sample_ledger(1))
    assert elsewhere(_READ, path) == "['kept']"


def test_new_connection_to_a_database_that_was_moved(store: Store, path: Path, tmp_path: Path) -> None:
    """The pool has one connection; the others are made while the file is away."""
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match="moved or removed"), store._database.reading(), store._database.reading():
        pass
    assert not path.exists()
    (tmp_path / "moved.db").rename(path)
    with store._database.reading(), store._database.reading():
        assert_whole(store, path)


def test_database_that_is_moved_as_it_is_opened(
    store: Store, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the file and its opening."""
    log = log_of(path).read_bytes()
    monkeypatch.setattr(SqliteFile, "_refuse_log_of_another", lambda *_: path.rename(tmp_path / "moved.db"))
    late = Store.open(path)
    with pytest.raises(StoreError, match="cannot be used"):
        late.check()
    late.close()
    assert not path.exists()
    assert log_of(path).read_bytes() == log
    (tmp_path / "moved.db").rename(path)


def test_another_file_in_its_place_is_not_opened(store: Store, path: Path, tmp_path: Path) -> None:
    other = other_database(tmp_path / "other.db")
    log, content = log_of(path).read_bytes(), other.read_bytes()
    path.rename(tmp_path / "moved.db")
    other.rename(path)
    with pytest.raises(StoreError, match=r"was replaced by another file.*Put it back"):
        store.runs.list()
    assert "another file than the one that bathyscope.db-wal belongs to" in elsewhere(_READ, path)
    assert log_of(path).read_bytes() == log
    assert path.read_bytes() == content

    path.rename(other)
    (tmp_path / "moved.db").rename(path)
    assert_whole(store, path)


def test_exchanged_log_is_noticed(store: Store, path: Path, tmp_path: Path) -> None:
    log_of(path).rename(tmp_path / "log")
    with pytest.raises(StoreError, match=r"log .* was moved or replaced.*Stop the service"):
        store.runs.list()
    shutil.copy(tmp_path / "log", log_of(path))
    assert "was exchanged" in elsewhere(_READ, path)
    log_of(path).unlink()
    (tmp_path / "log").rename(log_of(path))
    assert_whole(store, path)


def test_log_whose_database_is_away_is_not_emptied_at_a_start(path: Path, tmp_path: Path) -> None:
    elsewhere(_WRITE_AND_DIE, path)
    log = log_of(path).read_bytes()
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match=r"is missing, and its log .* only there.*Put the database back"):
        Store.open(path).migrate()
    assert not path.exists()
    assert log_of(path).read_bytes() == log

    (tmp_path / "moved.db").rename(path)
    store = Store.open(path)
    store.migrate()
    assert [run.id for run in store.runs.list().items] == ["kept"]
    store.close()


def test_log_of_another_file_is_not_taken_at_a_start(path: Path, tmp_path: Path) -> None:
    elsewhere(_WRITE_AND_DIE, path)
    path.rename(tmp_path / "moved.db")
    other_database(tmp_path / "other.db").rename(path)
    store = Store.open(path)
    with pytest.raises(StoreError, match=r"another file than the one.*belongs to"):
        store.migrate()
    store.close()


def test_database_may_be_exchanged_while_nothing_runs(store: Store, path: Path, tmp_path: Path) -> None:
    store.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bathyscope.db"]  # log and record are gone
    other_database(tmp_path / "other.db").replace(path)
    again = Store.open(path)
    again.migrate()
    assert [run.id for run in again.runs.list().items] == ["other"]
    assert elsewhere(_READ, path) == "['other']"
    again.close()


def test_copy_of_all_files_of_a_database_in_use_can_be_opened(store: Store, path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    for file in tmp_path.glob("bathyscope.db*"):
        shutil.copy(file, backup)
    assert elsewhere(_READ, backup / path.name) == "['kept']"


def test_file_that_is_no_database(path: Path) -> None:
    path.write_text("Notes of the experiment, which are no database.\n" * 100, encoding="utf-8")
    for ask in (Store.open(path).check, Store.open(path).migrate):
        with pytest.raises(StoreError, match=r"is no SQLite database.*Restore a backup"):
            ask()
    assert path.read_text(encoding="utf-8").startswith("Notes")


def test_damaged_database(store: Store, path: Path) -> None:
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    damaged = Store.open(path)
    with pytest.raises(StoreError, match=r"is damaged.*Restore a backup"):
        damaged.runs.list()
    damaged.close()


def test_folder_in_the_place_of_the_database(path: Path) -> None:
    path.mkdir()
    for ask in (Store.open(path).check, Store.open(path).migrate):
        with pytest.raises(StoreError, match=r"is a folder.*Give the path of a file"):
            ask()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_url_without_a_file(url: str) -> None:
    with pytest.raises(StoreError, match=r"names no file.*sqlite:////folder"):
        Store.open(url)


# The user is changed when all is loaded: another one may not read the interpreter's folders.
_TRY = """
import os, pwd, sys
from pathlib import Path
import service.store.migration
from service.store.errors import StoreError
from service.store.store import Store

store = Store.open(Path(sys.argv[1]))
os.setuid(pwd.getpwnam("nobody").pw_uid)
for ask in (store.runs.list, lambda: store.events.add("x", "y"), store.migrate):
    try:
        print(ask() is not None)
    except StoreError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, which only root can become")
def test_rights_of_another_user() -> None:
    # Not in the folder of the tests, which only their user may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = other_database(folder / "bathyscope.db")
        path.chmod(0o644)
        # Without an index, which this user cannot make either, SQLite cannot even read a database in WAL mode.
        for answer in elsewhere(_TRY, path).splitlines():
            assert "cannot be written: the file, its folder or its disk is read-only" in answer
        path.chmod(0o600)
        for answer in elsewhere(_TRY, path).splitlines():
            assert "cannot be read: this user has no permission" in answer
        assert "cannot be made" in elsewhere(_TRY, folder / "new.db").splitlines()[-1]
        folder.chmod(0o700)
        *asked, migrated = elsewhere(_TRY, path).splitlines()
        assert all("cannot be read: this user has no permission" in answer for answer in asked)
        assert "cannot be made (Permission denied)" in migrated
