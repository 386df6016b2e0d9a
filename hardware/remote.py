"""Folders on an S3 server, by their URL: read through fsspec and s3fs (extra `remote`).

Keys, region and address of the server come from the environment or from `~/.aws`, as for all programs that use Amazon's
library (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, `AWS_PROFILE`), so that no setting holds a
secret and processes on other machines can have keys of their own.

A server that does not respond is asked a second time, and then given up after less than a minute: a program that
waits for it says so and tries again later.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from bathyscope_errors import BathyscopeError

__all__ = ["RemoteAway", "RemoteFolder", "away", "is_of_network", "is_remote", "place_of_url", "url_of"]

_S3: Final = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")
"""Names of buckets (docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html); other servers allow _."""

_OPTIONS: dict[str, Any] = {
    # Listings must be those of now: another process writes the objects.
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}},
}
_RETRIES = 1
"""Further attempts of s3fs, which would multiply those of botocore."""

_NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError")


class RemoteAway(BathyscopeError):
    """A place by URL cannot be reached or used now: server or share away, no rights, or no such bucket."""

    kind = "remote-away"


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URL of an S3 server."""
    return isinstance(place, str) and place.startswith(_S3)


def url_of(path: Path) -> str | None:
    """The URL of which a path was made, or None: pathlib joins the two slashes of ``s3://``."""
    joined = path.as_posix()
    return _S3 + joined[4:] if joined.startswith("s3:/") else None


def is_of_network(error: Exception) -> bool:
    """Whether an error comes from the libraries of S3 and HTTP, and not from what was read."""
    return type(error).__module__.partition(".")[0] in ("aiobotocore", "aiohttp", "botocore", "s3fs")


def place_of_url(place: str) -> str | Path:
    """The URL of an S3 server as it is; the path of a ``file://`` URL or of a folder.

    Raises
    ------
    ValueError
        For any other URL. The message is a clause that states the rule.
    """
    if is_remote(place):
        bucket = place.removeprefix(_S3).partition("/")[0]
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(f"{bucket!r} is no name of a bucket; write s3://BUCKET/FOLDER")
        return place.rstrip("/")
    if "://" not in place:
        return Path(place)
    parts = urlsplit(place)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise ValueError("places are folders, file:///FOLDER or s3://BUCKET/FOLDER")
    return Path(url2pathname(unquote(parts.path)))


class RemoteFolder:
    """A folder of an S3 server. Opening it sends nothing yet.

    Parameters
    ----------
    url : str
        ``s3://BUCKET/FOLDER``.

    Raises
    ------
    RemoteAway
        When s3fs is not installed.
    """

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("s3fs") is None:
            raise RemoteAway(f"{url} needs s3fs, which is not installed.", "pip install 'bathyscope[remote]'")
        self.url = url.rstrip("/")
        self._root = self.url.removeprefix(_S3)
        self._opened: Any = None

    @property
    def _files(self) -> Any:
        if self._opened is None:
            import s3fs

            self._opened = s3fs.S3FileSystem(**_OPTIONS)
            self._opened.retries = _RETRIES
        return self._opened

    def store(self) -> Any:
        """The folder as a read-only store of Zarr.

        Raises
        ------
        RemoteAway
            When the library cannot make it, for example for a profile that is not in `~/.aws`.
        """
        from zarr.storage import FsspecStore

        with self._explained():
            return FsspecStore.from_url(self.url, storage_options=dict(_OPTIONS), read_only=True)

    def sizes(self, below: str = "") -> dict[str, int]:
        """Size of every object below a folder, bytes, by its name relative to this folder.

        Raises
        ------
        RemoteAway
            When the server does not respond, refuses, or has no such bucket.
        """
        with self._explained():
            found = self._files.find(self._path(below), detail=True)
        start = len(self._root) + 1
        return {name[start:]: int(info["size"]) for name, info in found.items() if info["type"] == "file"}

    def size(self, name: str) -> int | None:
        """Size of an object, bytes; None when there is none of that name.

        Raises
        ------
        RemoteAway
        """
        with self._explained():
            try:
                info = self._files.info(self._path(name), refresh=True)
            except FileNotFoundError:
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of an object, or a part of them.

        Raises
        ------
        RemoteAway
            Also when there is no such object.
        """
        with self._explained():
            return bytes(self._files.cat_file(self._path(name), start=start, end=end))

    def read_parts(self, parts: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Parts of objects (name, start, end), read at the same time.

        Raises
        ------
        RemoteAway
        """
        names, starts, ends = zip(*parts, strict=True)
        with self._explained():
            found = self._files.cat_ranges([self._path(name) for name in names], starts, ends, on_error="raise")
        return [bytes(part) for part in found]

    def send(self, source: Path, name: str) -> None:
        """Send a file; the object is there when this returns, complete or not at all.

        Raises
        ------
        RemoteAway
        """
        with self._explained():
            self._files.put_file(str(source), self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write an object.

        Raises
        ------
        RemoteAway
        """
        with self._explained():
            self._files.pipe_file(self._path(name), content)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # libraries of S3 and of HTTP raise some twenty types
            raise away(self.url, error) from error


def away(place: str, error: Exception) -> RemoteAway:
    """The error for a failed request, with the remedy that fits it."""
    if isinstance(error, RemoteAway):
        return error
    said = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ in _NO_KEYS:
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials."
    elif isinstance(error, PermissionError):
        remedy = "Check the keys, and their rights to list, read and write there."
    elif isinstance(error, FileNotFoundError):
        remedy = "Make the bucket or the folder, or correct the URL."
    else:
        remedy = "Check the network, and the address of the server (AWS_ENDPOINT_URL)."
    return RemoteAway(f"{place} cannot be used now ({type(error).__name__}: {said}).", remedy)
