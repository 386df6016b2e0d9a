"""The version is written in pyproject.toml; the other places repeat it, and must agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

__all__ = ["disagreements", "project_version"]


def project_version(root: Path) -> str:
    """The version of the package in the folder `root`."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def disagreements(root: Path, *, is_released: bool) -> list[str]:
    """Places that state another version, one line each.

    Parameters
    ----------
    root : Path
        The repository.
    is_released : bool
        Whether the changelog must have a dated section of this version, and nothing that is not released.
    """
    version = project_version(root)
    found = []
    citation = re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    if citation is None or citation[1] != version:
        found.append(f"CITATION.cff states {citation[1] if citation else 'no version'}, pyproject.toml {version}.")
    sections = re.findall(r"^## \[(.+?)\](.*)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if not sections or sections[0][0] not in ("Unreleased", version):
        found.append(
            f"CHANGELOG.md begins with {sections[0][0] if sections else 'no version'}, pyproject.toml {version}."
        )
    if is_released and not any(
        name == version and re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for name, date in sections
    ):
        found.append(f"CHANGELOG.md has no section '## [{version}] - DATE'. Rename the section Unreleased.")
    return found
