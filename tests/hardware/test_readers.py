"""What files of each format state, announce and hold, against what is read of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hardware import memory, reading
from hardware.agreement import agreed_pixel_size, agreed_step
from hardware.microscope import MicroscopeError
from hardware.movies import Movie, open_movie
from hardware.sweeps import open_sweep
from tests.hardware.picture_samples import SHAPE, described, imagej, micro_manager_stack, numbered, ome, ome_xml

MICRONS = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65, "PhysicalSizeZ": 1.0}


def refused(open_it: Callable[[Path], Any], path: Path) -> str:
    def open_and_read() -> None:
        opened = open_it(path)
        if isinstance(opened, Movie):
            with opened:
                opened.read(0, len(opened))

    with pytest.raises(MicroscopeError) as refusal:
        open_and_read()
    assert refusal.value.cause == "movie"
    assert refusal.value.remedy
    return str(refusal.value)


# ---- axes ----


@pytest.mark.parametrize(
    ("axes", "shape", "open_it", "message"),
    [
        ("ZCYX", (6, 2), open_sweep, "here is an axis C of 2"),
        ("TZYX", (3, 6), open_movie, "here is an axis Z of 6"),
        ("TYX", (6,), open_sweep, "here is no axis Z"),
        ("CYX", (6,), open_movie, "here is an axis C of 6"),
    ],
)
def test_labels_of_imagej_count(
    tmp_path: Path, axes: str, shape: tuple[int, ...], open_it: Callable[[Path], Any], message: str
) -> None:
    assert message in refused(open_it, imagej(tmp_path / "stack.tif", numbered(*shape, *SHAPE), axes))


def test_the_slices_of_imagej_are_no_label_without_a_spacing(tmp_path: Path) -> None:
    plain = imagej(tmp_path / "plain.tif", numbered(9, *SHAPE), "ZYX")
    with open_movie(plain) as movie:
        assert movie.shape == (9, *SHAPE)
    assert open_sweep(plain).planes.shape == (9, 1, *SHAPE)
    spaced = imagej(tmp_path / "spaced.tif", numbered(9, *SHAPE), "ZYX", unit="micron", spacing=2.0)
    assert "an axis Z of 9" in refused(open_movie, spaced)
    assert open_sweep(spaced).z_step_um == 2.0


def test_labels_of_tifffile_count(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, numbered(6, 2, *SHAPE), metadata={"axes": "ZCYX"}, photometric="minisblack")
    assert "here is an axis C of 2" in refused(open_sweep, path)
    tifffile.imwrite(path, numbered(2, 6, *SHAPE), metadata={"axes": "TZYX"}, photometric="minisblack")
    assert np.array_equal(open_sweep(path).planes[:, 1], numbered(2, 6, *SHAPE)[1])


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations("TZC"),
    extents=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 2)),
    dtype=st.sampled_from(["uint8", ">u2", "<u2", "int16", "float32", "uint32", "bool", "complex64"]),
    compression=st.sampled_from([None, "zlib", "lzw", "zstd", "lzma", "packbits"]),
    predictor=st.booleans(),
    form=st.sampled_from(["ome", "tifffile"]),
)
def test_whatever_the_axes_types_and_compressions(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[str],
    extents: tuple[int, int, int],
    dtype: str,
    compression: str | None,
    predictor: bool,
    form: str,
) -> None:
    sizes = dict(zip("TZC", extents, strict=True))
    shape = tuple(sizes[label] for label in order)
    data = numbered(*shape, *SHAPE).astype(dtype)
    path = tmp_path_factory.mktemp("any") / ("stack.ome.tif" if form == "ome" else "stack.tif")
    predictor = predictor and compression in ("zlib", "lzw", "zstd") and data.dtype.kind == "u"
    if dtype == "bool" and compression:
        return
    options: Any = {"compression": compression, "predictor": predictor or None, "photometric": "minisblack"}
    tifffile.imwrite(path, data, metadata={"axes": "".join(order) + "YX"}, ome=form == "ome", **options)
    by_label = np.moveaxis(data, [order.index(label) for label in "ZTC"], [0, 1, 2])
    if data.dtype.kind != "u" or data.dtype.itemsize > 2:
        assert f"holds {data.dtype.name}" in refused(open_movie, path)
    elif sizes["C"] > 1:
        assert "an axis C of 2" in refused(open_sweep, path) or sizes["Z"] == 1
        assert "C of 2" in refused(open_movie, path)
    elif sizes["Z"] > 1:
        assert np.array_equal(open_sweep(path).planes, by_label[:, :, 0])
        assert f"Z of {sizes['Z']}" in refused(open_movie, path)
    else:
        with open_movie(path) as movie:
            assert np.array_equal(movie.read(0, len(movie)), by_label[0, :, 0])
        assert "no axis Z" in refused(open_sweep, path)


# ---- what is stated of all planes ----


@pytest.mark.parametrize(
    ("extra", "doubt"),
    [
        ({"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.0}, "PhysicalSizeX 0, which writers use for unknown"),
        (
            {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1.0, "PhysicalSizeYUnit": "pixel"},
            "pix",
        ),
        ({"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "reference frame"}, "reference frame"),
        ({"PhysicalSizeX": "nan"}, "no number"),
        ({"PhysicalSizeX": "0,65", "PhysicalSizeY": "0,65"}, "'0,65', which is no number"),
    ],
)
def test_a_placeholder_gives_way_and_is_named(tmp_path: Path, extra: dict[str, Any], doubt: str) -> None:
    attributes = " ".join(f'{name}="{value}"' for name, value in extra.items())
    xml = ome_xml([("", "<TiffData/>", {"T": 5})], extra=attributes)
    with open_movie(described(tmp_path / "movie.ome.tif", numbered(5, *SHAPE), xml)) as movie:
        assert movie.pixel_size_um is None
        assert any(doubt in note and "not trusted" in note for note in movie.notes)
        assert agreed_pixel_size(movie.pixel_size_um, 1.6, None) == (1.6, None)


@pytest.mark.parametrize(
    ("unit", "pixel", "size"),
    [
        ("um", 0.5, 0.5),
        ("micron", 0.5, 0.5),
        ("\\u00B5m", 0.5, 0.5),
        ("nm", 500.0, 0.5),
        ("mm", 0.0005, 0.5),
        ("pixel", 1.0, None),
        ("inch", 0.01, None),
        (None, 0.5, None),
    ],
)
def test_the_pixel_of_imagej_has_a_unit(tmp_path: Path, unit: str | None, pixel: float, size: float | None) -> None:
    extra = {"unit": unit} if unit else {}
    path = imagej(tmp_path / "movie.tif", numbered(5, *SHAPE), "TYX", pixel, finterval=0.05, **extra)
    with open_movie(path) as movie:
        assert movie.pixel_size_um == (pytest.approx(size, rel=1e-6) if size else None)
        assert movie.frame_period_s == 0.05
        assert bool(movie.notes) == (size is None)


def test_resolution_of_a_plain_tiff_is_said_to_be_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    options: Any = {"resolution": (72, 72), "resolutionunit": "inch", "photometric": "minisblack"}
    tifffile.imwrite(path, numbered(5, *SHAPE), metadata=None, **options)
    with open_movie(path) as movie:
        assert movie.notes == (
            "The file states 72 pixels per inch, which is not trusted: programs write defaults there.",
        )


def test_more_bits_than_the_type_has(tmp_path: Path) -> None:
    path = ome(tmp_path / "movie.ome.tif", numbered(5, *SHAPE, dtype="uint8"), "TYX", SignificantBits=12)
    assert "states counts of 12 bits and holds uint8" in refused(open_movie, path)


def test_packed_counts_have_their_bits(tmp_path: Path) -> None:
    """Tifffile does not write packed counts, so the pages of 16 bits are rewritten: two counts in three bytes."""
    path = tmp_path / "packed.tif"
    data = numbered(3, *SHAPE)
    with tifffile.TiffWriter(path) as writer:
        for plane in data:
            writer.write(plane, metadata=None, contiguous=False, photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page, plane in zip(tiff.pages, data, strict=True):
            bits = "".join(f"{count:012b}" for count in plane.ravel())
            packed = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
            content[page.dataoffsets[0] : page.dataoffsets[0] + len(packed)] = packed
            struct.pack_into("<H", content, page.tags[258].valueoffset, 12)
            struct.pack_into("<I", content, page.tags[279].valueoffset, len(packed))
    path.write_bytes(content)
    with open_movie(path) as movie:
        assert movie.bit_depth == 12
        assert np.array_equal(movie.read(0, 3), data)


# ---- what is stated of each plane ----


def positions(values: list[float]) -> dict[str, Any]:
    return {"Plane": {"PositionZ": values, "PositionZUnit": ["µm"] * len(values)}}


def test_positions_are_compared_with_the_step(tmp_path: Path) -> None:
    where = [2.0 * plane for plane in range(9)]
    path = ome(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), "ZYX", **MICRONS, **positions(where))
    sweep = open_sweep(path)
    assert (sweep.z_step_um, sweep.position_step_um) == (1.0, 2.0)
    with pytest.raises(MicroscopeError, match=r"1 µm according to its metadata, but 2 µm according to the positions"):
        agreed_step(sweep, None)
    # The flag says which of both is right, and may not say a third.
    for flag, other in ((2.0, "step of 1 µm"), (1.0, "step of 2 µm")):
        step, note = agreed_step(sweep, flag)
        assert step == flag
        assert note is not None
        assert other in note
    with pytest.raises(MicroscopeError, match="must agree"):
        agreed_step(sweep, 3.0)


def test_positions_are_used_where_no_step_is_stated(tmp_path: Path) -> None:
    """In millimetres, from above, and with the small errors of a drive that reads back."""
    jitter = np.random.default_rng(3).normal(0, 0.01, 9)
    where = [(50.0 - 0.5 * plane + jitter[plane]) / 1000 for plane in range(9)]
    planes = {"Plane": {"PositionZ": where, "PositionZUnit": ["mm"] * 9}}
    sweep = open_sweep(ome(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), "ZYX", **planes))
    assert agreed_step(sweep, None)[0] == pytest.approx(0.5, rel=0.02)
    assert any("fall from plane to plane" in note for note in sweep.notes)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([0.0, 1, 2, 3, 3.5, 5, 6, 7, 8], "uneven: .* from plane [34] to [45]"),
        ([0.0, 1, 2, 3, 2, 5, 6, 7, 8], "uneven"),
        ([0.0, 1, 2, 3, 4, 4, 5, 6, 7], "uneven: 0 µm from plane 4 to 5"),
    ],
)
def test_uneven_positions_are_refused(tmp_path: Path, where: list[float], message: str) -> None:
    path = ome(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), "ZYX", **MICRONS, **positions(where))
    assert re.search(message, refused(open_sweep, path))


@pytest.mark.parametrize(
    ("where", "note"),
    [([3.0] * 9, "position 3 µm for every plane; that is not trusted"), ([1.0, 2.0], "positions of some planes only")],
)
def test_positions_that_are_no_sweep_are_said_to_be_not_trusted(tmp_path: Path, where: list[float], note: str) -> None:
    elements = "".join(f'<Plane TheC="0" TheT="0" TheZ="{z}" PositionZ="{value}"/>' for z, value in enumerate(where))
    xml = ome_xml([("", f"<TiffData/>{elements}", {"Z": 9})])
    sweep = open_sweep(described(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), xml))
    assert sweep.position_step_um is None
    assert any(note in said for said in sweep.notes)


def test_positions_in_a_unit_that_says_nothing(tmp_path: Path) -> None:
    planes = {"Plane": {"PositionZ": [float(z) for z in range(9)], "PositionZUnit": ["reference frame"] * 9}}
    sweep = open_sweep(ome(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), "ZYX", **planes))
    assert sweep.position_step_um is None
    assert "PositionZ of planes of '0.0 reference frame'; it is not trusted" in sweep.notes[0]


def test_repeats_at_different_positions_are_refused(tmp_path: Path) -> None:
    where = [float(place) for place in range(12)]
    path = ome(tmp_path / "sweep.ome.tif", numbered(6, 2, *SHAPE), "ZTYX", **positions(where))
    assert "repeats of plane 0" in refused(open_sweep, path)


def test_exposures_that_differ_are_refused(tmp_path: Path) -> None:
    planes = {"Plane": {"ExposureTime": [0.01] * 5 + [0.02] * 4}}
    path = ome(tmp_path / "sweep.ome.tif", numbered(9, *SHAPE), "ZYX", **planes)
    assert "exposures" in refused(open_sweep, path)
    assert "0.02 s at plane 5" in refused(open_sweep, path)


def test_times_of_frames(tmp_path: Path) -> None:
    def movie_at(*times: float, **extra: Any) -> Path:
        planes = {"Plane": {"DeltaT": list(times), "DeltaTUnit": ["ms"] * len(times)}}
        return ome(tmp_path / "movie.ome.tif", numbered(len(times), *SHAPE), "TYX", **planes, **extra)

    with open_movie(movie_at(0, 20, 40, 60, TimeIncrement=20, TimeIncrementUnit="ms")) as movie:
        assert (movie.frame_period_s, movie.notes) == (pytest.approx(0.02), ())
    with open_movie(movie_at(0, 30, 60, 90, TimeIncrement=20, TimeIncrementUnit="ms")) as movie:
        assert movie.frame_period_s == pytest.approx(0.03)
        assert "a frame every 0.02 s; the times of its frames say 0.03 s, which is used" in movie.notes[0]
    with open_movie(movie_at(0, 20, 40, 100, 120)) as movie:
        assert "missing in 1 places by their times: 0.06 s lie between the frames 2 and 3" in movie.notes[0]
    with open_movie(movie_at(0, 0, 0, 0)) as movie:
        assert "not trusted" in movie.notes[0]
        assert movie.frame_period_s is None
    assert "frame 2 is at 0.04 s, frame 3 at 0.03 s" in refused(open_movie, movie_at(0, 20, 40, 30, 80))


# ---- Micro-Manager's stacks ----

STACK = "movie_1_MMStack_Pos0.ome.tif"


def test_a_stack_of_micro_manager_without_ome_xml(tmp_path: Path) -> None:
    """As it is when the acquisition was ended by a crash: the descriptions of summary and planes are all there is."""
    each = [
        {"ZPositionUm": 0.5 * z, "ElapsedTime-ms": 20.0 * z, "Exposure-ms": 10.0, "PixelSizeUm": 0.65} for z in range(9)
    ]
    summary = {"Slices": 9, "PixelSize_um": 0.65, "z-step_um": 0.5, "BitDepth": 12}
    places = [(0, z, 0, 0) for z in range(9)]
    path = micro_manager_stack(tmp_path / STACK, numbered(9, *SHAPE), places, summary, each)
    sweep = open_sweep(path)
    assert np.array_equal(sweep.planes[:, 0], numbered(9, *SHAPE))
    assert (sweep.pixel_size_um, sweep.z_step_um, sweep.position_step_um, sweep.bit_depth) == (0.65, 0.5, 0.5, 12)
    assert not sweep.notes
    each[4]["Exposure-ms"] = 30.0
    micro_manager_stack(path, numbered(9, *SHAPE), places, summary, each)
    assert "exposures" in refused(open_sweep, path)


def test_a_pixel_of_0_is_not_calibrated(tmp_path: Path) -> None:
    places = [(0, 0, t, 0) for t in range(5)]
    summary = {"Frames": 5, "PixelSize_um": 0.0, "Interval_ms": 25}
    with open_movie(micro_manager_stack(tmp_path / STACK, numbered(5, *SHAPE), places, summary)) as movie:
        assert (movie.pixel_size_um, movie.frame_period_s) == (None, 0.025)
        assert "pixel size of 0 (not calibrated); it is not trusted" in movie.notes[0]


def test_half_of_a_stack(tmp_path: Path) -> None:
    summary = {"Frames": 11, "PixelSize_um": 0.65}
    first = [(0, 0, t, 0) for t in range(6)]
    path = micro_manager_stack(tmp_path / STACK, numbered(6, *SHAPE), first, summary)
    assert "announces" in refused(open_movie, path)
    second = [(0, 0, t, 0) for t in range(6, 11)]
    micro_manager_stack(tmp_path / STACK.replace(".ome", "_1.ome"), numbered(11, *SHAPE)[6:], second, summary)
    with open_movie(path) as movie:
        assert np.array_equal(movie.read(0, 11), numbered(11, *SHAPE))
    # As a folder, too.
    with open_movie(tmp_path) as movie:
        assert len(movie) == 11


def test_the_position_that_lies_in_the_file_is_read(tmp_path: Path) -> None:
    for position in range(3):
        places = [(0, 0, t, position) for t in range(5)]
        planes = numbered(15, *SHAPE)[5 * position :][:5]
        name = STACK.replace("Pos0", f"Pos{position}")
        micro_manager_stack(tmp_path / name, planes, places, {"Frames": 5, "Positions": 3})
    with open_movie(tmp_path / STACK.replace("Pos0", "Pos1")) as movie:
        assert np.array_equal(movie.read(0, 5), numbered(15, *SHAPE)[5:10])
    assert "holds 3 files with several planes each" in refused(open_movie, tmp_path)


def test_the_image_that_lies_in_the_file_is_read(tmp_path: Path) -> None:
    names = [f"pos{number}.ome.tif" for number in range(2)]
    blocks = [
        "".join(
            f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
            for t in range(4)
        )
        for name in names
    ]
    for number, name in enumerate(names):
        images = [(f"Pos{other}", block, {"T": 4}) for other, block in enumerate(blocks)]
        described(tmp_path / name, numbered(8, *SHAPE)[4 * number :][:4], ome_xml(images, f"urn:uuid:{name}"))
    for number, name in enumerate(names):
        with open_movie(tmp_path / name) as movie:
            assert np.array_equal(movie.read(0, 4), numbered(8, *SHAPE)[4 * number :][:4])
            assert f"names 2 images; the one in this file, Pos{number}, is read" in movie.notes[0]


def test_several_images_in_one_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name in ("left", "right"):
            writer.write(numbered(3, *SHAPE), photometric="minisblack", metadata={"axes": "TYX", "Name": name})
    assert "holds 2 images (left, right)" in refused(open_movie, path)


def test_a_description_in_another_file(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:1"/></OME>'
    )
    path = described(tmp_path / "part.ome.tif", numbered(3, *SHAPE), xml)
    assert "does not describe its own planes; set.companion.ome does" in refused(open_movie, path)


# ---- announced and held ----


@pytest.mark.parametrize(("announced", "held"), [(8, 5), (5, 8)])
def test_planes_that_are_announced_are_there_and_no_others(tmp_path: Path, announced: int, held: int) -> None:
    xml = ome_xml([("", "<TiffData/>", {"T": announced})])
    path = described(tmp_path / "movie.ome.tif", numbered(held, *SHAPE), xml)
    assert f"announces {announced} planes and holds {held}" in refused(open_movie, path)
    text = f"ImageJ=1.54f\nimages={announced}\nframes={announced}\nhyperstack=true\n"
    other = tmp_path / "imagej.tif"
    with tifffile.TiffWriter(other) as writer:
        for number, plane in enumerate(numbered(held, *SHAPE)):
            options: Any = {"metadata": None, "contiguous": False, "photometric": "minisblack", "compression": "zlib"}
            writer.write(plane, description=None if number else text, **options)
    assert f"{announced}" in refused(open_movie, other)


def test_a_run_of_planes_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, numbered(5, *SHAPE), truncate=True, photometric="minisblack")
    with open_movie(path) as movie:
        assert len(movie) == 5
    os.truncate(path, path.stat().st_size - 10)
    assert "announces 5 planes and holds 4" in refused(open_movie, path)


def test_a_strip_that_was_never_written_is_no_dark_frame(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in numbered(5, *SHAPE):
            writer.write(plane, metadata=None, contiguous=False, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[3].tags["StripByteCounts"].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 4] = b"\0" * 4
    path.write_bytes(content)
    assert "announces 5 planes and holds 4" in refused(open_movie, path)


@pytest.mark.parametrize("shards", [None, (4, *SHAPE)])
@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_missing_are_no_dark_frames(
    tmp_path: Path, shards: tuple[int, ...] | None, version: int
) -> None:
    if shards and version == 2:
        return
    data = numbered(10, *SHAPE) + 1
    array = zarr.create_array(
        tmp_path / "movie.zarr", shape=data.shape, chunks=(1, *SHAPE), shards=shards, dtype="u2", zarr_format=version
    )
    array[:7] = data[:7]
    array[8:] = data[8:]
    message = refused(open_movie, tmp_path / "movie.zarr")
    assert "does not hold 1 of its chunks" in message
    array[7] = data[7]
    with open_movie(tmp_path / "movie.zarr") as movie:
        assert np.array_equal(movie.read(0, 10), data)
    chunk = max((path for path in (tmp_path / "movie.zarr").rglob("*") if path.is_file()), key=lambda p: str(p))
    if shards:
        chunk = tmp_path / "movie.zarr" / "c" / "2" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:40])
    elif version == 3:
        (tmp_path / "movie.zarr" / "c" / "9" / "0" / "0").unlink()
    else:
        (tmp_path / "movie.zarr" / "9.0.0").unlink()
    assert "of its chunks" in refused(open_movie, tmp_path / "movie.zarr")


def test_several_images_in_a_zarr_are_named(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for name in ("0", "1"):
        group.create_group(name)
    assert "holds 2 images (0, 1)" in refused(open_movie, tmp_path / "many.zarr")
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    assert "is a plate" in refused(open_movie, tmp_path / "plate.zarr")


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    """A mapped file would end the process with SIGBUS."""
    path = ome(tmp_path / "movie.ome.tif", numbered(500, *SHAPE), "TYX")
    with open_movie(path) as movie:
        os.truncate(path, path.stat().st_size // 2)
        assert movie[0][0, 0] == 0
        with pytest.raises(MicroscopeError, match="damaged or incomplete"):
            movie.read(0, 500)


# ---- kinds of pictures and codecs ----


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "zstd"])
def test_what_pillow_writes_is_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "movie.tif"
    pages = [Image.fromarray(frame) for frame in numbered(5, *SHAPE)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
    with open_movie(path) as movie:
        assert np.array_equal(movie.read(0, 5), numbered(5, *SHAPE))


@pytest.mark.parametrize("compression", ["jpegxr", "jpeg2000", "jpegxl"])
def test_compressions_that_may_change_counts_are_noted(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "movie.tif"
    data = numbered(3, 64, 64)
    tifffile.imwrite(path, data, compression=compression, photometric="minisblack", metadata=None)
    with open_movie(path) as movie:
        assert movie.read(0, 3).shape == data.shape
        assert any("may change counts" in note for note in movie.notes)


def test_an_unknown_compression_is_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, numbered(3, *SHAPE), compression="zlib", photometric="minisblack", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            struct.pack_into("<H", content, page.tags["Compression"].valueoffset, 34676)  # SGI LogLuv
    path.write_bytes(content)
    message = refused(open_movie, path)
    assert "not supported" in message
    assert "damaged" not in message
    stored = tmp_path / "movie.zarr"
    zarr.create_array(stored, data=numbered(3, *SHAPE))
    metadata = (stored / "zarr.json").read_text(encoding="utf-8")
    (stored / "zarr.json").write_text(metadata.replace('"zstd"', '"nobodys"'), encoding="utf-8")
    message = refused(open_movie, stored)
    assert "not supported" in message
    assert "damaged" not in message


def test_a_codec_that_is_missing_is_named() -> None:
    said = "<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"
    with (
        pytest.raises(MicroscopeError, match=r"not supported \(<COMPRESSION.LZW"),
        reading.explain_reading(Path("m.tif")),
    ):
        raise ValueError(said)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
def test_damage_is_called_damage(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "movie.tif"
    noise = np.random.default_rng(1).integers(0, 4000, (4, 64, 64)).astype("uint16")
    tifffile.imwrite(path, noise, compression=compression, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[place : place + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    assert "damaged" in refused(open_movie, path)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("back_to", [0, 2])
def test_pages_that_lead_back_to_an_earlier_one(tmp_path: Path, bigtiff: bool, back_to: int) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for plane in numbered(5, *SHAPE):
            writer.write(plane, metadata=None, contiguous=False, photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        last, first = tiff.pages[4], tiff.pages[back_to]
        entries = len(last.tags)
        place = last.offset + (8 + 20 * entries if bigtiff else 2 + 12 * entries)
        struct.pack_into("<Q" if bigtiff else "<I", content, place, first.offset)
    path.write_bytes(content)
    assert "its list of pages runs in a circle behind 5 pages" in refused(open_movie, path)


FORMS: dict[str, Callable[[Path], Any]] = {
    "movie.ome.tif": lambda path: ome(path, numbered(9, *SHAPE), "TYX", **MICRONS, Plane={"DeltaT": list(range(9))}),
    "lzw.ome.tif": lambda path: tifffile.imwrite(path, numbered(9, *SHAPE), compression="lzw", ome=True),
    "imagej.tif": lambda path: imagej(path, numbered(9, *SHAPE), "TYX", 0.5, unit="um", finterval=0.1),
    "plain.tif": lambda path: tifffile.imwrite(path, numbered(9, *SHAPE), metadata=None, compression="zlib"),
    STACK: lambda path: micro_manager_stack(
        path, numbered(9, *SHAPE), [(0, z, 0, 0) for z in range(9)], {"Slices": 9}, [{"ZPositionUm": 1.0}] * 9
    ),
    "movie.zarr": lambda path: zarr.create_array(path, data=numbered(9, *SHAPE) + 1, chunks=(1, *SHAPE)),
    "shards.zarr": lambda path: zarr.create_array(
        path, data=numbered(9, *SHAPE) + 1, chunks=(1, *SHAPE), shards=(4, *SHAPE)
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_broken_in_a_file(tmp_path: Path, name: str) -> None:
    """Bytes that are changed or cut off: the file is refused in one voice, or read with all its planes."""
    rng = np.random.default_rng(5)
    (tmp_path / "whole").mkdir()
    FORMS[name](tmp_path / "whole" / name)
    files = [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    for trial in range(60):
        broken = tmp_path / f"{trial}"
        shutil.copytree(tmp_path / "whole", broken)
        victim = broken / files[rng.integers(len(files))].relative_to(tmp_path / "whole")
        content = bytearray(victim.read_bytes())
        if trial % 3 == 0:
            content = content[: rng.integers(len(content))]
        else:
            for place in rng.exponential(300, trial % 7 + 1).astype(int) % len(content):
                content[place] = rng.integers(256)
        victim.write_bytes(content)
        for open_it in (open_movie, open_sweep):
            with contextlib.suppress(MicroscopeError):
                opened = open_it(broken / name)
                if isinstance(opened, Movie):
                    with opened:
                        assert len(opened.read(0, 9)) == 9


def test_inverted_and_turned_pictures(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, numbered(3, *SHAPE), photometric="miniswhite", metadata=None)
    assert "inverted (photometric MinIsWhite)" in refused(open_movie, path)
    tifffile.imwrite(
        path, numbered(3, *SHAPE), photometric="minisblack", metadata=None, extratags=[(274, "H", 1, 4, False)]
    )
    with open_movie(path) as movie:
        assert "orientation 4" in movie.notes[0]


def test_warnings_of_the_reader_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    options: Any = {"metadata": None, "photometric": "minisblack", "extratags": [(65000, "s", 0, "x" * 40, True)]}
    tifffile.imwrite(path, numbered(1, *SHAPE)[0], **options)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[65000]
    broken = bytearray(content)
    struct.pack_into("<H", broken, tag.offset + 2, 77)  # a type that does not exist
    path.write_bytes(broken)
    with open_movie(path) as movie:
        assert any("reader warns" in note for note in movie.notes)


# ---- memory ----


def test_headers_that_announce_what_no_machine_holds(tmp_path: Path) -> None:
    many = ome_xml([("", f'<TiffData PlaneCount="{10**12}"/>', {"T": 10**12})])
    path = described(tmp_path / "many.ome.tif", numbered(3, *SHAPE), many)
    assert "announces 1,000,000,000,000 planes" in refused(open_movie, path)
    places = [(0, 0, t, 0) for t in range(3)]
    stack = micro_manager_stack(tmp_path / STACK, numbered(3, *SHAPE), places, {"Frames": 10**12})
    assert "announces 1,000,000,000,000 planes" in refused(open_movie, stack)
    wide = tmp_path / "wide.tif"
    tifffile.imwrite(wide, numbered(1, *SHAPE), compression="zlib", photometric="minisblack", metadata=None)
    content = bytearray(wide.read_bytes())
    with tifffile.TiffFile(wide) as tiff:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tag = tiff.pages[0].tags[name]
            struct.pack_into("<HI", content, tag.offset + 2, 4, 1)
            struct.pack_into("<I", content, tag.offset + 8, 10**6)
    wide.write_bytes(content)
    assert "frames of 1,000,000 x 1,000,000 pixels" in refused(open_movie, wide)
    for name, shape, chunks in (
        ("many.zarr", (10**12, *SHAPE), (1, *SHAPE)),
        ("wide.zarr", (1, 10**6, 10**6), (1, 10**6, 10**6)),
    ):
        zarr.create_array(tmp_path / name, shape=shape, chunks=chunks, dtype="u2")
        assert re.search("1,000 or more of its chunks|GB of memory", refused(open_movie, tmp_path / name))


def test_a_sweep_or_a_whole_movie_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, numbered(40, *SHAPE), photometric="minisblack", metadata=None)
    monkeypatch.setattr(memory, "spare_bytes", lambda: 40 * 16 * 24 * 2 - 1)
    message = refused(open_sweep, path)
    assert "a sweep of 40 planes and 1 repeats of 24 x 16 pixels, which needs about 3.07e-05 GB of memory" in message
    with open_movie(path) as movie:
        assert len(movie.read(0, 2)) == 2
        with pytest.raises(MicroscopeError, match="40 frames of 24 x 16 pixels"):
            movie.read_whole()


# ---- names ----


@pytest.mark.parametrize(
    "name",
    [
        "movie.OME.TIF",
        "movie",
        "movie.dat",
        "a b\tc\nd.tif",
        "Bewegung – Fläche µ 动画.tif",
        os.fsdecode(b"caf\xe9.tif"),
        "100%[x]*?{y}.ome.tif",
        "x" * 240 + ".tif",
    ],
)
def test_any_name_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        tifffile.imwrite(file, numbered(5, *SHAPE), photometric="minisblack", metadata=None, ome=False)
    (tmp_path / "link.tif").symlink_to(path)
    for given_path in (path, tmp_path / "link.tif", Path(os.path.relpath(path))):
        with open_movie(given_path) as movie:
            assert np.array_equal(movie.read(0, 5), numbered(5, *SHAPE))
    path.write_bytes(path.read_bytes()[:300])
    message = refused(open_movie, path)
    message.encode("utf-8")
    assert message.isprintable()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    assert "a pipe, socket or device" in refused(open_movie, tmp_path / "pipe.tif")
    (tmp_path / "empty.tif").touch()
    assert "is empty: it has 0 bytes" in refused(open_movie, tmp_path / "empty.tif")
    assert "too long for this system" in refused(open_movie, tmp_path / ("x" * 300 + ".tif"))
    assert "does not exist" in refused(open_movie, tmp_path / "empty.tif" / "movie.tif")
    assert "download it" in refused(open_movie, Path("https://example.org/movie.tif"))
    assert "zero byte" in refused(open_movie, Path("a\0b.tif"))
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    assert "leads in a circle" in refused(open_movie, tmp_path / "loop.tif")
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "nothing.tif")
    assert "does not exist" in refused(open_movie, tmp_path / "dangling.tif")
    zarr.create_array(tmp_path / "a.zarr", data=numbered(3, *SHAPE))
    assert "is a part of a Zarr folder. Give the folder." in refused(open_movie, tmp_path / "a.zarr" / "zarr.json")


def test_what_may_not_be_read_is_named() -> None:
    """The reason is the system's: root may read everything, so it is raised here."""
    with (
        pytest.raises(MicroscopeError, match=r"may not be read \(Permission denied\)"),
        reading.explain_reading(Path("m")),
    ):
        raise PermissionError(13, "Permission denied", "m")
    with (
        pytest.raises(MicroscopeError, match="more memory than this machine has"),
        reading.explain_reading(Path("m")),
    ):
        raise MemoryError("8 TiB")


