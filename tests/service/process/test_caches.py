"""Caches when a user without a home folder runs an installation of an administrator."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from service.process import caches
from tests.conftest import ROOT, missing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="users and capabilities of Linux")

STRANGER = 54321
"""A number that no user has."""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can write; only root can write the folders of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def as_other_user(open_folder: Path) -> list[str]:
    """Start of a command line that runs Python as another user, who can read but not write the files of root."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        missing("running a command as another user needs root and setpriv")
    installed = open_folder / "installed"
    installed.mkdir()
    shutil.copy(ROOT / "bathyscope_errors.py", installed)
    for package in ("hardware", "models", "service"):
        shutil.copytree(
            ROOT / package, installed / package, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "full")
        )
    variables = {"HOME": "/nonexistent", "PYTHONPATH": str(installed), "TMPDIR": str(open_folder)}
    capability = "+dac_read_search"
    return [
        *("env", "-i", f"PATH={os.environ['PATH']}", *(f"{name}={value}" for name, value in variables.items())),
        *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
        *("--inh-caps", capability, "--ambient-caps", capability, sys.executable, "-c"),
    ]


def test_a_user_without_a_home_localizes_and_plots(as_other_user: list[str], open_folder: Path) -> None:
    frames = np.random.default_rng(1).poisson(120, (2, 64, 64)).astype(np.uint16)
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": 0.65, "PhysicalSizeYUnit": "µm"}
    folder = open_folder
    tifffile.imwrite(folder / "movie.tif", frames, ome=True, metadata=metadata)
    model = folder / "installed" / "models" / "weights" / "live"
    command = ["localize", folder / "movie.tif", "--model", model, "--out", folder / "out.csv"]
    done = subprocess.run(
        [*as_other_user, "from service.commands.application import main; main()", *map(str, command)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cache,) = folder.glob("bathyscope-cache-*")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert list((cache / "numba").rglob("*.nbi"))

    draw = "from service.process.caches import *; use_writable_caches(); import matplotlib.pyplot"
    done = subprocess.run([*as_other_user, draw], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "writable" not in done.stderr  # as matplotlib complains


def test_a_cache_folder_that_another_user_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"bathyscope-cache-{os.getuid()}"
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)
    assert caches._private_folder() != planted
    planted.chmod(0o700)
    assert caches._private_folder() == planted


def test_where_the_home_can_be_written_nothing_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    caches.use_writable_caches()
    assert dict(os.environ) == before


def test_a_user_without_the_variable_home_has_caches_and_is_asked_for_a_data_folder(as_other_user: list[str]) -> None:
    homeless = [part for part in as_other_user if not part.startswith("HOME=")]
    show = "from service.process.caches import *; use_writable_caches(); import os; print(os.environ['MPLCONFIGDIR'])"
    done = subprocess.run([*homeless, show], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bathyscope-cache-" in done.stdout
    serve = "import sys; sys.argv = ['bathyscope', 'serve']; from service.commands.application import main; main()"
    done = subprocess.run([*homeless, serve], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no home folder" in done.stderr
    assert "--data" in done.stderr
