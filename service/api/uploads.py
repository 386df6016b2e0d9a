"""Files that a request brings: streamed into the data directory, within limits of size, time, number and space.

Other bodies are short and are read before the application runs
(`service.api.bodies`). Those of the routes here are files, so the route itself
takes them part by part, and no more than a part is in memory.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from bathyscope_errors import BathyscopeError
from models.identity import new_id
from service.settings import Settings

__all__ = ["UPLOADS", "ArchiveRoute", "FormRoute", "Intake", "UploadRefused", "is_upload", "media_type_of"]

ZIP = "application/zip"
FORM = "multipart/form-data"

UPLOADS = {"/api/v1/calibrations": FORM, "/api/v1/models": ZIP}
"""Resources that take a file in place of JSON, and the media type of such a request."""

_MOST_AT_ONCE = 2
"""Uploads at a time: more would share the disk that recordings need."""

IDLE_S = 30.0
LONGEST_S = 3600.0
"""A sweep of 8 GB in an hour is 18 Mbit/s."""

_WRITE_BYTES = 1024 * 1024
_READ_ON_BYTES = 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that its sender reads the response."""

_READ_ON_S = 5.0
_GB = 10**9


class UploadRefused(BathyscopeError):
    """A form that breaks a rule, or a file that is not taken: too large, too slow, one too many, or without room."""

    kind = "upload"


class UploadTooLarge(UploadRefused):
    """A file above the limit of its resource: it would fill the disk that recordings need."""

    kind = "upload-size"


class UploadTooSlow(UploadRefused):
    """A file that stopped or takes too long: it would keep one of the few places for uploads for ever."""

    kind = "upload-slow"


class TooManyUploads(UploadRefused):
    """One upload more than are taken at a time."""

    kind = "upload-busy"


class NoRoom(UploadRefused):
    """A disk without room for the file, or that cannot be written."""

    kind = "upload-space"


def media_type_of(headers: Headers) -> str:
    """Media type of a request's body, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_upload(scope: Scope, headers: Headers) -> bool:
    """Whether the body of a request is a file that its route takes itself."""
    return scope["method"] == "POST" and UPLOADS.get(scope["path"]) == media_type_of(headers)


class _UploadRoute(APIRoute):
    """A route for bodies of one media type; a route of the same path after it takes the others."""

    media_type = ""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As of any route, but only for its media type."""
        match, child = super().matches(scope)
        if match is Match.FULL and media_type_of(Headers(scope=scope)) != self.media_type:
            return Match.NONE, {}
        return match, child


class ArchiveRoute(_UploadRoute):
    """A route that takes a ZIP file."""

    media_type = ZIP


class FormRoute(_UploadRoute):
    """A route that takes the files of a form."""

    media_type = FORM


