"""Recording: every frame, on a separate thread, in whole shards of an OME-Zarr image.

A shard is one file of many frames, one chunk each. It is written whole, and
the array's shape grows only after its data are on disk; so the shape never
covers frames that cannot be read, also after the process is killed. When
recording ends within a shard, the rest is written as a shorter one.

Two small arrays lie beside the image: `frame` (image number) and `time_s`
(mid-exposure, monotonic clock). Lost frames leave no gap in the image, so
these two state the exposure of each plane. The image's shape grows last, so
they are never shorter than the image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from hardware.microscope import Frame
from models.errors import DataError
from service.engine.ledger import Ledger
from service.engine.shards import (
    COMPRESSION,
    GrowingShape,
    frame_compressor,
    write_series,
    write_shard,
)
from service.engine.stages import Stage
from service.files.recording import shard_path
from service.store.frames import FrameTimes
from service.worker_thread import WorkerThread

__all__ = ["Recorder", "Recording", "check_free_space", "limit_recording_threads"]

_LOG_CHUNK = 4096
"""Entries in one file of the frame log: an hour at 100 fps makes 90 files, each rewritten in microseconds."""

_GIGABYTE = 1e9

_GATHER_S = 0.25
"""How long frames gather in the stage before the recorder takes them."""


def limit_recording_threads() -> None:
    """Compress with one thread, whatever the number of cores: the analysis needs the others more."""
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 4})


def check_free_space(folder: Path, floor_gb: float) -> None:
    """Refuse to record to a disk that is nearly full.

    Raises
    ------
    DataError
        When less than `floor_gb` (1 GB = 10^9 bytes) is free.
    """
    free_gb = shutil.disk_usage(folder).free / _GIGABYTE
    if free_gb < floor_gb:
        raise DataError(
            f"{free_gb:.1f} GB are free where recordings go ({folder}); "
            f"a recording leaves at least {floor_gb:g} GB (engine.free_space_floor_gb).",
            "Free some space, choose another data directory, or run without recording.",
        )


class Recording:
    """One OME-Zarr 0.5 image (t, y, x) that grows by whole shards. Used by one thread.

    Parameters
    ----------
    path : Path
        Of the new image; ends in ``.ome.zarr``.
    shape : (int, int)
        Rows and columns of a frame.
    pixel_size_um : float
        At the sample, µm.
    frame_period_s : float
        Nominal time from frame to frame, s; the measured times are in `time_s`.
    shard_frames : int
        Frames in one file.
    attributes : dict
        Further metadata (run, model, camera), JSON values.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        pixel_size_um: float,
        frame_period_s: float,
        shard_frames: int,
        attributes: dict[str, Any],
    ) -> None:
        self.path = path
        self.frames = 0
        self.shard_frames = shard_frames
        self._logs = [
            (name, np.zeros(_LOG_CHUNK, dtype))
            for name, dtype in (("frame", np.dtype("<i8")), ("time_s", np.dtype("<f8")))
        ]
        path.mkdir()
        try:
            self._create_arrays(shape, pixel_size_um, frame_period_s, attributes)
            self._shapes = {name: GrowingShape(path / name) for name in ("frame", "time_s", "0")}
        except Exception:
            self.discard()
            raise
        self._compressor = frame_compressor()

    def _create_arrays(
        self, shape: tuple[int, int], pixel_size_um: float, frame_period_s: float, attributes: dict[str, Any]
    ) -> None:
        group = zarr.create_group(
            str(self.path),
            zarr_format=3,
            attributes={
                "ome": _ome(self.path.name.removesuffix(".ome.zarr"), pixel_size_um, frame_period_s),
                "bathyscope": attributes,
            },
        )
        group.create_array(
            "0",
            shape=(0, *shape),
            chunks=(1, *shape),
            shards=(self.shard_frames, *shape),
            dtype="uint16",
            compressors=COMPRESSION,
            dimension_names=("t", "y", "x"),
        )
        for name, chunk in self._logs:
            group.create_array(name, shape=(0,), chunks=chunk.shape, dtype=chunk.dtype, compressors=None)

    def append(self, pixels: Sequence[NDArray[np.uint16]], frames: FrameTimes) -> None:
        """Write frames after the last one; when this returns, they can be read.

        Parameters
        ----------
        pixels : sequence of N ndarray of uint16, shape (H, W)
            At most `shard_frames`, starting at a shard boundary: only the last append of a recording is shorter.
        frames : FrameTimes
            Their image numbers and times.
        """
        if self.frames % self.shard_frames or len(pixels) > self.shard_frames:
            raise ValueError(f"{len(pixels)} frames after {self.frames} are not one shard of {self.shard_frames}")
        end = self.frames + len(pixels)
        number = self.frames // self.shard_frames
        write_shard(self.path / "0", number, pixels, self.shard_frames, self._compressor)
        for (name, chunk), values in zip(self._logs, (frames.numbers, frames.times_s), strict=True):
            write_series(self.path / name, self.frames, values, chunk)
        for shape in self._shapes.values():  # the image's is the last
            shape.grow(end)
        self.frames = end

    def missing(self) -> list[int]:
        """First planes of written shards whose files have been moved or deleted."""
        image = self.path / "0"
        shards = range(-(-self.frames // self.shard_frames))
        return [number * self.shard_frames for number in shards if not shard_path(image, number).exists()]

    def discard(self) -> None:
        """Delete it, because its run did not begin."""
        shutil.rmtree(self.path, ignore_errors=True)


def _ome(name: str, pixel_size_um: float, frame_period_s: float) -> dict[str, Any]:
    # https://ngff.openmicroscopy.org/0.5/ : axes, one resolution level and its scale
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [
                    {"name": "t", "type": "time", "unit": "second"},
                    {"name": "y", "type": "space", "unit": "micrometer"},
                    {"name": "x", "type": "space", "unit": "micrometer"},
                ],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [frame_period_s, pixel_size_um, pixel_size_um]}
                        ],
                    }
                ],
            }
        ],
    }


