"""Places where copies of recordings are kept: a folder, also on a network share, or an S3 server.

A file counts as copied when its SHA-256 digest, computed from what is read back
from the place, is that of the local file. No checksum that a server states is
trusted instead: of an object that was sent in parts S3 states the digest of the
digests of its parts, and a share states none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from hardware.remote import RemoteAway, RemoteFolder, away, is_remote, place_of_url
from models.errors import DataError

__all__ = ["CopyPlace", "FolderPlace", "S3Place", "open_place"]

_READ_BYTES = 16 * 1024 * 1024
"""What is read back at once."""

_ASIDE = ".partial"


class CopyPlace(Protocol):
    """Where copies go. Names are relative, with ``/``. Every call may raise `RemoteAway`."""

    @property
    def url(self) -> str:
        """As users write it."""

    def check(self) -> None:
        """Refuse a place that cannot be used now."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes of all files in a folder, bytes, by name; empty when it is not there."""

    def size(self, name: str) -> int | None:
        """Size of a file, bytes; None when it is not there."""

    def send(self, source: Path, name: str) -> None:
        """Copy a local file there; the one that is there is replaced."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""

    def sha256(self, name: str) -> str:
        """Digest of a file, read back from there."""


def open_place(url: str) -> CopyPlace:
    """The place of a URL or of a folder; nothing is read or written yet.

    Raises
    ------
    DataError
        When the URL is not understood.
    RemoteAway
        When s3fs is needed and not installed.
    """
    try:
        place = place_of_url(url)
    except ValueError as error:
        raise DataError(f"The place {url!r} is not understood: {error}.", "Correct it.") from None
    return S3Place(str(place)) if is_remote(place) else FolderPlace(Path(place))


class FolderPlace:
    """A folder of another disk or of a network share. It is never made here: a share that is not mounted has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        """The path."""
        return str(self._folder)

    def check(self) -> None:
        """Refuse a folder that is not there."""
        with self._explained():
            if not self._folder.is_dir():
                raise RemoteAway(
                    f"The folder {self._folder} for copies is not there.",
                    "Mount its share, or make it; it is not made by itself, because the share may only be away.",
                )

    def sizes(self, folder: str) -> dict[str, int]:
        """See `CopyPlace`."""
        found = {}
        with self._explained():
            for place, _, names in os.walk(self._folder / folder, onerror=_raise_unless_missing):
                for name in names:
                    path = Path(place) / name
                    found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def size(self, name: str) -> int | None:
        """See `CopyPlace`."""
        with self._explained():
            try:
                return (self._folder / name).stat().st_size
            except FileNotFoundError:
                return None

    def send(self, source: Path, name: str) -> None:
        """See `CopyPlace`. The bytes are on the disk of the place when this returns."""
        with source.open("rb") as file, self._explained():
            self.check()
            with self._writing(name) as aside:
                shutil.copyfileobj(file, aside, _READ_BYTES)

    def write(self, name: str, content: bytes) -> None:
        """See `CopyPlace`."""
        with self._explained():
            self.check()
            with self._writing(name) as aside:
                aside.write(content)

    def sha256(self, name: str) -> str:
        """See `CopyPlace`."""
        with self._explained(), (self._folder / name).open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                # Else the digest would be that of this machine's memory, and not of the disk or the share.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[BinaryIO]:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + _ASIDE)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise away(str(self._folder), error) from error


class S3Place:
    """A folder of a bucket."""

    def __init__(self, url: str) -> None:
        self._folder = RemoteFolder(url)

    @property
    def url(self) -> str:
        """``s3://BUCKET/FOLDER``."""
        return self._folder.url

    def check(self) -> None:
        """Refuse a server that does not respond, a bucket that is not there, and keys without rights."""
        self._folder.sizes(".bathyscope")

    def sizes(self, folder: str) -> dict[str, int]:
        """See `CopyPlace`."""
        return self._folder.sizes(folder)

    def size(self, name: str) -> int | None:
        """See `CopyPlace`."""
        return self._folder.size(name)

    def send(self, source: Path, name: str) -> None:
        """See `CopyPlace`. The object is complete or not there."""
        with source.open("rb"):  # a local file that cannot be read is no fault of the server
            self._folder.send(source, name)

    def write(self, name: str, content: bytes) -> None:
        """See `CopyPlace`."""
        self._folder.write(name, content)

    def sha256(self, name: str) -> str:
        """See `CopyPlace`."""
        digest, size = hashlib.sha256(), self._folder.size(name) or 0
        for start in range(0, size, _READ_BYTES):
            digest.update(self._folder.read(name, start, min(start + _READ_BYTES, size)))
        return digest.hexdigest()


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
