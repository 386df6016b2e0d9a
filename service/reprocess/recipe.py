"""What a reprocessing computes: which frames of a recording, with which model and settings, in which blocks.

The localizations of a frame depend on its image and its static light, and on no
other frame, so blocks of frames are localized in any order, by several
processes. A block is a number of whole shards of the recording, which are its
files, so no two processes read the same file. Blocks need no overlap: the
tracks are linked once, over all frames in their order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.background.mode import StaticLightMode
from models.model_files import DESCRIPTION, PSF, WEIGHTS
from service.store.frames import FrameTimes, RecordedFrames

__all__ = ["BLOCK_FRAMES", "Block", "Recipe", "blocks_of", "frames_digest", "in_order", "model_digest"]

BLOCK_FRAMES = 256
"""Least number of planes of a block: some seconds of work, so that the time between two blocks does not count."""

_PLACES = ("recording", "model")
"""Fields that say where something is: the same files may be mounted in another place."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring frames: `rows` of them from `first` on, in the order of the frames."""

    number: int
    first: int
    rows: int

    @property
    def part(self) -> slice:
        """Its rows."""
        return slice(self.first, self.first + self.rows)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the results depend on. All workers see `recording` and `model` at these paths.

    Attributes
    ----------
    run : id of the run, or name of the recording
    recording : folder of the image, or its URL; ends in ``.ome.zarr``
    model : folder of the model
    model_id, model_sha256 : of the model; see `model_digest`
    tracking : see `TrackingPart.record`
    static_light : whether light that stands still is removed
    device : that the network runs on
    start_s : zero of the times of tracks, s
    frames_sha256 : see `frames_digest`
    blocks : of all frames
    version : of Bathyscope; workers of another version refuse the work
    """

    run: str
    recording: str
    model: str
    model_id: str
    model_sha256: str
    tracking: dict[str, Any]
    static_light: StaticLightMode
    device: str
    start_s: float
    frames_sha256: str
    blocks: tuple[Block, ...]
    version: str

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(block.rows for block in self.blocks)

    @property
    def digest(self) -> str:
        """SHA-256 digest of all that the results depend on."""
        values = {name: value for name, value in self.values().items() if name not in _PLACES}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Self:
        """From the result of `values`, or from JSON of it."""
        return cls(**{**values, "blocks": tuple(Block(**block) for block in values["blocks"])})


def blocks_of(planes: NDArray[np.int64], shard_frames: int, least: int = BLOCK_FRAMES) -> tuple[Block, ...]:
    """Blocks of whole shards, of `least` planes or more.

    Parameters
    ----------
    planes : ndarray of int64, shape (N,)
        Plane of each frame, in the order of the frames.
    shard_frames : int
        Planes in one file of the recording.
    least : int
    """
    if not len(planes):
        return ()
    of_block = planes // (-(-least // shard_frames) * shard_frames)
    firsts = np.flatnonzero(np.diff(of_block, prepend=of_block[0] - 1))
    rows = np.diff(firsts, append=len(planes))
    return tuple(Block(n, int(first), int(count)) for n, (first, count) in enumerate(zip(firsts, rows, strict=True)))


def in_order(recorded: RecordedFrames) -> RecordedFrames:
    """The frames by rising number."""
    order = np.argsort(recorded.frames.numbers, kind="stable")
    frames = recorded.frames
    return RecordedFrames(recorded.planes[order], FrameTimes(frames.numbers[order], frames.times_s[order]))


def frames_digest(recorded: RecordedFrames) -> str:
    """SHA-256 digest of numbers, times and planes."""
    digest = hashlib.sha256()
    for values in (recorded.frames.numbers, recorded.frames.times_s, recorded.planes):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def model_digest(folder: Path) -> str:
    """SHA-256 digest of the description, the weights and the PSF of a model."""
    digest = hashlib.sha256()
    for path in (folder / DESCRIPTION, folder / WEIGHTS, *sorted((folder / PSF).rglob("*"))):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()