def test_a_zarr_with_any_name(tmp_path: Path) -> None:
    data: NDArray[Any] = numbered(5, *SHAPE) + 1
    path = tmp_path / "a b#%3F é.zarr"
    zarr.create_array(path, data=data)
    with open_movie(path) as movie:
        assert np.array_equal(movie.read(0, 5), data)


# ---- as others met it (repository and number of the public report) ----


def test_positions_of_a_sequenced_sweep(tmp_path: Path) -> None:
    """micro-manager 264, 2287: the first position is written for every plane; iohub 162: the step is in volts."""
    places = [(0, z, 0, 0) for z in range(9)]
    summary = {"Slices": 9, "PixelSize_um": 0.65, "z-step_um": 0.5}
    same = [{"ZPositionUm": 25.0}] * 9
    sweep = open_sweep(micro_manager_stack(tmp_path / STACK, numbered(9, *SHAPE), places, summary, same))
    assert agreed_step(sweep, None) == (0.5, None)
    assert "position 25 µm for every plane; that is not trusted" in sweep.notes[0]
    other = [{"ZPositionUm": 0.31 * z} for z in range(9)]
    volts = {**summary, "z-step_um": 0.01}
    sweep = open_sweep(micro_manager_stack(tmp_path / STACK, numbered(9, *SHAPE), places, volts, other))
    with pytest.raises(MicroscopeError, match=r"0\.01 µm according to its metadata, but 0\.31 µm according to the pos"):
        agreed_step(sweep, None)


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"Frames": 9}, ""),
        ({"Slices": 9}, "an axis Z of 9"),
        ({"Frames": 20}, "announces 20 planes and holds 9"),
        ({"Frames": 3, "Channels": 3}, "has no index of its 9 planes, and its summary has the axes T of 3, C of 3"),
    ],
)
def test_a_stack_after_a_crash(tmp_path: Path, summary: dict[str, Any], message: str) -> None:
    """The index map was never written (bioformats 3389, recOrder 320)."""
    places = [(0, 0, t, 0) for t in range(9)]
    path = micro_manager_stack(tmp_path / STACK, numbered(9, *SHAPE), places, summary)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 12, 0)
    path.write_bytes(content)
    if message:
        assert message in refused(open_movie, path)
    else:
        with open_movie(path) as movie:
            assert np.array_equal(movie.read(0, 9), numbered(9, *SHAPE))


