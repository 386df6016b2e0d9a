"""ZIP files: the same folder gives the same bytes, and what may not be unpacked is refused before it is written."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import DataError
from service.files.archives import Archive, ArchiveLimits, files_of, pack

LIMITS = ArchiveLimits(members=5, size_bytes=10_000)


def write(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "psf.zarr" / "c").mkdir(parents=True)
    (folder / "psf.zarr" / ".zgroup").write_text("{}")
    (folder / "psf.zarr" / "c" / "0").write_bytes(b"pixels")
    (folder / ".aside").write_text("left out")
    (folder / "link").symlink_to("psf.zarr")
    pack(files_of(folder), tmp_path / "first.zip")
    os.utime(folder / "psf.zarr" / "c" / "0", (1, 1))
    pack(files_of(folder), tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with Archive(tmp_path / "first.zip", LIMITS) as archive:
        assert archive.names == ["psf.zarr/.zgroup", "psf.zarr/c/0"]
        archive.unpack_all(tmp_path / "out")
    assert (tmp_path / "out" / "psf.zarr" / "c" / "0").read_bytes() == b"pixels"


def _link(path: Path) -> Path:
    about = zipfile.ZipInfo("model.json")
    about.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(about, "/etc/passwd")
    return path


def _encrypted(path: Path) -> Path:
    write(path, ("a", b"x"))
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<H", content, content.index(start) + place, 1)
    path.write_bytes(content)
    return path


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: write(path, ("../outside", b"x")), "leads out of its folder"),
        (lambda path: write(path, ("a/../../outside", b"x")), "leads out of its folder"),
        (lambda path: write(path, ("/etc/cron.d/x", b"x")), "leads out of its folder"),
        (lambda path: write(path, ("a//b", b"x")), "leads out of its folder"),
        (lambda path: write(path, ("./a", b"x")), "leads out of its folder"),
        (lambda path: write(path, ("..\\outside", b"x")), "has characters"),
        (lambda path: write(path, ("C:evil", b"x")), "has characters"),
        (lambda path: write(path, ("a\x1b[2J", b"x")), "has characters"),
        (lambda path: write(path, ("a" * 201, b"x")), "too long or too deep"),
        (lambda path: write(path, ("a/" * 17 + "b", b"x")), "too long or too deep"),
        (lambda path: write(path, ("A", b"x"), ("a", b"y")), "has the name of another entry"),
        (lambda path: write(path, ("a", b"x" * 20_000), method=zipfile.ZIP_DEFLATED), "unpacks to 20,000 bytes"),
        (lambda path: write(path, ("a", b"x"), method=zipfile.ZIP_LZMA), "has the compression 14"),
        (lambda path: write(path, *((str(n), b"x") for n in range(6))), "holds 6 files; 5 are the most"),
        (_link, "is a link or a device"),
        (_encrypted, "is encrypted"),
        (lambda path: _bytes(path, b"no archive"), "is no ZIP file"),
        (lambda path: _bytes(path, b""), "is no ZIP file"),
        (lambda path: path, "cannot be read (No such file"),
    ],
)
def test_entries_that_may_not_be_unpacked(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(DataError) as refusal:
        Archive(make(tmp_path / "evil.zip"), LIMITS)
    assert says in refusal.value.problem
    assert refusal.value.remedy
    assert {path.name for path in tmp_path.iterdir()} <= {"evil.zip"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the name of another entry"):
        Archive(write(tmp_path / "twice.zip", ("a", b"x"), ("a", b"y")), LIMITS)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_and_wrong_sizes_are_found(tmp_path: Path, method: int) -> None:
    path = write(tmp_path / "damaged.zip", ("a", bytes(range(250)) * 8), method=method)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with Archive(path, LIMITS) as archive, pytest.raises(DataError, match=r"a in damaged\.zip is damaged"):
        archive.unpack("a", tmp_path / "a")


def test_an_entry_is_read_no_further_than_its_stated_size(tmp_path: Path) -> None:
    """A deflated entry that states 10 bytes and grows to 2 MB."""
    path = write(tmp_path / "bomb.zip", ("a", bytes(2_000_000)), method=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(start) + place, 10)
    path.write_bytes(content)
    with Archive(path, LIMITS) as archive, pytest.raises(DataError, match="is damaged"):
        archive.unpack("a", tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= 10


def test_a_small_file_has_a_limit_of_its_own(tmp_path: Path) -> None:
    with Archive(write(tmp_path / "x.zip", ("a", bytes(500))), LIMITS) as archive:
        assert archive.read("a", 500) == bytes(500)
        with pytest.raises(DataError, match="has 500 bytes; 499 are the most"):
            archive.read("a", 499)
