"""Benchmark of recording: ``python -m evaluation.speed.recording_cost``.

Prints processor time and size per frame of the reference scene's noise (12-bit
camera, 20 emitters), for codecs that every Zarr reader has, and for compressing
and writing with the codec that is used.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from models.scene import reference_camera, reference_scene
from service.engine.recorder import Recording
from service.store.frames import FrameTimes

_SIDES = (256, 512)
_SHARD = 64
_SHARDS = 5
_CODECS = tuple(itertools.product(("lz4", "zstd"), (1, 5), (Blosc.BITSHUFFLE, Blosc.SHUFFLE, Blosc.NOSHUFFLE)))
_SHUFFLES = {Blosc.BITSHUFFLE: "bits", Blosc.SHUFFLE: "bytes", Blosc.NOSHUFFLE: "none"}


def _frames(side: int) -> list[NDArray[np.uint16]]:
    scene, camera = reference_scene((side, side), 20, seed=1), reference_camera()
    return [camera.expose(scene.render(n / 100, 0.01, 0.0), n) for n in range(_SHARD)]


def _milliseconds(work: Callable[[], None], times: int) -> float:
    work()
    begin_s = time.process_time()
    for _ in range(times):
        work()
    return 1e3 * (time.process_time() - begin_s) / times / _SHARD


def _encode(codec: Blosc, frames: list[NDArray[np.uint16]]) -> None:
    for frame in frames:
        codec.encode(frame)


def _print_costs(side: int, folder: Path) -> None:
    frames = _frames(side)
    for name, level, shuffle in _CODECS:
        codec = Blosc(name, level, shuffle, typesize=2)
        cost = _milliseconds(partial(_encode, codec, frames), 2)
        ratio = sum(frame.nbytes for frame in frames) / sum(len(codec.encode(frame)) for frame in frames)
        print(f"{side:>5} {name:>6} {level:>6} {_SHUFFLES[shuffle]:>8} {ratio:>7.2f} {cost:>9.3f}")
    recording = Recording(folder / f"{side}.ome.zarr", (side, side), 0.65, 0.01, _SHARD, {})
    numbers = range(_SHARD)
    cost = _milliseconds(lambda: recording.append(frames, FrameTimes.of(numbers, numbers)), _SHARDS)
    print(f"{side:>5}  compressing and writing{cost:>20.3f}")


def main() -> None:
    """Measure and print."""
    print(f"{'side':>5} {'codec':>6} {'level':>6} {'shuffle':>8} {'ratio':>7} {'ms/frame':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for side in _SIDES:
            _print_costs(side, Path(folder))


if __name__ == "__main__":
    main()