class Intake:
    """Takes uploads into folders of the data directory.

    Parameters
    ----------
    settings : Settings
        Data directory, and the space that stays free.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.data_dir / "uploads"
        self._floor_bytes = settings.engine.free_space_floor_gb * _GB
        self._taking = 0
        self.most_bytes = int(settings.upload_most_gb * _GB)

    def clear(self) -> None:
        """Remove what uploads left that a stop of the service ended."""
        shutil.rmtree(self._root, ignore_errors=True)

    def outgoing_file(self) -> Path:
        """Path of a new file that a response sends and then removes; those of cut downloads are removed here.

        Raises
        ------
        UploadRefused
            When the folder cannot be made.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for old in self._root.glob("*.zip"):
                if time.time() - old.stat().st_mtime > LONGEST_S:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(error) from error
        return self._root / f"{new_id()}.zip"

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """An empty folder for one upload, which is removed with what is still in it.

        Raises
        ------
        UploadRefused
            When other uploads are on, or the folder cannot be made.
        """
        if self._taking >= _MOST_AT_ONCE:
            raise TooManyUploads(f"{_MOST_AT_ONCE} uploads are on, which is the most.", "Wait until one has ended.")
        self._taking += 1
        place = self._root / new_id()
        try:
            try:
                await run_in_threadpool(place.mkdir, parents=True)
            except OSError as error:
                raise _unwritable(error) from error
            yield place
        finally:
            self._taking -= 1
            await run_in_threadpool(shutil.rmtree, place, ignore_errors=True)

    async def parts(self, request: Request, most_bytes: int) -> AsyncIterator[bytes]:
        """The body of a request, part by part.

        Raises
        ------
        UploadRefused
            When it is longer than `most_bytes`, stops, takes too long, or the disk has no room for it. The rest of the
            body is then dropped.
        """
        stated = request.headers.get("content-length", "")
        stream = request.stream()
        try:
            self._check_size(int(stated) if stated.isdecimal() else 0, most_bytes)
            taken, checked, end_s = 0, 0, time.monotonic() + LONGEST_S
            while True:
                try:
                    async with asyncio.timeout(min(IDLE_S, max(end_s - time.monotonic(), 0))):
                        part = await anext(stream, b"")
                except TimeoutError:
                    raise _slow(end_s) from None
                except ClientDisconnect:
                    raise UploadRefused("The sender left before the end of the file.", "Send it again.") from None
                if not part:
                    return
                taken += len(part)
                if taken > most_bytes:
                    raise _too_large(taken, most_bytes)
                if taken - checked > _WRITE_BYTES:
                    checked = taken
                    self._check_room(0)
                yield part
        except UploadRefused:
            await _drop(stream)
            raise

    async def save(self, request: Request, target: Path, most_bytes: int) -> None:
        """Write the body of a request to the file `target`.

        Raises
        ------
        UploadRefused
            As `parts`, or when the file cannot be written.
        """
        with target.open("xb") as file:
            writer = PartWriter(file)
            async for part in self.parts(request, most_bytes):
                await writer.write(part)
            await writer.finish()

    def _check_size(self, stated: int, most_bytes: int) -> None:
        if stated > most_bytes:
            raise _too_large(stated, most_bytes)
        self._check_room(stated)

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free - needed < self._floor_bytes:
            raise NoRoom(
                f"The disk of the data directory has {free / _GB:.1f} GB free; an upload leaves "
                f"{self._floor_bytes / _GB:g} GB free, and this one has {needed / _GB:.1f} GB.",
                "Free some space, or lower the setting engine.free_space_floor_gb.",
            )


class PartWriter:
    """Writes small parts to a file on another thread, joined to larger ones.

    Parameters
    ----------
    file : binary file
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = bytearray()

    async def write(self, part: bytes) -> None:
        """Write a part, now or with the next ones.

        Raises
        ------
        UploadRefused
            When the file cannot be written.
        """
        self._waiting += part
        if len(self._waiting) >= _WRITE_BYTES:
            await self.finish()

    async def finish(self) -> None:
        """Write what waits.

        Raises
        ------
        UploadRefused
            When the file cannot be written.
        """
        content, self._waiting = bytes(self._waiting), bytearray()
        try:
            await run_in_threadpool(self._write_now, content)
        except OSError as error:
            raise _unwritable(error) from error

    def _write_now(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()


async def _drop(stream: AsyncIterator[bytes]) -> None:
    """Read on for a moment: a sender whose connection is cut at once may not see the response."""
    dropped = 0
    with suppress(TimeoutError, ClientDisconnect, StopAsyncIteration, RuntimeError):
        async with asyncio.timeout(_READ_ON_S):
            while dropped < _READ_ON_BYTES:
                part = await anext(stream)
                dropped += len(part)


def _too_large(size: int, most: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The file has {size:,} bytes or more; {most:,} are the most.",
        "Send a smaller one, or raise the setting upload_most_gb if it is a sweep.",
    )


def _slow(end_s: float) -> UploadTooSlow:
    if time.monotonic() >= end_s:
        return UploadTooSlow(
            f"The file was not there within {LONGEST_S:g} s.", "Copy it to this computer, and send it from here."
        )
    return UploadTooSlow(f"No byte came for {IDLE_S:g} s.", "Send the file again.")


def _unwritable(error: OSError) -> NoRoom:
    return NoRoom(
        f"The file cannot be written to the data directory ({error.strerror}).",
        "Free some space, or correct the permissions of the data directory.",
    )
