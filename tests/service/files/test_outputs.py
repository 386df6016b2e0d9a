"""Allowed destinations of outputs, and the earlier output after a failure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import DataError
from service.files.outputs import check_json, complete_output, write_json


def _ours(path: Path) -> bool:
    return path.is_file() and path.read_text() == "old"


def _write(path: Path) -> None:
    with complete_output(path, _ours) as aside:
        aside.write_text("new")


@pytest.fixture
def another_user() -> Iterator[None]:
    """The permissions of an ordinary user, for tests that run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "real" / "table.csv", tmp_path / "link.csv"
    target.parent.mkdir()
    link.symlink_to(target)
    _write(link)  # it led nowhere
    assert target.read_text() == "new"
    target.write_text("old")
    _write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    target.write_text("precious")
    with pytest.raises(DataError, match="exists and is not an output of this kind"):
        _write(link)
    assert target.read_text() == "precious"
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null", "pipe"])
def test_devices_and_pipes_are_not_replaced(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "pipe":
        os.mkfifo(path)
    before = os.lstat(path)
    for write in (_write, check_json, lambda path: write_json(path, {})):
        with pytest.raises(DataError, match=f"{path} is no ordinary file"):
            write(path)
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize("name", ["n" * 251 + ".csv", "a\udcff.csv", "\x1b[31m\n.csv", "µ ✓.csv", "-rf.csv"])
def test_any_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    _write(tmp_path / name)
    write_json(tmp_path / f"{name[:200]}.json", {"a": 1})
    assert (tmp_path / name).read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_names_that_no_file_can_have_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / ("n" * 300 + ".csv"), tmp_path / "n" / ("µ" * 200) / "t.csv"):
        with pytest.raises(DataError, match="File name too long"):
            _write(path)
        with pytest.raises(DataError, match="File name too long"):
            write_json(path, {})
    for write in (_write, check_json, lambda path: write_json(path, {})):
        with pytest.raises(DataError, match="names no output"):
            write(Path(""))


def test_a_folder_without_permission_is_reported(tmp_path: Path, another_user: None) -> None:
    closed = tmp_path / "closed"
    if os.geteuid() == 65534:  # the folders of tests are closed to others
        closed = tmp_path
    else:
        closed.mkdir(mode=0)
    for write in (_write, check_json, lambda path: write_json(path, {})):
        with pytest.raises(DataError, match=r"table.csv cannot be written \(Permission denied\)"):
            write(closed / "table.csv")


def test_figures_replace_only_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    for content in ("{}", json.dumps({"jaccard": 1})):
        path.write_text(content)
        check_json(path)
    for content in ("frame,x_um\n", "[1]", "[" * 100_000, ""):
        path.write_text(content)
        with pytest.raises(DataError, match="exists and is not an output of this kind"):
            check_json(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        check_json(tmp_path / "empty")
    check_json(None)


def test_a_folder_is_replaced_and_comes_back_when_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "calibration"
    place.mkdir()
    (place / "old").touch()
    with complete_output(place, Path.is_dir) as aside:
        aside.mkdir()
        (aside / "new").touch()
    assert [path.name for path in place.iterdir()] == ["new"]
    replace = os.replace

    def fail(first: Path, second: Path) -> None:
        if second == place and first.name == place.name:
            raise OSError(16, "Device or resource busy")
        replace(first, second)

    monkeypatch.setattr(os, "replace", fail)
    with (
        pytest.raises(DataError, match="Device or resource busy"),
        complete_output(place, Path.is_dir) as aside,
    ):
        aside.mkdir()
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["calibration"]
