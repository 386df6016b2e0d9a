from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from evaluation.speed.kills import Aftermath, inspect_recording
from models.errors import DataError
from service.engine.recorder import Recording
from service.store.frames import FrameTimes
from service.store.store import Store

SHARD, PERIOD_S = 4, 0.01


def played(number: int) -> np.ndarray:
    return np.full((8, 8), 100 + number, np.uint16)


@pytest.fixture
def recorded(tmp_path: Path) -> Store:
    """Three shards of four frames, of which the first two are committed; frame 2 was lost by the camera."""
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    store.runs.create(run_id="run", model_id="m", record=True, recording="run.ome.zarr")
    recording = Recording(tmp_path / "run.ome.zarr", (8, 8), 0.65, PERIOD_S, SHARD, {})
    numbers = [0, 1, *range(3, 13)]
    for first in range(0, 12, SHARD):
        shard = numbers[first : first + SHARD]
        frames = FrameTimes.of(shard, [50.0 + (number + 0.5) * PERIOD_S for number in shard])
        recording.append([played(number) for number in shard], frames)
        if first < 8:
            store.frames.commit("run", [(first, frames)])
    return store


def inspect(store: Store, folder: Path) -> Aftermath:
    return inspect_recording(
        store, folder, "run", expected=played, shard_frames=SHARD, period_s=PERIOD_S, killed_s=50.205
    )


def test_committed_frames_are_read_and_exposures_follow_from_the_times(recorded: Store, tmp_path: Path) -> None:
    aftermath = inspect(recorded, tmp_path)
    assert aftermath == Aftermath(committed=8, not_readable=0, unreadable_shards=0, exposed=20)
    assert aftermath.lost == 12
    recorded.close()


def test_a_damaged_shard_and_wrong_pixels_are_found(recorded: Store, tmp_path: Path) -> None:
    damaged = tmp_path / "run.ome.zarr" / "0" / "c" / "0" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    aftermath = inspect(recorded, tmp_path)
    assert dataclasses.replace(aftermath, exposed=0) == Aftermath(8, 4, 1, 0)
    recorded.close()


def test_a_run_without_committed_frames_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    store.runs.create(run_id="run", model_id="m", record=True, recording="run.ome.zarr")
    with pytest.raises(DataError, match="had committed nothing"):
        inspect(store, tmp_path)
    store.runs.create(run_id="bare", model_id="m", record=False)
    with pytest.raises(DataError, match="has no recording"):
        inspect_recording(store, tmp_path, "bare", expected=played, shard_frames=4, period_s=PERIOD_S, killed_s=0.0)
    store.close()
