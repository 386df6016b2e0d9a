from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hardware.microscope import Frame
from hardware.movies import open_movie
from models.errors import DataError
from service.engine.ledger import Ledger
from service.engine.recorder import Recorder, Recording, check_free_space
from service.engine.stages import Stage
from service.store.frames import FrameTimes
from tests.service.engine_samples import PIXEL_UM

SHARD = 8


def frames(count: int, step: Any = 1) -> Any:
    random = np.random.default_rng(1)
    return [
        Frame(random.poisson(200, (16, 24)).astype(np.uint16), step * n, 100.0 + 0.01 * step * n, "simulation", 0.0)
        for n in range(count)
    ]


@pytest.fixture
def recording(tmp_path: Path) -> Any:
    return Recording(tmp_path / "run.ome.zarr", (16, 24), PIXEL_UM, 0.01, SHARD, {"run": "run"})


def record(recording: Recording, given: Any, floor_gb: float = 0.0) -> Any:
    ledger, stage = Ledger(recording=True), Stage(1000)
    written, stopped, failed = [], [], []

    def confirm(first_plane: int, its: FrameTimes) -> None:
        written.append((first_plane, its.numbers.tolist()))
        ledger.record(its.numbers.tolist())

    recorder = Recorder(
        recording, stage, ledger, floor_gb, written=confirm, stopped=stopped.append, failed=failed.append
    )
    recorder.start()
    for frame in given:
        ledger.grab(frame.index)
        assert stage.offer(frame)
    stage.close()
    recorder.join(30)
    assert not recorder.is_alive()
    assert [number for _, numbers in written for number in numbers] == [
        frame.index for frame in given[: ledger.counts().recorded]
    ]
    assert [plane for plane, _ in written] == list(range(0, ledger.counts().recorded, SHARD))
    assert failed == []
    assert stopped == ([] if recorder.problem is None else [recorder.problem])
    return recorder, ledger.counts()


