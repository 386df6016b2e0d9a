"""NDTiff folders of Micro-Manager's own writer, and folders of single images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from hardware.microscope import MicroscopeError
from hardware.movies import Movie, open_movie
from hardware.sweeps import open_sweep
from tests.hardware.format_samples import ndtiff
from tests.hardware.picture_samples import SHAPE, numbered


def refused(open_it: Callable[[Path], Any], path: Path) -> str:
    def open_and_read() -> None:
        opened = open_it(path)
        if isinstance(opened, Movie):
            with opened:
                opened.read(0, len(opened))

    with pytest.raises(MicroscopeError) as refusal:
        open_and_read()
    assert refusal.value.cause == "movie"
    return str(refusal.value)


def write_ndtiff(
    folder: Path,
    places: list[Mapping[str, int | str]],
    summary: dict[str, Any],
    each: list[dict[str, Any]] | None = None,
) -> Path:
    return ndtiff(folder, numbered(len(places), *SHAPE), places, summary, each)


def test_an_ndtiff_movie(tmp_path: Path) -> None:
    each = [{"PixelSizeUm": 0.65, "ElapsedTime-ms": 20.0 * t} for t in range(7)]
    folder = write_ndtiff(tmp_path / "movie", [{"time": t} for t in range(7)], {"BitDepth": 12}, each)
    for path in (folder, folder / "NDTiffStack.tif"):
        with open_movie(path) as movie:
            assert np.array_equal(movie.read(0, 7), numbered(7, *SHAPE))
            assert (movie.pixel_size_um, movie.frame_period_s, movie.bit_depth) == (0.65, pytest.approx(0.02), 12)
            assert movie[2].flags.writeable


def test_an_ndtiff_sweep_with_repeats_in_any_order(tmp_path: Path) -> None:
    places = [{"time": t, "z": z, "channel": "GFP"} for z in range(8, -1, -1) for t in range(2)]
    each = [{"ZPositionUm": 0.5 * place["z"], "Exposure-ms": 10} for place in places]
    sweep = open_sweep(write_ndtiff(tmp_path / "sweep", places, {"PixelSize_um": 0.65, "z-step_um": 0.5}, each))
    assert sweep.planes.shape == (9, 2, *SHAPE)
    assert sweep.planes[:, :, 0, 0].tolist() == [[16 - 2 * z, 17 - 2 * z] for z in range(9)]
    assert (sweep.pixel_size_um, sweep.z_step_um, sweep.position_step_um) == (0.65, 0.5, 0.5)


def test_an_ndtiff_folder_that_is_not_whole(tmp_path: Path) -> None:
    hole = write_ndtiff(tmp_path / "hole", [{"time": t} for t in (0, 1, 2, 4, 5, 6)], {})
    assert "announces 7 planes by its numbers (time 0 to 6) and holds 6: 3 missing" in refused(open_movie, hole)
    grid = write_ndtiff(tmp_path / "grid", [{"z": z, "time": t} for z in range(8) for t in range(2)][:-1], {})
    assert "announces 16 planes by its axes (time, z) and holds 15" in refused(open_sweep, grid)
    folder = write_ndtiff(tmp_path / "movie", [{"time": t} for t in range(7)], {})
    index = (folder / "NDTiff.index").read_bytes()
    (folder / "NDTiff.index").write_bytes(index + b"\0" * 4096)  # room that was never used
    with open_movie(folder) as movie:
        assert len(movie) == 7
    (folder / "NDTiff.index").write_bytes(index[:-20])
    assert "is cut off behind 6 images" in refused(open_movie, folder)
    (folder / "NDTiff.index").write_bytes(index)
    content = (folder / "NDTiffStack.tif").read_bytes()
    (folder / "NDTiffStack.tif").write_bytes(content[: len(content) // 2])
    assert "is cut off: it has" in refused(open_movie, folder)
    (folder / "NDTiffStack.tif").unlink()
    assert "NDTiffStack.tif does not exist" in refused(open_movie, folder)
    (folder / "NDTiff.index").write_bytes(b"")
    assert "NDTiff folder without images" in refused(open_movie, folder)


def test_axes_of_ndtiff_that_make_no_movie(tmp_path: Path) -> None:
    channels = [{"time": t, "channel": name} for t in range(3) for name in ("GFP", "RFP")]
    assert "an axis C of 2" in refused(open_movie, write_ndtiff(tmp_path / "channels", channels, {}))
    tiles = [{"time": t, "row": row, "column": 0} for t in range(3) for row in range(2)]
    assert "an axis G of 2" in refused(open_movie, write_ndtiff(tmp_path / "tiles", tiles, {}))


# ---- folders of single images ----


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, frame in zip(names, numbered(len(names), *SHAPE), strict=True):
        tifffile.imwrite(folder / name, frame, photometric="minisblack", metadata=None)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"frame{number}.tif" for number in range(12)],
        [f"run 3, {number:04d}.TIFF" for number in range(5, 17)],
        [f"{number}.tif" for number in range(0, 60, 5)],
        [f"e ({number}).tif" for number in range(1, 13)],  # dive 494
        [f"run2_20230823_{number:04d}.tiff" for number in range(12)],  # tiled 555
        [f"file{number:03d}_chan0.tif" for number in range(0, 6000, 500)],  # suite2p 944
        [f"img_{number:09d}_Default_000.tif" for number in range(12)],
        [f"img_channel000_position000_time{number:09d}_z000.tif" for number in range(12)],
    ],
)
def test_numbered_images_are_a_movie(tmp_path: Path, names: list[str]) -> None:
    folder = write_images(tmp_path / "movie", names)
    (folder / "notes.txt").write_text("not an image")
    with open_movie(folder) as movie:
        assert np.array_equal(movie.read(0, 12), numbered(12, *SHAPE))
        assert np.array_equal(movie.read(3, 5), numbered(12, *SHAPE)[3:5])


def test_images_of_micro_manager_with_their_metadata(tmp_path: Path) -> None:
    names = [f"img_{t:09d}_GFP_{z:03d}.tif" for t in range(2) for z in range(9)]
    folder = write_images(tmp_path / "sweep", names)
    metadata: dict[str, Any] = {"Summary": {"PixelSize_um": 0.65, "z-step_um": 0.5, "Frames": 2, "Slices": 9}}
    for number, name in enumerate(names):
        key = f"FrameKey-{number // 9}-0-{number % 9}"
        metadata[key] = {"FileName": name, "ZPositionUm": 0.7 * (number % 9), "Exposure-ms": 10}
    (folder / "metadata.txt").write_text(json.dumps(metadata), encoding="utf-8")
    sweep = open_sweep(folder)
    assert np.array_equal(sweep.planes[:, 1, 0, 0], np.arange(9, 18))
    assert (sweep.pixel_size_um, sweep.z_step_um, sweep.position_step_um) == (0.65, 0.5, pytest.approx(0.7))
    assert "an axis Z of 9" in refused(open_movie, folder)
    metadata["Summary"]["Frames"] = 3
    (folder / "metadata.txt").write_text(json.dumps(metadata), encoding="utf-8")
    assert "announces 27 planes and holds 18" in refused(open_sweep, folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"f{n}.tif" for n in (1, 2, 3, 5, 6, 8)], "(number 1 to 8) and holds 6: 4, 7 missing"),
        ([f"img_{t:09d}_GFP_000.tif" for t in (0, 1, 3, 4)], "(time 0 to 4) and holds 4: 2 missing"),
        ([f"img_{t:09d}_{c}_000.tif" for t in range(2) for c in ("GFP", "RFP")], "an axis C of 2"),
        (
            [f"t{t}_z{z}.tif" for t in range(2) for z in range(3)],
            "differ in 2 numbers (such as t0_z0.tif and t1_z2.tif)",
        ),
        (["f1.tif", "f2.tif", "dark.tif"], "differ in more than their number: dark.tif and f1.tif"),
    ],
)
def test_names_that_make_no_movie(tmp_path: Path, names: list[str], message: str) -> None:
    assert message in refused(open_movie, write_images(tmp_path / "movie", names))


def test_times_in_names_are_no_counter(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "movie", [f"f_{time}.tif" for time in (1201, 1234, 1268, 1300, 1333)])
    with open_movie(folder) as movie:
        assert np.array_equal(movie.read(0, 5), numbered(5, *SHAPE))


def test_images_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "movie", [f"f{n}.tif" for n in range(4)])
    tifffile.imwrite(folder / "f2.tif", np.zeros((8, 8), "uint16"), photometric="minisblack", metadata=None)
    message = refused(open_movie, folder)
    assert "f2.tif is uint16 of the shape (8, 8); the first of its folder is uint16 of the shape (16, 24)" in message
    (folder / "f2.tif").write_bytes(b"")
    assert "holds 1 empty files (the first: f2.tif)" in refused(open_movie, folder)
    (folder / "f2.tif").write_bytes((folder / "f1.tif").read_bytes()[:300])
    assert "f2.tif" in refused(open_movie, folder)
    many = tmp_path / "many"
    many.mkdir()
    for number in range(2):
        tifffile.imwrite(many / f"f{number}.tif", numbered(3, *SHAPE), photometric="minisblack", metadata=None)
    assert "holds 2 files with several planes each" in refused(open_movie, many)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").touch()
    assert "a folder of 1 entries, none of which is an image" in refused(open_movie, tmp_path / "text")


# ---- as others met it (repository and number of the public report) ----


def test_files_of_an_ndtiff_folder_that_are_not_in_its_index(tmp_path: Path) -> None:
    """NDStorage 191: an empty file is left by a failed acquisition; iohub 190: positions begin at 1."""
    folder = write_ndtiff(tmp_path / "movie", [{"time": t, "position": 1} for t in range(7)], {})
    (folder / "NDTiffStack_1.tif").touch()
    with open_movie(folder) as movie:
        assert np.array_equal(movie.read(0, 7), numbered(7, *SHAPE))


def test_an_ndtiff_folder_without_its_index(tmp_path: Path) -> None:
    """merfish3d-analysis 69: the planes are read in the order of the file, and a note states it."""
    folder = write_ndtiff(tmp_path / "movie", [{"time": t} for t in range(7)], {"PixelSize_um": 0.65})
    (folder / "NDTiff.index").unlink()
    with open_movie(folder) as movie:
        assert np.array_equal(movie.read(0, 7), numbered(7, *SHAPE))
        assert "(NDTiff.index) is not there" in movie.notes[0]
