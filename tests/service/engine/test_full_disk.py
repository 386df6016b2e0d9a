"""A disk that is really full: a small file system in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from service.engine.recorder import Recording
from service.engine.run import RunRequest
from service.store.frames import FrameTimes
from tests.service.engine.test_run import Rig, finish, wait_for
from tests.service.engine_samples import PIXEL_UM, SHAPE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, exposure_s=0.01)
    yield rig
    rig.close()


@pytest.mark.parametrize(
    ("floor_gb", "reason"), [(0.0, "No space left on device"), (0.0001, "a recording leaves at least 0.0001 GB")]
)
def test_a_disk_that_fills_ends_the_recording_and_nothing_else(
    rig: Rig, small_disk: Path, floor_gb: float, reason: str
) -> None:
    rig.recording_folder = small_disk
    run = rig.run(RunRequest(record=True), free_space_floor_gb=floor_gb, analysis_queue=1, batch=1)
    run.start()
    wait_for(lambda: rig.events)
    rig.localizer.gate.clear()  # from here on all are late, and none of them can be deferred
    before = run.ledger.counts()
    wait_for(lambda: run.ledger.counts().grabbed > before.grabbed + 32)
    assert run.ledger.counts().balances
    rig.localizer.gate.set()
    wait_for(lambda: run.ledger.counts().analysed > before.analysed + 2)
    counts = finish(run)
    assert counts.recorded + counts.unrecorded == counts.grabbed
    assert 0 < counts.recorded < counts.grabbed
    assert counts.skipped >= 30

    committed = rig.store.frames.committed(run.id)
    assert len(committed) == counts.recorded
    group = zarr.open_group(str(small_disk / "dots.ome.zarr"), mode="r")
    assert group["0"].shape == (counts.recorded, *SHAPE)
    assert (group["0"][:].max(axis=(1, 2)) > 400).all()
    np.testing.assert_array_equal(group["frame"][: counts.recorded], committed)
    known = np.concatenate([batch.frames.numbers for batch in rig.store.frames.analysed(run.id)])
    # What is called deferred is what can be read and was not analysed, to the frame.
    assert counts.deferred == len(np.setdiff1d(committed, known))
    assert not list(small_disk.rglob("*.partial"))

    ((kind, message),) = rig.events
    assert kind == "recording_stopped"
    assert f"Recording stopped after {counts.recorded} frames" in message
    assert reason in message
    item = rig.store.runs.get(run.id)
    assert item.state == "finished"
    assert reason in (item.problem or "")
    assert item.ledger == counts.as_dict()


def test_a_recording_goes_on_being_readable_when_its_last_shard_did_not_fit(small_disk: Path) -> None:
    recording = Recording(small_disk / "dots.ome.zarr", SHAPE, PIXEL_UM, 0.005, 16, {})
    noise = np.random.default_rng(1).integers(0, 2**16, (16, *SHAPE), np.uint16)
    with pytest.raises(OSError, match="No space left"):
        fill(recording, noise)
    image = zarr.open_array(str(recording.path / "0"), mode="r")
    assert image.shape[0] == recording.frames > 0
    np.testing.assert_array_equal(image[-16:], noise)


def fill(recording: Recording, noise: np.ndarray) -> None:
    while True:
        numbers = range(recording.frames, recording.frames + len(noise))
        recording.append(list(noise), FrameTimes.of(numbers, numbers))
