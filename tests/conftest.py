"""What all tests share: where the real data is, and when something missing is a failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def missing(what: str) -> NoReturn:
    """Skip the test for the lack of `what`; where CI=true, where nothing may be lacking, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI=true demands it")
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real recordings."""
    folder = Path(os.environ.get("BATHYSCOPE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        missing(f"the real data set is not at {folder} (set BATHYSCOPE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium browser; Debian's package `chromium`, or the one that BATHYSCOPE_TEST_CHROMIUM names."""
    import shutil

    found = os.environ.get("BATHYSCOPE_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing("there is no Chromium (apt-get install chromium)")
    return found
