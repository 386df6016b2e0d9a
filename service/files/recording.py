"""Reading the frames of a recording back, from the local disk or from an S3 server, and deleting its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hardware.remote import RemoteAway, RemoteFolder, is_remote, place_of_url
from models.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.store.frames import RecordedFrames
    from service.store.runs import Run

__all__ = ["RecordedImage", "delete_folder", "folder_bytes", "place_of_recording", "shard_path"]

_AHEAD = 16
"""Planes that are fetched from a server at once when they are read in their order."""

_FILES_PER_STEP = 200
"""Files that are deleted at once: some ms on a local disk."""


def shard_path(folder: Path, number: int) -> Path:
    """Path of shard `number` of the image in `folder` (t, y, x); shards divide the first axis only."""
    return folder / "c" / str(number) / "0" / "0"


def place_of_recording(data_dir: Path, run: Run) -> str | Path:
    """Where the recording of a run is read: its folder, or its copy when the local files were deleted.

    Raises
    ------
    DataError
        When the run has no recording.
    """
    if run.recording is None:
        raise DataError(f"Run {run.id} has no recording.", "Start runs with record: true to keep their frames.")
    copy = run.recording_copy
    if copy is not None and copy.freed_at is not None:
        return place_of_url(copy.url)
    return data_dir / run.recording


class RecordedImage:
    """The image of a recording, opened for reading. It may still grow.

    Parameters
    ----------
    place : Path or str
        Folder of the recording, or its URL on an S3 server; ends in ``.ome.zarr``.

    Raises
    ------
    DataError
        When it is not there or cannot be read.
    RemoteAway
        When its server does not respond.
    """

    def __init__(self, place: Path | str) -> None:
        place = place_of_url(str(place))
        self.place = place
        self._files: _Files = _RemoteFiles(str(place)) if is_remote(place) else _LocalFiles(Path(place))
        try:
            self._image: Any = self._files.array("0")
        except RemoteAway:
            raise
        except Exception as error:
            raise DataError(
                f"The recording {place} cannot be read ({type(error).__name__}: {error}).",
                "Put its folder back; the tracks of the run do not need it.",
            ) from error

    @property
    def name(self) -> str:
        """Of the recording, without its suffix."""
        return Path(self.place).name.removesuffix(".ome.zarr")

    @property
    def pixel_size_um(self) -> float | None:
        """Camera pixel at the sample, µm, as the recording states it."""
        try:
            text = self._files.read("zarr.json").decode("utf-8")
            levels = json.loads(text)["attributes"]["ome"]["multiscales"][0]["datasets"]
            return float(levels[0]["coordinateTransformations"][0]["scale"][-1])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @property
    def shard_frames(self) -> int:
        """Planes in one file."""
        return int(self._image.shards[0])

    def recorded(self) -> RecordedFrames:
        """Numbers and times of the planes, as the recording states them.

        Raises
        ------
        DataError
            When they are missing, damaged, or fewer than the planes.
        """
        import numpy as np

        from service.store.frames import FrameTimes, RecordedFrames

        count = int(self._image.shape[0])
        try:
            numbers: Any = self._files.array("frame")[:count]
            times_s: Any = self._files.array("time_s")[:count]
        except RemoteAway:
            raise
        except Exception as error:
            raise DataError(
                f"Numbers and times of the frames of {self.place} cannot be read ({type(error).__name__}: {error}).",
                "Only recordings of Bathyscope have them; use `bathyscope track` for other movies.",
            ) from error
        if len(numbers) < count or len(times_s) < count:
            raise DataError(
                f"{self.place} has {count} planes, but numbers and times of {min(len(numbers), len(times_s))} only.",
                "It is damaged: restore it from a copy.",
            )
        return RecordedFrames(np.arange(count, dtype=np.int64), FrameTimes.of(numbers, times_s))

    def plane(self, plane: int) -> NDArray[np.uint16]:
        """A recorded frame, uint16, shape (H, W).

        Raises
        ------
        DataError
            When its file is missing or damaged. Zarr would return zeros for a missing file.
        RemoteAway
            When the server does not respond.
        """
        import numpy as np

        name = shard_path(Path("0"), plane // self._image.shards[0]).as_posix()
        if not self._files.has(name):
            raise DataError(
                f"A file of the recording is missing: {self._files.shown(name)}.",
                "Put it back, and restart the service.",
            )
        try:
            return np.asarray(self._files.planes(self._image, plane))
        except RemoteAway:
            raise
        except Exception as error:  # the codecs of Zarr raise errors of many types
            raise DataError(
                f"A file of the recording cannot be read: {self._files.shown(name)} ({type(error).__name__}: {error}).",
                "It is damaged: restore it from a copy.",
            ) from error


class _Files(Protocol):
    """The files of a recording."""

    def array(self, name: str) -> Any:
        """One of its arrays, opened for reading."""

    def read(self, name: str) -> bytes:
        """A small file."""

    def has(self, name: str) -> bool:
        """Whether a file is there."""

    def shown(self, name: str) -> str:
        """Path or URL of a file, for messages."""

    def planes(self, image: Any, plane: int) -> Any:
        """One plane of the image."""


class _LocalFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def array(self, name: str) -> Any:
        import zarr

        return zarr.open_array(str(self._folder / name), mode="r")

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def shown(self, name: str) -> str:
        return str(self._folder / name)

    def planes(self, image: Any, plane: int) -> Any:
        return image[plane]


class _RemoteFiles:
    """Planes that are read in their order are fetched some at a time, because each request takes milliseconds."""

    def __init__(self, url: str) -> None:
        self._folder = RemoteFolder(url)
        self._store = self._folder.store()
        self._there: set[str] = set()
        self._last = -2  # no plane precedes the first that is read
        self._first = 0
        self._ahead: Any = ()

    def array(self, name: str) -> Any:
        import zarr

        with self._away_when_broken():
            return zarr.open_array(self._store, path=name, mode="r")

    def read(self, name: str) -> bytes:
        return self._folder.read(name)

    def has(self, name: str) -> bool:
        if name not in self._there and self._folder.size(name) is not None:
            self._there.add(name)
        return name in self._there

    def shown(self, name: str) -> str:
        return f"{self._folder.url}/{name}"

    def planes(self, image: Any, plane: int) -> Any:
        if not 0 <= plane - self._first < len(self._ahead):
            in_order, shard = plane == self._last + 1, int(image.shards[0])
            end = min(plane + _AHEAD if in_order else plane + 1, (plane // shard + 1) * shard, int(image.shape[0]))
            with self._away_when_broken():
                self._first, self._ahead = plane, image[plane:end]
        self._last = plane
        return self._ahead[plane - self._first]

    @contextmanager
    def _away_when_broken(self) -> Iterator[None]:
        """Zarr passes errors of the network on; damage of the data is another error."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, FileNotFoundError):
                self._folder.size("zarr.json")  # raises when the server does not respond
            raise


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder, bytes; 0 when it is not there."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # deleted meanwhile
                continue
    return total


def delete_folder(folder: Path) -> Iterator[None]:
    """Delete a folder with all files in it, some files at each step; nothing happens when it is not there.

    Raises
    ------
    OSError
        When a file cannot be deleted.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    count = 0
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.unlink(os.path.join(place, name))
            count += 1
            if count % _FILES_PER_STEP == 0:
                yield
        os.rmdir(place)
