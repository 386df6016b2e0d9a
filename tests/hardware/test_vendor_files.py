"""Files of Nikon, Zeiss and Leica: metadata, what is refused and why, and a genuine file of NIS-Elements."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.movies import open_movie
from hardware.stacks import open_stack
from hardware.sweeps import open_sweep
from tests.conftest import need
from tests.hardware.picture_samples import SHAPE, numbered
from tests.hardware.test_image_folders import refused
from tests.hardware.vendor_samples import add_times, czi, lif, nd2

PLANES = numbered(9, *SHAPE)
TIMES_S = [0.02 * number for number in range(9)]


def test_a_genuine_file_of_nikon() -> None:
    """A confocal acquisition of 3 times, 10 depths and 2 channels, 12 bits; compared with its own description."""
    path = need("file of NIS-Elements")
    nikon = need("nd2")
    stack = open_stack(path)
    assert (stack.axes, stack.shape, stack.bit_depth) == ("TZCYX", (3, 10, 2, 31, 38), 12)
    assert stack.stated.pixel_size_um == pytest.approx(0.167809, abs=1e-6)
    assert (stack.stated.z_step_um, stack.stated.frame_period_s) == (0.5, None)
    assert np.array_equal(stack.read(0, 60).reshape(stack.shape), nikon.imread(path))
    assert stack.planes.position_um[:20:2] == pytest.approx(-2 + 0.5 * np.arange(10))
    assert stack.planes.exposure_s == pytest.approx(0.0081)
    assert stack.planes.time_s[:4] == pytest.approx([0.445083, 0.445083, 1.459351, 1.459351], abs=1e-6)
    stack.close()
    assert "an axis C of 2" in refused(open_sweep, path)
    assert "an axis Z of 10 and C of 2" in refused(open_movie, path)


def test_metadata_of_nikon(tmp_path: Path) -> None:
    path = nd2(tmp_path / "a.nd2", PLANES, [("T", 9)], period_s=0.02, times_s=TIMES_S, bits=12, exposure_s=0.01)
    with open_movie(path) as movie:
        assert (movie.pixel_size_um, movie.frame_period_s, movie.bit_depth) == (0.65, pytest.approx(0.02), 12)
        assert movie.notes == ()
    stack = open_stack(path)
    assert stack.planes.exposure_s == pytest.approx(0.01)
    stack.close()
    stack = open_stack(nd2(tmp_path / "b.nd2", PLANES, [("T", 9)], period_s=0.05, pixel_um=-1.0))
    assert (stack.stated.pixel_size_um, stack.stated.frame_period_s) == (None, 0.05)
    assert "is not calibrated" in stack.stated.notes[0]
    stack.close()


def test_files_of_nikon_that_are_refused(tmp_path: Path) -> None:
    positions = nd2(tmp_path / "p.nd2", PLANES[:6], [("T", 3), ("P", 2)])
    assert "holds 2 positions" in refused(open_movie, positions)
    assert "holds 2 positions" in refused(open_sweep, positions)
    short = nd2(tmp_path / "s.nd2", PLANES[:5], [("T", 9)])
    assert "announces 9 frames and holds 5; the first that is missing is 5" in refused(open_movie, short)
    hole = nd2(tmp_path / "h.nd2", PLANES, [("T", 9)], left_out=4)
    assert "announces 9 frames and holds 8; the first that is missing is 4" in refused(open_movie, hole)
    channels = nd2(tmp_path / "c.nd2", np.stack([PLANES] * 2, axis=-1), [("T", 9)], channels=2)
    assert "an axis C of 2" in refused(open_movie, channels)
    old = tmp_path / "old.nd2"
    old.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200))
    assert str(old) in refused(open_movie, old)


def test_metadata_of_zeiss(tmp_path: Path) -> None:
    path = czi(tmp_path / "a.czi", PLANES, [{"T": number} for number in range(9)], 0.65)
    with open_movie(path) as movie:
        assert (movie.pixel_size_um, movie.frame_period_s, movie.bit_depth) == (pytest.approx(0.65), None, 16)
    add_times(path, [5.0 + time_s for time_s in TIMES_S])
    with open_movie(path) as movie:
        assert movie.frame_period_s == pytest.approx(0.02)
        assert np.array_equal(movie.read_whole(), PLANES)
    with open_movie(czi(tmp_path / "b.czi", PLANES, [{"T": number} for number in range(9)])) as movie:
        assert movie.pixel_size_um is None
        assert "no pixel size" in movie.notes[0]


def test_compressed_files_of_zeiss(tmp_path: Path) -> None:
    places = [{"T": t, "Z": z} for z in range(3) for t in range(3)]
    path = czi(tmp_path / "a.czi", PLANES, places, 0.65, 0.5, "zstd1:ExplicitLevel=2")
    sweep = open_sweep(path)
    assert np.array_equal(sweep.planes, PLANES.reshape(3, 3, *SHAPE))


def test_files_of_zeiss_that_are_refused(tmp_path: Path) -> None:
    hole = czi(tmp_path / "h.czi", PLANES[:3], [{"T": number} for number in (0, 1, 3)])
    assert "announces 4 planes and holds 3 whole ones; the first that is not is {'T': 2}" in refused(open_movie, hole)
    scenes = czi(tmp_path / "s.czi", PLANES[:4], [{"T": t, "S": s} for s in range(2) for t in range(2)])
    assert "holds 2 scenes" in refused(open_movie, scenes)
    tiles = czi(tmp_path / "m.czi", PLANES[:3], [{"T": 0}, {"T": 1}, {"T": 1}])
    assert "is a mosaic" in refused(open_movie, tiles)
    channels = czi(tmp_path / "c.czi", PLANES[:4], [{"T": t, "C": c} for t in range(2) for c in range(2)])
    assert "an axis C of 2" in refused(open_movie, channels)


def test_metadata_of_leica(tmp_path: Path) -> None:
    path = lif(tmp_path / "a.lif", {"one": (PLANES, "TYX")}, period_s=0.0201, bits=12, times_s=TIMES_S, exposure_s=0.01)
    with open_movie(path) as movie:
        assert (movie.pixel_size_um, movie.frame_period_s) == (pytest.approx(0.65), pytest.approx(0.02))
        assert (movie.bit_depth, movie.notes) == (12, ())
    stack = open_stack(path)
    assert stack.planes.exposure_s == pytest.approx(0.01)
    stack.close()
    sweep = open_sweep(lif(tmp_path / "b.lif", {"one": (PLANES.reshape(3, 3, *SHAPE), "TZYX")}, step_um=-0.5))
    assert (sweep.z_step_um, sweep.position_step_um) == (pytest.approx(0.5), pytest.approx(0.5))
    assert "fall from plane to plane" in sweep.notes[0]
    assert np.array_equal(sweep.planes[:, :, 0, 0], [[0, 3, 6], [1, 4, 7], [2, 5, 8]])


def test_one_image_of_a_project_of_leica(tmp_path: Path) -> None:
    path = lif(tmp_path / "a.lif", {"Series001": (PLANES, "TYX"), "Series002": (PLANES[::-1].copy(), "ZYX")})
    message = refused(open_movie, path)
    assert "holds 2 images (Series001, Series002)" in message
    assert "a.lif/Series001" in message
    with open_movie(path / "Series001") as movie:
        assert np.array_equal(movie.read_whole(), PLANES)
    assert np.array_equal(open_sweep(path / "Series002").planes[:, 0], PLANES[::-1])
    assert "has no image of the name Series003 among Series001, Series002" in refused(open_movie, path / "Series003")
    assert "does not exist" in refused(open_movie, tmp_path / "b.lif" / "Series001")
    channels = lif(tmp_path / "c.lif", {"one": (PLANES[:8].reshape(4, 2, *SHAPE), "TCYX")})
    assert "an axis C of 2" in refused(open_movie, channels)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "nd2": lambda path: nd2(path, PLANES, [("T", 9)]),
    "czi": lambda path: czi(path, PLANES, [{"T": number} for number in range(9)], 0.65),
    "lif": lambda path: lif(path, {"one": (PLANES, "TYX")}),
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
def test_a_file_that_is_cut_off(tmp_path: Path, suffix: str, kept: float) -> None:
    path = WRITERS[suffix](tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    message = refused(open_movie, path)
    assert str(path) in message
    assert "Copy or record it again" in message
    if suffix == "lif":
        assert "announces 6,912 bytes for the image one and holds" in message


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_of_another_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"another file")
    assert f"is no {suffix.upper()} file" in refused(open_movie, path)


@pytest.mark.parametrize(
    ("suffix", "module", "package"),
    [("nd2", "nd2", "nd2"), ("czi", "pylibCZIrw", "pylibCZIrw"), ("lif", "liffile", "liffile")],
)
def test_a_package_that_is_not_installed(
    tmp_path: Path, suffix: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[suffix](tmp_path / f"a.{suffix}")
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    blocked: Any = None
    monkeypatch.setitem(sys.modules, module, blocked)
    message = refused(open_movie, path)
    assert f"{path} is a" in message
    assert f"the package {package}" in message
    assert "pip install 'bathyscope[vendors]'" in message
