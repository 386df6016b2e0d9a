"""The table of known cameras: each a valid camera with its source."""

from __future__ import annotations

import pytest

from models.errors import DataError
from models.known_cameras import KNOWN_CAMERAS, known_camera


@pytest.mark.parametrize("name", KNOWN_CAMERAS)
def test_each_is_a_camera_with_a_source(name: str) -> None:
    known = known_camera(name.upper())
    assert known.name == name
    camera = known.camera()
    assert (camera.offset_adu, camera.electrons_per_adu) == (known.offset_adu, known.electrons_per_adu)
    assert camera.source == f"known camera {name}"
    assert known.source.startswith(("python-microscopy", "SMLMData.jl", "getframes"))


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(DataError, match="no known camera 'kinetix'") as refusal:
        known_camera("kinetix")
    assert "andor-zyla" in refusal.value.remedy