@pytest.mark.parametrize("count", [0, 1, SHARD - 1, SHARD, 3 * SHARD, 3 * SHARD + 5])
def test_a_stop_in_mid_shard_loses_nothing(recording: Recording, count: int) -> None:
    given = frames(count, step=2)
    _, counts = record(recording, given)
    assert counts.recorded == count
    group = zarr.open_group(str(recording.path), mode="r")
    assert group["0"].shape == (count, 16, 24)
    if count:
        np.testing.assert_array_equal(group["0"][:], [frame.pixels for frame in given])
        np.testing.assert_array_equal(group["frame"][:count], [frame.index for frame in given])
        np.testing.assert_array_equal(group["time_s"][:count], [frame.time_s for frame in given])
    shards = [path for path in (recording.path / "0" / "c").rglob("*") if path.is_file()]
    assert len(shards) == -(-count // SHARD)


def test_the_movie_reader_of_the_product_reads_it(recording: Recording) -> None:
    given = frames(SHARD + 3)
    record(recording, given)
    movie = open_movie(recording.path)
    try:
        assert len(movie) == SHARD + 3
        assert movie.pixel_size_um == pytest.approx(PIXEL_UM)
        assert movie.frame_period_s == pytest.approx(0.01)
        np.testing.assert_array_equal(movie[SHARD + 2], given[-1].pixels)
    finally:
        movie.close()


def test_readers_never_see_frames_that_are_not_there(recording: Recording) -> None:
    given = frames(20 * SHARD)
    wrong, ended = [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            array = zarr.open_array(str(recording.path / "0"), mode="r")
            if array.shape[0] and not array[-1].any():
                wrong.append(array.shape[0])

    reader = threading.Thread(target=read)
    reader.start()
    record(recording, given)
    ended.set()
    reader.join()
    assert wrong == []


class Killed(BaseException):
    """Stands for the death of the process at a write."""


def readable(path: Path, given: Any) -> int:
    """How many planes a reader finds; each must be there, with its number and time, and pixels that are right."""
    group = zarr.open_group(str(path), mode="r")
    count = int(group["0"].shape[0])
    for plane in range(count):
        np.testing.assert_array_equal(group["0"][plane], given[plane].pixels)
    assert min(group["frame"].shape[0], group["time_s"].shape[0]) >= count
    for name, values in (("frame", [f.index for f in given]), ("time_s", [f.time_s for f in given])):
        length = group[name].shape[0]
        np.testing.assert_array_equal(group[name][:length], values[:length])
    return count


def test_a_recording_is_whole_after_every_single_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any file it puts in place: what is announced is there. This is the order data, logs, image."""
    given, replace, counts = frames(2 * SHARD + 3), os.replace, []
    for kill_after in range(100):
        recording = Recording(tmp_path / f"{kill_after}.ome.zarr", (16, 24), PIXEL_UM, 0.01, SHARD, {})
        writes = []

        def write(source: Path, target: Path, writes: list[Path] = writes, last: int = kill_after) -> None:
            if len(writes) == last:
                raise Killed
            replace(source, target)
            writes.append(target)

        with monkeypatch.context() as patch:
            patch.setattr("service.engine.shards.os.replace", write)
            try:
                for first in range(0, len(given), SHARD):
                    shard = given[first : first + SHARD]
                    its = FrameTimes.of((f.index for f in shard), (f.time_s for f in shard))
                    recording.append([f.pixels for f in shard], its)
            except Killed:
                pass
        counts.append(readable(recording.path, given))
        if len(writes) < kill_after:
            break
    assert counts[-1] == len(given)
    assert counts == sorted(counts)
    assert set(counts) == {0, SHARD, 2 * SHARD, len(given)}
    # A shard, its numbers and times, and three shapes are put in place for each append.
    assert len(counts) == 3 * 6 + 2


def test_the_recorder_sleeps_while_frames_gather(recording: Recording) -> None:
    takes = []

    class Watched(Stage[Frame]):
        def take(self, limit: int, timeout_s: float, gather_s: float = 0.0) -> list[Frame]:
            taken = super().take(limit, timeout_s, gather_s)
            takes.append(len(taken))
            return taken

    stage, ledger = Watched(1000), Ledger(recording=True)
    recorder = Recorder(
        recording, stage, ledger, 0.0,
        written=lambda _, its: ledger.record(its.numbers.tolist()), stopped=lambda _: None, failed=lambda _: None,
    )  # fmt: skip
    recorder.start()
    given = frames(5 * SHARD)
    for frame in given:
        ledger.grab(frame.index)
        assert stage.offer(frame)
        time.sleep(0.002)
    stage.close()
    recorder.join(30)
    assert ledger.counts().recorded == len(given)
    # A take ends with a whole shard, after a quarter of a second, or at the end: 5 shards come in less than one second
    # here, and a machine that is ten times slower needs 10 more.
    assert len([count for count in takes if count]) <= 5 + 10


def test_a_recording_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.Group.create_array", full)
    with pytest.raises(OSError, match="No space"):
        Recording(tmp_path / "run.ome.zarr", (16, 24), PIXEL_UM, 0.01, SHARD, {})
    assert not [*tmp_path.iterdir()]


def test_a_recording_never_overwrites_another(recording: Recording) -> None:
    with pytest.raises(FileExistsError):
        Recording(recording.path, (16, 24), PIXEL_UM, 0.01, SHARD, {})
    assert zarr.open_group(str(recording.path), mode="r")["0"].shape == (0, 16, 24)


def test_metadata_say_what_the_axes_are(recording: Recording) -> None:
    attributes = zarr.open_group(str(recording.path), mode="r").attrs.asdict()
    assert attributes["ome"]["version"] == "0.5"
    (scales,) = attributes["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["t", "y", "x"]
    (transform,) = scales["datasets"][0]["coordinateTransformations"]
    assert transform["scale"] == [0.01, PIXEL_UM, PIXEL_UM]
    assert attributes["bathyscope"] == {"run": "run"}


def test_compression_shuffles_bits_of_two_byte_values(recording: Recording) -> None:
    metadata = zarr.open_array(str(recording.path / "0"), mode="r").metadata.to_dict()
    (sharding,) = metadata["codecs"]
    (blosc,) = [codec for codec in sharding["configuration"]["codecs"] if codec["name"] == "blosc"]
    # A lost typesize (numcodecs < 0.16) halves the compression without a word.
    assert blosc["configuration"]["typesize"] == 2
    assert blosc["configuration"]["shuffle"] == "bitshuffle"


def test_a_full_disk_stops_recording_and_counts_the_rest(recording: Recording) -> None:
    recorder, counts = record(recording, frames(2 * SHARD + 1), floor_gb=1e9)
    assert counts.recorded == 0
    assert counts.unrecorded == 2 * SHARD + 1
    assert recorder.problem is not None
    assert "free_space_floor_gb" in recorder.problem


def test_a_nearly_full_disk_is_refused_before_a_run(tmp_path: Path) -> None:
    check_free_space(tmp_path, 0.0)
    with pytest.raises(DataError, match="a recording leaves at least"):
        check_free_space(tmp_path, 1e9)


def test_only_whole_shards_are_appended(recording: Recording) -> None:
    few = [frame.pixels for frame in frames(3)]
    its = FrameTimes.of(range(3), range(3))
    recording.append(few, its)
    with pytest.raises(ValueError, match="not one shard"):
        recording.append(few, its)