def test_a_thumbnail_is_no_plane(tmp_path: Path) -> None:
    """pyometiff 4: one frame is announced, and two pages are there."""
    path = tmp_path / "one.ome.tif"
    with tifffile.TiffWriter(path, ome=False) as writer:
        options: Any = {"metadata": None, "contiguous": False, "photometric": "minisblack"}
        writer.write(numbered(1, *SHAPE)[0], description=ome_xml([("", "<TiffData/>", {})]), **options)
        writer.write(numbered(1, *SHAPE)[0][::2, ::2], subfiletype=1, **options)
    with open_movie(path) as movie:
        assert len(movie) == 1
        assert movie.notes == ("The file also has 1 pages of another size, which are not read.",)


def test_the_second_file_of_imagej_says_how_many_frames_both_have(tmp_path: Path) -> None:
    """TIFFStack 30."""
    path = tmp_path / "second.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, plane in enumerate(numbered(11, *SHAPE)):
            options: Any = {"metadata": None, "contiguous": False, "photometric": "minisblack"}
            text = "ImageJ=1.51\nimages=20\nframes=20\nhyperstack=true\n"
            writer.write(plane, description=None if number else text, **options)
    assert "announces 20 planes and holds 11" in refused(open_movie, path)


def test_chunks_under_other_names_are_not_there(tmp_path: Path) -> None:
    """ome-zarr-py 343, zarr-python 717: written with / between the indices, and read with a dot as zeros."""
    path = tmp_path / "movie.zarr"
    separator: Any = {"name": "v2", "separator": "/"}
    data = numbered(9, *SHAPE) + 1
    zarr.create_array(path, data=data, chunks=(1, *SHAPE), zarr_format=2, chunk_key_encoding=separator)
    with open_movie(path) as movie:
        assert np.array_equal(movie.read(0, 9), data)
    metadata = (path / ".zarray").read_text(encoding="utf-8")
    (path / ".zarray").write_text(metadata.replace('"dimension_separator": "/"', '"dimension_separator": "."'), "utf-8")
    assert "does not hold 9 of its chunks" in refused(open_movie, path)


