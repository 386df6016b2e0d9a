"""Reading the frames of a recording back, and deleting its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.store.frames import RecordedFrames

__all__ = ["RecordedImage", "delete_folder", "folder_bytes", "shard_path"]

_FILES_PER_STEP = 200
"""Files that are deleted at once: some ms on a local disk."""


def shard_path(folder: Path, number: int) -> Path:
    """Path of shard `number` of the image in `folder` (t, y, x); shards divide the first axis only."""
    return folder / "c" / str(number) / "0" / "0"


class RecordedImage:
    """The image of a recording, opened for reading. It may still grow.

    Parameters
    ----------
    path : Path
        Of the recording; ends in ``.ome.zarr``.

    Raises
    ------
    DataError
        When it is not there or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import zarr

        self._path = path
        self._folder = path / "0"
        try:
            self._image: Any = zarr.open_array(str(self._folder), mode="r")
        except Exception as error:
            raise DataError(
                f"The recording {path} cannot be read ({type(error).__name__}: {error}).",
                "Put its folder back; the tracks of the run do not need it.",
            ) from error

    @property
    def pixel_size_um(self) -> float | None:
        """Camera pixel at the sample, µm, as the recording states it."""
        try:
            text = (self._path / "zarr.json").read_text(encoding="utf-8")
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
        import zarr

        from service.store.frames import FrameTimes, RecordedFrames

        count = int(self._image.shape[0])
        try:
            numbers: Any = zarr.open_array(str(self._path / "frame"), mode="r")[:count]
            times_s: Any = zarr.open_array(str(self._path / "time_s"), mode="r")[:count]
        except Exception as error:
            raise DataError(
                f"Numbers and times of the frames of {self._path} cannot be read ({type(error).__name__}: {error}).",
                "Only recordings of Bathyscope have them; use `bathyscope track` for other movies.",
            ) from error
        if len(numbers) < count or len(times_s) < count:
            raise DataError(
                f"{self._path} has {count} planes, but numbers and times of {min(len(numbers), len(times_s))} only.",
                "It is damaged: restore it from a copy.",
            )
        return RecordedFrames(np.arange(count, dtype=np.int64), FrameTimes.of(numbers, times_s))

    def plane(self, plane: int) -> NDArray[np.uint16]:
        """A recorded frame, uint16, shape (H, W).

        Raises
        ------
        DataError
            When its file is missing or damaged. Zarr would return zeros for a missing file.
        """
        import numpy as np

        path = shard_path(self._folder, plane // self._image.shards[0])
        if not path.exists():
            raise DataError(f"A file of the recording is missing: {path}.", "Put it back, and restart the service.")
        try:
            return np.asarray(self._image[plane])
        except Exception as error:  # the codecs of Zarr raise errors of many types
            raise DataError(
                f"A file of the recording cannot be read: {path} ({type(error).__name__}: {error}).",
                "It is damaged: restore it from a copy.",
            ) from error


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
