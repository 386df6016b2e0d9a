"""The same sweep in every format gives the same planes and lengths; movies are compared by tests of `localize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardware.movies import open_movie
from hardware.sweeps import open_sweep
from tests.hardware.format_samples import FORMATS, PIXEL_UM, STEP_UM
from tests.hardware.picture_samples import SHAPE, numbered

STATES_NO_LENGTHS = {"TIFF, LZW"}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_sweep(tmp_path: Path, name: str) -> None:
    sweep = open_sweep(FORMATS[name](tmp_path, numbered(9, *SHAPE), "Z"))
    assert np.array_equal(sweep.planes[:, 0], numbered(9, *SHAPE))
    expected = (None, None) if name in STATES_NO_LENGTHS else (pytest.approx(PIXEL_UM), STEP_UM)
    assert (sweep.pixel_size_um, sweep.z_step_um) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_movie(tmp_path: Path, name: str) -> None:
    with open_movie(FORMATS[name](tmp_path, numbered(9, *SHAPE), "T")) as movie:
        assert np.array_equal(movie.read_whole(), numbered(9, *SHAPE))
        assert movie.pixel_size_um == (None if name in STATES_NO_LENGTHS else pytest.approx(PIXEL_UM))
