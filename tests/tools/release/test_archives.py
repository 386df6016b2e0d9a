"""A wheel or source archive with something missing, or too much, is found."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from tools.release import archives


def _wheel(folder: Path, *names: str) -> Path:
    path = folder / "bathyscope-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


COMPLETE = (*archives._IN_WHEEL, "bathyscope-1.0.dist-info/licenses/LICENSE")


def test_complete_wheel(tmp_path: Path) -> None:
    assert archives.faults_of_wheel(_wheel(tmp_path, *COMPLETE), "1.0") == []


def test_wheel_without_page_or_with_tests(tmp_path: Path) -> None:
    names = [name for name in COMPLETE if not name.endswith("index.html")]
    assert archives.faults_of_wheel(_wheel(tmp_path, *names, "tests/conftest.py"), "1.0") == [
        "service/web/dist/index.html is missing.",
        "tests/conftest.py does not belong there.",
    ]


def test_wheel_of_another_version(tmp_path: Path) -> None:
    found = archives.faults_of_wheel(_wheel(tmp_path, *COMPLETE), "2.0")
    assert found == [
        "bathyscope-1.0-py3-none-any.whl is not a wheel of version 2.0 for all systems.",
        "The licence is missing.",
    ]


def test_source_archive(tmp_path: Path) -> None:
    path = tmp_path / "bathyscope-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*archives._IN_SOURCE[1:], "service/web/dist/index.html"):
            archive.addfile(tarfile.TarInfo(f"bathyscope-1.0/{name}"), io.BytesIO())
    assert archives.faults_of_source(path, "1.0") == [
        f"{archives._IN_SOURCE[0]} is missing.",
        "service/web/dist/index.html does not belong there.",
    ]
