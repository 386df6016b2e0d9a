"""Real files, written here by tifffile and zarr."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from hardware.agreement import agreed_pixel_size
from hardware.microscope import MicroscopeError
from hardware.movies import open_movie
from hardware.sweeps import open_sweep
from tests.hardware.format_samples import ome_tiff_set, ome_zarr

MICRONS = {"PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.65, "PhysicalSizeYUnit": "µm"}


def numbered(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    """Planes that hold their own number, with one marked pixel at row 1, column 2."""
    planes = math.prod(shape[:-2])
    stack = np.zeros((planes, *shape[-2:]), dtype)
    stack += np.arange(planes, dtype=dtype)[:, None, None]
    stack[:, 1, 2] += 100
    return stack.reshape(shape)


# ---- movies that fit ----


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_ome_tiff_movie(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "movie.ome.tif"
    data = numbered(7, 16, 24)
    metadata = {"axes": "TYX", "TimeIncrement": 10, "TimeIncrementUnit": "ms", "SignificantBits": 12, **MICRONS}
    tifffile.imwrite(path, data, compression=compression, metadata=metadata, photometric="minisblack")
    with open_movie(path) as movie:
        assert (len(movie), movie.shape) == (7, (7, 16, 24))
        assert movie.pixel_size_um == pytest.approx(0.65)
        assert movie.frame_period_s == pytest.approx(0.01)
        assert movie.bit_depth == 12
        assert movie[3].dtype == np.uint16
        assert movie[3].flags.writeable
        assert np.array_equal(movie[3], data[3])
        assert np.array_equal(movie[-1], data[-1])
        assert np.array_equal(movie.read(2, 99), data[2:])
        assert [frame[0, 0] for frame in movie] == list(range(7))
        for beyond in (7, -8):
            with pytest.raises(IndexError, match="of 7"):
                movie[beyond]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True, "metadata": {"axes": "ZYX"}, "resolution": (72.0, 72.0), "resolutionunit": "inch"},
        {"compression": "zlib"},
        {"byteorder": ">"},
        {"bigtiff": True, "metadata": None},
    ],
)
def test_axes_of_a_plain_tiff_count_by_position_and_its_resolution_is_not_believed(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "movie.tif"
    data = numbered(5, 16, 24)
    tifffile.imwrite(path, data, **options, photometric="minisblack")
    with open_movie(path) as movie:
        assert np.array_equal(movie.read(0, 5), data)
        assert movie[1].dtype.isnative
        assert (movie.pixel_size_um, movie.frame_period_s, movie.bit_depth) == (None, None, 16)


def test_singleton_axes_are_dropped_and_8_bits_are_widened(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    data = numbered(5, 1, 1, 16, 24, dtype="uint8")
    tifffile.imwrite(path, data, metadata={"axes": "TCZYX"}, photometric="minisblack")
    with open_movie(path) as movie:
        assert movie.shape == (5, 16, 24)
        assert (movie[2].dtype, movie.bit_depth) == (np.uint16, 8)
    single = tmp_path / "one.tif"
    tifffile.imwrite(single, numbered(1, 16, 24)[0], photometric="minisblack")
    with open_movie(single) as movie:
        assert movie.shape == (1, 16, 24)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_an_ome_zarr_movie(tmp_path: Path, version: str, chunk: int) -> None:
    data = numbered(10, 16, 24)
    path = ome_zarr(
        tmp_path / "movie.ome.zarr",
        data,
        "tyx",
        version=version,
        chunks=(chunk, 16, 24),
        scale={"t": 5.0, "y": 0.65, "x": 0.65},
    )
    with open_movie(path) as movie:
        assert movie.shape == (10, 16, 24)
        assert (movie.pixel_size_um, movie.frame_period_s) == (0.65, 0.005)
        assert [frame[0, 0] for frame in movie] == list(range(10))
        assert np.array_equal(movie.read(3, 9), data[3:9])
        assert np.array_equal(movie.read(3, 5), data[3:5])


def test_ome_zarr_of_a_converter_with_five_axes(tmp_path: Path) -> None:
    data = numbered(6, 1, 1, 16, 24)
    path = ome_zarr(tmp_path / "movie.zarr", data, "tczyx", version="0.4", below="0", units=False)
    with open_movie(path) as movie:
        assert np.array_equal(movie[4], data[4, 0, 0])
        assert (movie.pixel_size_um, movie.frame_period_s) == (None, None)


def test_a_bare_zarr_array_counts_by_position(tmp_path: Path) -> None:
    data = numbered(6, 16, 24)
    zarr.create_array(tmp_path / "bare.zarr", data=data)
    with open_movie(tmp_path / "bare.zarr") as movie:
        assert np.array_equal(movie[4], data[4])


def test_a_movie_in_several_files(tmp_path: Path) -> None:
    paths = ome_tiff_set(tmp_path, numbered(12, 16, 24), "T", 3)
    for path in paths:
        with open_movie(path) as movie:
            assert (movie.shape, movie.pixel_size_um) == ((12, 16, 24), 0.65)
            assert [frame[0, 0] for frame in movie] == list(range(12))
            assert np.array_equal(movie.read(0, 12), numbered(12, 16, 24))
    paths[1].unlink()
    assert "announces 12 planes and holds 8" in refused(open_movie, paths[0])


# ---- sweeps that fit ----


@pytest.mark.parametrize("name", ["sweep.ome.tif", "sweep.ome.zarr"])
def test_repeats_of_a_sweep_are_its_labelled_time_axis(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = numbered(6, 2, 16, 24)
    if name.endswith("zarr"):
        ome_zarr(path, data, "ztyx", version="0.4", scale={"z": 2.0, "y": 0.65, "x": 0.65})
    else:
        tifffile.imwrite(
            path, data, metadata={"axes": "ZTYX", "PhysicalSizeZ": 2.0, **MICRONS}, photometric="minisblack"
        )
    sweep = open_sweep(path)
    assert np.array_equal(sweep.planes, data)
    assert (sweep.pixel_size_um, sweep.z_step_um, sweep.bit_depth) == (pytest.approx(0.65), 2.0, 16)


def test_repeats_may_come_first(tmp_path: Path) -> None:
    path = tmp_path / "sweep.ome.tif"
    data = numbered(2, 6, 16, 24)
    tifffile.imwrite(path, data, metadata={"axes": "TZYX"}, photometric="minisblack")
    sweep = open_sweep(path)
    assert sweep.planes.shape == (6, 2, 16, 24)
    assert np.array_equal(sweep.planes[4, 1], data[1, 4])
    assert sweep.z_step_um is None


@pytest.mark.parametrize("shape", [(6, 16, 24), (6, 3, 16, 24), (6, 1, 1, 16, 24)])
def test_axes_of_a_plain_sweep_count_by_position(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "sweep.tif"
    data = numbered(*shape)
    tifffile.imwrite(path, data, photometric="minisblack")
    sweep = open_sweep(path)
    assert sweep.planes.shape == (6, shape[1] if len(shape) == 4 else 1, 16, 24)
    assert np.array_equal(sweep.planes.reshape(-1), data.reshape(-1))


def test_the_real_sweep(shared_data: Path) -> None:
    path = shared_data / "beads-10x-na045" / "zsweep.ome.tif"
    sweep = open_sweep(path)
    assert sweep.planes.shape == (106, 2, 512, 512)
    assert (sweep.pixel_size_um, sweep.z_step_um) == (1.6, 1.0)
    with pytest.raises(MicroscopeError, match="ZTYX"):
        open_movie(path)


# ---- contradictions ----


def refused(open_it: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(MicroscopeError) as refusal:
        open_it(path)
    assert refusal.value.cause == "movie"
    assert str(path) in refusal.value.problem
    assert refusal.value.remedy
    return str(refusal.value)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((5, 16, 24), "ZYX", "an axis Z of 5. A z-sweep belongs to calibrate"),
        ((5, 3, 16, 24), "TZYX", "an axis Z of 3"),
        ((5, 2, 16, 24), "TCYX", "an axis C of 2"),
    ],
)
def test_labelled_axes_that_make_no_movie(tmp_path: Path, shape: tuple[int, ...], axes: str, message: str) -> None:
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(path, numbered(*shape), metadata={"axes": axes}, photometric="minisblack")
    assert message in refused(open_movie, path)
    stored = ome_zarr(tmp_path / "movie.ome.zarr", numbered(*shape), axes.lower())
    assert message in refused(open_movie, stored)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((5, 16, 24), "TYX", "here is no axis Z of at least 2 planes"),
        ((5, 2, 16, 24), "ZCYX", "here is an axis C of 2"),
        ((1, 5, 16, 24), "ZTYX", "here is no axis Z of at least 2 planes"),
    ],
)
def test_labelled_axes_that_make_no_sweep(tmp_path: Path, shape: tuple[int, ...], axes: str, message: str) -> None:
    path = tmp_path / "sweep.ome.tif"
    tifffile.imwrite(path, numbered(*shape), metadata={"axes": axes}, photometric="minisblack")
    assert message in refused(open_sweep, path)


def test_shapes_that_fit_neither(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, numbered(2, 3, 4, 16, 24), photometric="minisblack")
    assert "a movie is (T, Y, X)" in refused(open_movie, path)
    assert "a sweep is (Z, Y, X)" in refused(open_sweep, path)
    tifffile.imwrite(path, numbered(1, 16, 24)[0], photometric="minisblack")
    assert "at least 2 planes" in refused(open_sweep, path)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32"])
def test_what_is_no_camera_count(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, numbered(3, 16, 24, dtype=dtype), photometric="minisblack")
    assert f"holds {dtype}" in refused(open_movie, path)


def test_colour_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "colour.tif"
    tifffile.imwrite(path, np.zeros((3, 16, 24, 3), "uint8"), photometric="rgb")
    assert "colour image" in refused(open_movie, path)


def test_rows_and_columns_come_last(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, numbered(3, 16, 24), metadata={"axes": "YXT"}, photometric="minisblack")
    assert "has the axes YXT; the last two must be Y and X" in refused(open_movie, path)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(
        path,
        numbered(3, 16, 24),
        metadata={"axes": "TYX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.5},
        photometric="minisblack",
    )
    assert "0.65 µm in x and 0.5 µm in y" in refused(open_movie, path)
    tifffile.imwrite(
        path, numbered(3, 16, 24), metadata={"axes": "TYX", "PhysicalSizeX": -0.65}, photometric="minisblack"
    )
    assert "must be positive" in refused(open_movie, path)


def test_several_images_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(numbered(3, 16, 24), photometric="minisblack")
        writer.write(numbered(3, 8, 8), photometric="minisblack")
    assert "holds 2 images" in refused(open_movie, path)


def test_zarr_that_is_no_image(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "empty.zarr", mode="w")
    assert "without OME metadata" in refused(open_movie, tmp_path / "empty.zarr")
    group.create_array("0", data=numbered(3, 16, 24))
    axes = [{"name": name} for name in "yx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    assert "names 2 axes (YX) for an array of 3 dimensions" in refused(open_movie, tmp_path / "empty.zarr")
    group.attrs["ome"] = {"multiscales": [{"axes": ["y", "x", "t"], "datasets": [{"path": "0"}]}]}
    assert "the last two must be Y and X" in refused(open_movie, tmp_path / "empty.zarr")
    zarr.create_array(tmp_path / "line.zarr", data=np.zeros(4, "uint16"))
    assert "a frame has two axes" in refused(open_movie, tmp_path / "line.zarr")
    zarr.create_array(tmp_path / "none.zarr", shape=(0, 16, 24), dtype="uint16")
    assert "it is empty" in refused(open_movie, tmp_path / "none.zarr")


# ---- missing and damaged ----


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert "does not exist" in refused(open_movie, tmp_path / "nothing.tif")
    text = tmp_path / "movie.avi"
    text.write_text("RIFF")
    assert "is no TIFF file but a video, which is not supported" in refused(open_movie, text)
    false = tmp_path / "false.tif"
    false.write_text("this is no TIFF file")
    assert "is no TIFF file; movies and sweeps are" in refused(open_movie, false)
    folder = tmp_path / "folder.zarr"
    folder.mkdir()
    assert "is a folder of 0 entries, none of which is an image" in refused(open_movie, folder)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("name", ["movie.tif", "movie.ome.tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_tiff_that_was_cut_off(tmp_path: Path, name: str, compression: str | None, share: float) -> None:
    path = tmp_path / name
    metadata = {"axes": "TYX"} if ".ome" in name else None
    noise = np.random.default_rng(1).integers(0, 4000, (20, 64, 64)).astype("uint16")
    tifffile.imwrite(path, noise, compression=compression, metadata=metadata, photometric="minisblack")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    def open_and_read(broken: Path) -> None:
        with open_movie(broken) as movie:
            assert len(movie) == 20
            movie.read(0, len(movie))

    assert "record it again" in refused(open_and_read, path)


def test_a_zarr_with_a_damaged_chunk(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "movie.ome.zarr", numbered(4, 16, 24), "tyx")
    (path / "0" / "c" / "2" / "0" / "0").write_bytes(b"rubbish")
    with open_movie(path) as movie:
        assert movie[1][0, 0] == 1
        with pytest.raises(MicroscopeError, match="damaged"):
            movie[2]


# ---- the pixel size that all agree on ----


def test_the_pixel_size_is_stated_or_assumed_with_a_note() -> None:
    assert agreed_pixel_size(0.65, None, 0.65) == (0.65, None)
    assert agreed_pixel_size(None, 0.65, 0.65) == (0.65, None)
    assert agreed_pixel_size(0.651, 0.65, None) == (0.65, None)
    size, note = agreed_pixel_size(None, None, 0.65)
    assert size == 0.65
    assert "model's 0.65 µm is assumed" in note


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0.5, 0.65, None), "0.65 µm according to --pixel-size-um, but 0.5 µm according to the file's metadata"),
        ((0.5, None, 0.65), "0.5 µm according to the file's metadata, but 0.65 µm according to the model"),
        ((None, 0.5, 0.65), "0.5 µm according to --pixel-size-um, but 0.65 µm according to the model"),
        ((None, None, None), "The pixel size is unknown"),
        ((None, math.nan, 0.65), "must be positive and finite"),
        ((0.65, 0.0, None), "must be positive and finite"),
    ],
)
def test_contradicting_pixel_sizes_are_refused(sizes: tuple[float | None, ...], message: str) -> None:
    with pytest.raises(MicroscopeError, match=message) as refusal:
        agreed_pixel_size(*sizes)
    assert refusal.value.cause == "movie"