class Recorder(WorkerThread):
    """Takes frames from its stage and writes them shard by shard until the stage has ended.

    When writing fails it stops recording, reports why, counts later frames as
    unrecorded, and goes on taking frames, so that the analysis continues.

    Parameters
    ----------
    recording : Recording
        The image to write.
    stage : Stage of Frame
        Of the frames to record.
    ledger : Ledger
        Counts the frames that were not written.
    floor_gb : float
        Free disk space below which it stops, GB.
    written : callable
        Receives the first plane and the frames of each shard that can be read.
    stopped : callable
        Receives the reason, once, when recording stops before the stage has ended.
    failed : callable
        Receives the exception that ended the thread; its present and later frames count as unrecorded.
    """

    def __init__(
        self,
        recording: Recording,
        stage: Stage[Frame],
        ledger: Ledger,
        floor_gb: float,
        *,
        written: Callable[[int, FrameTimes], None],
        stopped: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("record", failed)
        self._recording = recording
        self._stage = stage
        self._ledger = ledger
        self._floor_gb = floor_gb
        self._written = written
        self._stopped = stopped
        self._shard: list[Frame] = []
        self.problem: str | None = None

    def work(self) -> None:
        """Record until the stage has ended."""
        while not self._stage.ended:
            # Frames need not be taken one by one: about four wake-ups a second load the processor less.
            room = self._recording.shard_frames - len(self._shard)
            self._shard += self._stage.take(room, timeout_s=_GATHER_S, gather_s=_GATHER_S)
            if len(self._shard) == self._recording.shard_frames or (self._shard and self._stage.ended):
                self._keep_shard()

    def drain(self) -> None:
        """Count the present and all later frames as unrecorded."""
        while True:
            self._leave([frame.index for frame in self._shard])
            if self._stage.ended:
                return
            self._shard = self._stage.take(self._recording.shard_frames, timeout_s=_GATHER_S)

    def _keep_shard(self) -> None:
        if self.problem is None:
            self._write()
        else:
            self._leave([frame.index for frame in self._shard])

    def _write(self) -> None:
        frames = FrameTimes.of((frame.index for frame in self._shard), (frame.time_s for frame in self._shard))
        first_plane = self._recording.frames
        try:
            check_free_space(self._recording.path.parent, self._floor_gb)
            self._recording.append([frame.pixels for frame in self._shard], frames)
        except Exception as error:  # noqa: BLE001  a full or vanished disk must not end the run
            self.problem = f"Recording stopped after {first_plane} frames: {error}"
            self._leave(frames.numbers.tolist())
            self._stopped(self.problem)
        else:
            self._written(first_plane, frames)
            self._shard = []

    def _leave(self, numbers: list[int]) -> None:
        self._shard = []
        self._ledger.leave_unrecorded(numbers)
