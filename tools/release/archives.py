"""Build the source archive and the wheel, and check what they hold."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

__all__ = ["build_archives", "faults_of_source", "faults_of_wheel"]

_IN_WHEEL = (
    "bathyscope/__init__.py",
    "bathyscope_errors.py",
    "evaluation/__init__.py",
    "hardware/microscope.py",
    "models/weights/full/weights.safetensors",
    "models/weights/live/weights.safetensors",
    "service/web/dist/index.html",
    "service/web/dist/swagger/swagger-ui-bundle.js",
    "service/web/dist/third-party-licences.txt",
)
_NOT_IN_WHEEL = ("tests/", "tools/", "service/web/src/", "service/web/node_modules/")
_IN_SOURCE = (
    "pyproject.toml", "hatch_build.py", "LICENSE", "CITATION.cff", "CHANGELOG.md", "constraints.txt",
    "docs/user-guide.md", "models/weights/live/weights.safetensors", "service/web/package-lock.json",
    "tests/conftest.py", "tools/site/conf.py",
)  # fmt: skip
_NOT_IN_SOURCE = ("service/web/node_modules/", "service/web/dist/", "build/", "dist/")


def build_archives(root: Path, out: Path, version: str) -> tuple[Path, Path]:
    """Build both into the folder `out` with the hatchling of this environment; return source archive and wheel.

    Raises
    ------
    RuntimeError
        When hatchling fails.
    """
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hatchling failed: {(done.stdout + done.stderr).strip()[-2000:]}")
    return out / f"bathyscope-{version}.tar.gz", out / f"bathyscope-{version}-py3-none-any.whl"


def faults_of_wheel(wheel: Path, version: str) -> list[str]:
    """What is wrong with the wheel, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    found = _faults(names, _IN_WHEEL, _NOT_IN_WHEEL)
    if wheel.name != f"bathyscope-{version}-py3-none-any.whl":
        found.append(f"{wheel.name} is not a wheel of version {version} for all systems.")
    if f"bathyscope-{version}.dist-info/licenses/LICENSE" not in names:
        found.append("The licence is missing.")
    return found


def faults_of_source(source: Path, version: str) -> list[str]:
    """What is wrong with the source archive, one line each."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    found = _faults(names, _IN_SOURCE, _NOT_IN_SOURCE)
    if source.name != f"bathyscope-{version}.tar.gz":
        found.append(f"{source.name} is not a source archive of version {version}.")
    return found


def _faults(names: set[str], wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> list[str]:
    missing = [f"{name} is missing." for name in wanted if name not in names]
    return missing + [f"{name} does not belong there." for name in sorted(names) if name.startswith(unwanted)]
