"""A recording that another process reads, with zarr and lazily with dask, while the recorder writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.microscope import Frame
from service.engine.ledger import Ledger
from service.engine.recorder import Recorder, Recording
from service.engine.stages import Stage
from tests.conftest import need
from tests.service.engine_samples import PIXEL_UM

SHARD, SHARDS = 8, 60
SHAPE = (32, 48)

READER = """
import json, sys, time
import numpy as np
import zarr

path, frames, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng, sizes, wrong = np.random.default_rng(1), [], []
print("reading", flush=True)
first = None
while not sizes or sizes[-1] < frames:
    if kind == "dask":
        import dask.array
        image = dask.array.from_zarr(path, component="0")
    else:
        image = zarr.open_group(path, mode="r")["0"]
    count = image.shape[0]
    if first is None and count:
        first = image
    if not sizes or count > sizes[-1]:
        sizes.append(count)
        print(count, flush=True)
    numbers = zarr.open_array(path + "/frame", mode="r")
    if numbers.shape[0] < count:
        wrong.append(f"{count} planes and {numbers.shape[0]} numbers")
    for plane in {count - 1, int(rng.integers(count))} if count else ():
        pixels = np.asarray(image[plane])
        if not (pixels == 3 * plane + 1).all() or numbers[plane] != 2 * plane:
            wrong.append(f"plane {plane} of {count}")
if np.asarray(first[0]).max() != 1:
    wrong.append("the image that was opened first")
print(json.dumps({"sizes": sizes, "wrong": wrong}), flush=True)
"""


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_another_process_sees_the_image_grow_and_no_frame_that_is_not_there(tmp_path: Path, kind: str) -> None:
    if kind == "dask":
        need("distributed")  # the extra that brings dask
    recording = Recording(tmp_path / "run.ome.zarr", SHAPE, PIXEL_UM, 0.01, SHARD, {"run": "run"})
    command = [sys.executable, "-c", READER, str(recording.path), str(SHARD * SHARDS), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        said = record(recording, reader.stdout)
        found = json.loads(reader.stdout.readlines()[-1])
    assert said
    assert found["wrong"] == []
    assert len(found["sizes"]) > 3
    assert all(size % SHARD == 0 for size in found["sizes"])
    assert found["sizes"] == sorted(found["sizes"])


def record(recording: Recording, reader: Any) -> list[int]:
    """Record all frames; at four places wait until the reader has seen what is written. What it had seen there."""
    ledger, stage, seen = Ledger(recording=True), Stage[Frame](SHARD * SHARDS), []
    recorder = Recorder(
        recording,
        stage,
        ledger,
        0.0,
        written=lambda _, frames: ledger.record(frames.numbers.tolist()),
        stopped=pytest.fail,
        failed=lambda error: pytest.fail(str(error)),
    )
    recorder.start()
    for plane in range(SHARD * SHARDS):
        ledger.grab(2 * plane)
        pixels = np.full(SHAPE, 3 * plane + 1, np.uint16)
        assert stage.offer(Frame(pixels, 2 * plane, 0.01 * plane, "simulation", 0.0))
        if plane % (SHARD * SHARDS // 4) == SHARD:
            while not (line := reader.readline().strip()).isdigit() or int(line) < plane - SHARD:
                assert line, "the reader has ended"
            seen.append(int(line))
    stage.close()
    recorder.join(60)
    assert recorder.problem is None
    return seen
