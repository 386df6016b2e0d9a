"""The version is the same wherever it is written, and a difference is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.release.versions import disagreements, project_version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_this_repository_agrees() -> None:
    assert disagreements(ROOT, is_released=False) == []


def test_another_version_of_the_citation_is_found(root: Path) -> None:
    _change(root / "CITATION.cff", f"version: {project_version(root)}", "version: 9.9.9")
    assert disagreements(root, is_released=False) == [
        f"CITATION.cff states 9.9.9, pyproject.toml {project_version(root)}."
    ]


def test_another_version_of_the_changelog_is_found(root: Path) -> None:
    _change(root / "CHANGELOG.md", "## [Unreleased]", "## [9.9.9] - 2026-11-30")
    assert disagreements(root, is_released=False) == [
        f"CHANGELOG.md begins with 9.9.9, pyproject.toml {project_version(root)}."
    ]


def test_a_release_needs_a_dated_section(root: Path) -> None:
    version = project_version(root)
    (fault,) = disagreements(root, is_released=True)
    assert f"'## [{version}] - DATE'" in fault
    _change(root / "CHANGELOG.md", "## [Unreleased]", f"## [{version}] - 2026-11-30")
    assert disagreements(root, is_released=True) == []
