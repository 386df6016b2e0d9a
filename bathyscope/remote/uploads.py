"""Files that a request sends, read part by part, with the progress of the sending."""

from __future__ import annotations

import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["Upload", "as_zip"]

_PART_BYTES = 256 * 1024

Sent = Callable[[int, int], None]
"""Takes the bytes sent, and those of all files."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Files of a request.

    Attributes
    ----------
    files : the files to send
    field : name of their parts in a form; None: the only file is the body itself, a ZIP file
    request : JSON of the form's part ``request``
    sent : is told the progress
    """

    files: tuple[Path, ...]
    field: str | None
    request: str
    sent: Sent

    @contextmanager
    def options(self) -> Iterator[Mapping[str, Any]]:
        """Arguments for `httpx` that send the files; they are open while the block runs."""
        with ExitStack() as stack:
            count = _Count(sum(path.stat().st_size for path in self.files), self.sent)
            opened = [_Read(stack.enter_context(path.open("rb")), count) for path in self.files]
            if self.field is None:
                length = str(count.total)
                yield {"content": opened[0], "headers": {"Content-Type": "application/zip", "Content-Length": length}}
                return
            parts: list[tuple[str, Any]] = [("request", (None, self.request, "application/json"))]
            for path, file in zip(self.files, opened, strict=True):
                parts.append((self.field, (path.name, file, "application/octet-stream")))
            yield {"files": parts}


class _Count:
    """Bytes sent of all files of a request."""

    def __init__(self, total: int, sent: Sent) -> None:
        self.total = total
        self._done = 0
        self._sent = sent

    def add(self, count: int) -> None:
        self._done += count
        self._sent(self._done, self.total)


class _Read:
    """A file that reports what is read of it; as a body it gives its parts, as a part of a form it is read."""

    def __init__(self, file: IO[bytes], count: _Count) -> None:
        self._file = file
        self._count = count

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._count.add(len(part))
        return part

    def fileno(self) -> int:
        return self._file.fileno()

    def __iter__(self) -> Iterator[bytes]:
        while part := self.read(_PART_BYTES):
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


def as_zip(folder: Path, target: Path) -> Path:
    """The files of a folder, such as an OME-Zarr, in a ZIP file that the service unpacks."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(place) / name
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return target
