"""The functions for scripts: files and arrays give the same, and wrong arguments are refused with a remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import bathyscope
from models.errors import DataError
from models.scene import reference_camera, reference_scene
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def model() -> bathyscope.Localizer:
    return bathyscope.load_model("live", device="cpu")


@pytest.fixture(scope="module")
def movie() -> NDArray[np.uint16]:
    scene, camera = reference_scene((128, 128), emitters=3), reference_camera()
    return np.stack([camera.expose(scene.render(index / 100, 0.01, 0.0), seed=index) for index in range(2)])


def test_a_file_and_an_array_give_the_same(
    movie: NDArray[np.uint16], model: bathyscope.Localizer, tmp_path: Path
) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, photometric="minisblack")
    of_array = bathyscope.localize(movie, model)
    with pytest.warns(UserWarning, match=r"does not state its pixel size; the model's 0\.65 µm is assumed"):
        of_file = bathyscope.localize(str(path), model)
    assert len(of_array) > 0
    np.testing.assert_array_equal(of_array.xyz_um, of_file.xyz_um)


def test_refinement_fits_every_localization(movie: NDArray[np.uint16], model: bathyscope.Localizer) -> None:
    done: list[float] = []
    found = bathyscope.localize(movie[:1], model, refine=True, progress=done.append)
    assert len(found) > 0
    assert np.isfinite(found.chi2).all()
    assert done == [1]


@pytest.mark.parametrize(
    "frames", [np.zeros((64, 64), np.uint16), np.zeros((1, 64, 64)), np.zeros((0, 8, 8), np.uint8)]
)
def test_an_array_that_is_no_movie_is_refused(frames: NDArray[Any], model: bathyscope.Localizer) -> None:
    with pytest.raises(DataError, match=r"it is \(T, H, W\)"):
        bathyscope.localize(frames, model)


def test_an_array_of_a_sweep_needs_its_lengths() -> None:
    with pytest.raises(DataError, match="Give pixel_size_um and z_step_um"):
        bathyscope.calibrate(np.zeros((12, 8, 8), np.uint16), pixel_size_um=0.65)


def test_remarks_on_tables_are_warnings(tmp_path: Path) -> None:
    columns = {"x_um": [5.0, 6.0], "y_um": [5.0, 6.0], "z_um": [9.0, 9.0], "track_id": [0, 0]}
    truth = bathyscope.Truth.from_columns(columns | {"frame": [0, 1]})
    with pytest.warns(UserWarning, match="may count frames from 1"):
        bathyscope.evaluate(bathyscope.Truth.from_columns(columns | {"frame": [1, 2]}), truth)
    path = tmp_path / "truth.csv"
    path.write_text("frame,x_um,y_um,z_um,colour\n0,1,1,9,3\n")
    with pytest.warns(UserWarning, match="is ignored"):
        assert bathyscope.read_table(path).z_um.tolist() == [9.0]


def test_a_table_replaces_its_own_kind_only(tmp_path: Path) -> None:
    path = tmp_path / "tracks.csv"
    for _ in range(2):
        bathyscope.write_table(path, bathyscope.Tracks.empty())
    with pytest.raises(DataError, match="exists and is not an output of this kind"):
        bathyscope.write_table(path, bathyscope.Localizations.empty())
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        bathyscope.write_table(tmp_path / "tracks.xlsx", bathyscope.Tracks.empty())


def test_the_package_runs_as_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bathyscope", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "calibrate" in done.stdout