def test_an_imagej_stack_of_more_than_4_gb_has_one_directory(tmp_path: Path) -> None:
    """scifio 317, TIFFStack 7, suite2p 135; the file is sparse."""
    path = tmp_path / "large.tif"
    frames, side = 9000, 512
    text = f"ImageJ=1.54f\nimages={frames}\nframes={frames}\nhyperstack=true\nunit=micron\n"
    options: Any = {"metadata": None, "photometric": "minisblack", "resolution": (2, 2)}
    tifffile.imwrite(path, np.full((1, side, side), 7, "uint16"), description=text, **options)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.truncate(start + frames * side * side * 2)
        file.seek(start + (frames - 1) * side * side * 2)
        file.write(np.full(side * side, 9, "<u2").tobytes())
    with open_movie(path) as movie:
        assert (len(movie), movie.pixel_size_um) == (frames, 0.5)
        assert (movie[0].max(), movie[-1].min()) == (7, 9)


def test_more_planes_than_16_bits_count(tmp_path: Path) -> None:
    """TIFFStack 19. Written by hand: a directory of 8 entries, and behind it one pixel in the room of four bytes."""
    path = tmp_path / "many.tif"
    count, room = 66_000, 2 + 8 * 12 + 4 + 4
    pages = [b"II*\0" + struct.pack("<I", 8)]
    for number in range(count):
        start = 8 + number * room
        tags = [(256, 4, 1), (257, 4, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, start + room - 4)]
        entries = [*tags, (278, 4, 1), (279, 4, 2)]
        following = start + room if number < count - 1 else 0
        pages.append(
            struct.pack("<H", 8) + b"".join(struct.pack("<HHII", code, kind, 1, v) for code, kind, v in entries)
        )
        pages.append(struct.pack("<IHH", following, number % 60_000, 0))
    path.write_bytes(b"".join(pages))
    with open_movie(path) as movie:
        assert movie.shape == (count, 1, 1)
        assert movie[-1][0, 0] == 5_999


@pytest.mark.parametrize(
    ("unit", "scale", "size"),
    [
        ("µm", [1.5, 0.65, 0.65], 0.65),  # bioformats2raw 134
        (" ", [1.0, 1.0, 1.0], None),  # mobie-viewer-fiji 612
        (None, [1.0, 2.0, 2.0], None),  # cryoet-data-portal 20: only relative
    ],
)
def test_scales_of_ome_zarr(tmp_path: Path, unit: str | None, scale: list[float], size: float | None) -> None:
    group = zarr.open_group(tmp_path / "sweep.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=numbered(9, *SHAPE) + 1, chunks=(1, *SHAPE))
    axes = [{"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    sweep = open_sweep(tmp_path / "sweep.zarr")
    assert (sweep.pixel_size_um, sweep.z_step_um) == (size, scale[0] if size else None)
    assert any("not trusted" in note for note in sweep.notes) == (scale == [1.0, 2.0, 2.0])
