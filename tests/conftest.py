"""Fixtures of all tests: external programs and data, and whether a missing one skips or fails a test."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Read when the libraries of linear algebra are first imported. Their threads wait for each other in a loop: on cores
# that are shared, with the other process of `pytest -n 2` for example, two take several times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

WHOLE_SERVICES = (
    "tests/bathyscope/remote/test_client.py",
    "tests/bathyscope/remote/test_guide.py",
    "tests/end_to_end/",
    "tests/evaluation/commands/test_bench.py",
    "tests/faults/",
    "tests/service/commands/test_demo.py",
)
"""Tests that start all processes of the service, or a browser; never two of them at once."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each process runs whole files, in the order of the folders.

    The tests of a file share expensive fixtures. The first folders have the longest tests and the last the shortest,
    so that all processes end at about the same time; pytest-xdist itself would begin with the files of most tests.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "whole services" if nodeid.startswith(WHOLE_SERVICES) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Files(config, log)


def missing(what: str, *, in_ci: bool = True) -> NoReturn:
    """Skip the test because `what` is missing. With CI=true the test fails, unless `in_ci` is false."""
    if in_ci and os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI=true demands it")
    pytest.skip(what)


def need(name: str) -> Any:
    """Return an external need of a test: a package as its module, a program or data as a path.

    Where it is missing the test is skipped and says how to get it; with CI=true, where nothing may be missing, it
    fails. All tests ask here, so that none is left out in CI without a word.

    Parameters
    ----------
    name : str
        A package of an extra, or one of `chromium`, `curl`, `file of NIS-Elements`, `nats-server`, `openssl`,
        `postgresql`, `prometheus`, `promtool`, `shared data`, `track readers`.
    """
    if name in _EXTRAS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing(f"{error.name} is not installed: pip install 'bathyscope[{_EXTRAS[name]}]'")
    find, remedy = _OTHERS[name]
    found = find()
    if found is None:
        missing(f"{name} is not there: {remedy}")
    return found


_EXTRAS = {
    "distributed": "cluster",
    "liffile": "vendors",
    "mcp": "mcp",
    "mm_test_adapters": "democamera",
    "moto": "test",
    "nats": "relay",
    "nd2": "vendors",
    "picasso": "evaluation",
    "psf_generator": "evaluation",
    "psycopg": "postgres",
    "s3fs": "remote",
    "pylibCZIrw.czi": "vendors",
    "skimage": "evaluation",
    "smappy": "evaluation",
    "smappy.calibrate.core": "evaluation",
    "trackeval": "evaluation",
    "useq": "useq",
    "yaml": "useq",
}


def _chromium() -> str | None:
    named = os.environ.get("BATHYSCOPE_TEST_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


def _nats_server() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


def _postgresql() -> Path | None:
    """The folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _shared_data() -> Path | None:
    folder = Path(os.environ.get("BATHYSCOPE_SHARED", ROOT.parent / "shared")) / "data"
    return folder if folder.is_dir() else None


def _nikon_file() -> Path | None:
    """A file of NIS-Elements that the package pims_nd2 brings; the package itself is not imported."""
    found = importlib.util.find_spec("pims_nd2")
    file = (
        Path(found.submodule_search_locations[0]) / "cluster.nd2"
        if found and found.submodule_search_locations
        else None
    )
    return file if file is not None and file.is_file() else None


def _track_readers() -> Path | None:
    """The Python of an environment with geff, napari and pycellin, which need another numcodecs than the recorder."""
    named = os.environ.get("BATHYSCOPE_TEST_READERS")
    return Path(named) if named else None


_OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "chromium": (_chromium, "apt-get install chromium, or name it by BATHYSCOPE_TEST_CHROMIUM"),
    "curl": (lambda: shutil.which("curl"), "apt-get install curl"),
    "file of NIS-Elements": (_nikon_file, "pip install pims-nd2"),
    "nats-server": (_nats_server, "pip install 'bathyscope[relay]'"),
    "openssl": (lambda: shutil.which("openssl"), "apt-get install openssl"),
    "postgresql": (_postgresql, "apt-get install postgresql"),
    "prometheus": (lambda: shutil.which("prometheus"), "apt-get install prometheus"),
    "promtool": (lambda: shutil.which("promtool"), "apt-get install prometheus"),
    "track readers": (
        _track_readers,
        "python3 -m venv readers && readers/bin/pip install geff napari pycellin, and name readers/bin/python by "
        "BATHYSCOPE_TEST_READERS",
    ),
    "shared data": (_shared_data, "name the folder of the real data set by BATHYSCOPE_SHARED"),
}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real recordings."""
    folder: Path = need("shared data")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium browser; Debian's package `chromium`, or the one that BATHYSCOPE_TEST_CHROMIUM names."""
    return str(need("chromium"))


@contextmanager
def mounted_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Create `folder` and mount a memory disk of `size_bytes` there; skip when impossible, or fail in CI."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("a small tmpfs cannot be mounted here (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True, scope="session")
def hang_up_as_usual() -> None:
    """Restore SIGHUP, which `nohup` ignores: tests that close a terminal need it."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
