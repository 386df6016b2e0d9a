"""What tests of several parts of the service share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import mounted_disk

SIZE_BYTES = 256 * 1024
"""A second or two of the dot."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few hundred kilobytes."""
    with mounted_disk(tmp_path / "small", SIZE_BYTES):
        yield tmp_path / "small"
