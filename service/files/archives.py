"""Folders as ZIP files: written the same each time, and read within limits.

The same folder gives the same bytes, so the digest of the file identifies its
content. A ZIP file from elsewhere may name files outside of its folder, hold
links, or grow to more than a disk holds. All of its entries are checked before
anything is unpacked, and each is read no further than its stated size.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from models.errors import DataError
from service.files.descriptions import shown_name

__all__ = ["Archive", "ArchiveLimits", "file_sha256", "files_of", "pack"]

_DATE = (1980, 1, 1, 0, 0, 0)
"""Earliest date of the format; the real one would change the digest."""

_MODE = (stat.S_IFREG | 0o644) << 16
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_COPY_BYTES = 1024 * 1024
_ZIP64_BYTES = 2**31
_LONGEST_NAME = 200
_DEEPEST = 16
_ZARR_2 = {".zgroup", ".zarray", ".zattrs", ".zmetadata"}
"""Files of Zarr 2 that begin with a dot."""

_REMEDY = "Nothing was unpacked. Get the file again from its source."


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The largest archive that is unpacked: number of files, and bytes of all of them together."""

    members: int
    size_bytes: int


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a folder by their path in it, sorted; links and names that begin with a dot are left out."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") and part not in _ZARR_2 for part in path.relative_to(folder).parts)
    }
    return dict(sorted(found.items()))


def pack(members: Mapping[str, Path | bytes], target: Path) -> None:
    """Write files, or their contents, into the ZIP file `target`; not compressed, as weights and Zarr barely shrink."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, source in members.items():
            about = zipfile.ZipInfo(name, _DATE)
            about.external_attr, about.create_system = _MODE, 3
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            with archive.open(about, "w", force_zip64=size >= _ZIP64_BYTES) as place:
                if isinstance(source, bytes):
                    place.write(source)
                else:
                    with source.open("rb") as file:
                        shutil.copyfileobj(file, place, _COPY_BYTES)


def file_sha256(path: Path) -> str:
    """SHA-256 digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Archive:
    """A ZIP file whose entries have been checked; use it in a ``with`` block.

    Parameters
    ----------
    path : Path
    limits : ArchiveLimits

    Raises
    ------
    DataError
        When it is missing or no ZIP file, or an entry leads out of the folder, is a link, is encrypted, has an unknown
        compression or the name of another one, or when there are too many or they are too large.
    """

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self._shown = shown_name(path.name)
        try:
            self._file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(f"{self._shown} is no ZIP file, or it is damaged ({error}).", _REMEDY) from error
        except OSError as error:
            raise DataError(
                f"{self._shown} cannot be read ({error.strerror}).", "Check the path and its permissions."
            ) from error
        try:
            self._entries = self._checked(limits)
        except DataError:
            self._file.close()
            raise

    @property
    def names(self) -> list[str]:
        """Paths of all files in it."""
        return list(self._entries)

    def size_bytes(self, name: str) -> int:
        """Stated size of a file in it."""
        return self._entries[name].file_size

    def read(self, name: str, most_bytes: int) -> bytes:
        """Content of a small file in it.

        Raises
        ------
        DataError
            When it is longer than `most_bytes`, or damaged.
        """
        if self.size_bytes(name) > most_bytes:
            raise DataError(
                f"{shown_name(name)} in {self._shown} has {self.size_bytes(name):,} bytes; "
                f"{most_bytes:,} are the most.",
                _REMEDY,
            )
        try:
            return self._file.read(self._entries[name])
        except (zipfile.BadZipFile, EOFError, zlib.error, ValueError, OSError, NotImplementedError) as error:
            raise self._damage(name, error) from error

    def unpack(self, name: str, target: Path) -> str:
        """Write a file of it to `target`, and return its SHA-256 digest.

        Raises
        ------
        DataError
            When it is damaged.
        OSError
            When `target` cannot be written.
        """
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            try:
                opened = self._file.open(self._entries[name])
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise self._damage(name, error) from error
            with opened:
                while part := self._part(name, opened):
                    digest.update(part)
                    file.write(part)
        return digest.hexdigest()

    def unpack_all(self, folder: Path) -> None:
        """Write all files below `folder`.

        Raises
        ------
        DataError
            When one is damaged.
        OSError
            When `folder` cannot be written.
        """
        for name in self._entries:
            self.unpack(name, folder / name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _part(self, name: str, opened: IO[bytes]) -> bytes:
        try:
            return opened.read(_COPY_BYTES)
        except (zipfile.BadZipFile, EOFError, zlib.error, ValueError) as error:
            raise self._damage(name, error) from error

    def _damage(self, name: str, error: Exception) -> DataError:
        return DataError(f"{shown_name(name)} in {self._shown} is damaged ({error}).", _REMEDY)

    def _checked(self, limits: ArchiveLimits) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        folded: set[str] = set()
        infos = [info for info in self._file.infolist() if not info.is_dir()]
        if len(infos) > limits.members:
            raise DataError(f"{self._shown} holds {len(infos):,} files; {limits.members:,} are the most.", _REMEDY)
        total = sum(info.file_size for info in infos)
        if total > limits.size_bytes:
            raise DataError(f"{self._shown} unpacks to {total:,} bytes; {limits.size_bytes:,} are the most.", _REMEDY)
        for info in infos:
            fault = _fault(info)
            if info.filename.casefold() in folded:
                fault = "has the name of another entry"
            if fault:
                raise DataError(f"The entry {shown_name(info.filename)[:120]!r} of {self._shown} {fault}.", _REMEDY)
            folded.add(info.filename.casefold())
            entries[info.filename] = info
        return entries


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is refused; None when it is accepted."""
    name = info.orig_filename
    if name != info.filename or "\\" in name or ":" in name or not name.isprintable():
        return "has characters that no file of Bathyscope has"
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or name != "/".join(parts):
        return "leads out of its folder"
    if len(name) > _LONGEST_NAME or len(parts) > _DEEPEST:
        return f"is too long or too deep; {_LONGEST_NAME} characters and {_DEEPEST} levels are the most"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return f"has the compression {info.compress_type}; stored and deflated entries are read"
    return None
