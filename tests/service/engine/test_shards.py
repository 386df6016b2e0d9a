from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine import recorder
from service.engine.recorder import Recording
from service.engine.shards import GrowingShape, frame_compressor, write_series, write_shard
from service.store.frames import FrameTimes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 7), st.integers(0, 20), st.integers(1, 9), st.sampled_from([(1, 1), (3, 5), (16, 24)]))
def test_zarr_reads_what_is_written(tmp_path_factory: Any, capacity: int, count: int, chunk: int, shape: Any) -> None:
    """Any number of frames in shards of any size, and their numbers in chunks that do not fit them."""
    path = tmp_path_factory.mktemp("shards") / "run.ome.zarr"
    pixels = np.random.default_rng(count).integers(0, 4096, (count, *shape), np.uint16)
    pixels[1::3] = 0  # zarr-python leaves out empty chunks; a reader must not mind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "_LOG_CHUNK", chunk)
        recording = Recording(path, shape, 0.65, 0.01, capacity, {})
        for first in range(0, count, capacity):
            part = range(first, min(first + capacity, count))
            recording.append([pixels[n] for n in part], FrameTimes.of((3 * n for n in part), (n / 8 for n in part)))
            group = zarr.open_group(str(path), mode="r")
            assert group["0"].shape[0] == part.stop
    group = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(group["0"][:], pixels)
    np.testing.assert_array_equal(group["frame"][:], 3 * np.arange(count))
    np.testing.assert_array_equal(group["time_s"][:], np.arange(count) / 8)


def test_zarr_can_go_on_with_what_is_written(tmp_path: Path) -> None:
    """Metadata and files are plain Zarr: another program may append a shard."""
    recording = Recording(tmp_path / "run.ome.zarr", (4, 6), 0.65, 0.01, 2, {})
    pixels = np.arange(96, dtype=np.uint16).reshape(4, 4, 6)
    recording.append(list(pixels[:2]), FrameTimes.of([0, 1], [0.0, 0.1]))
    image = zarr.open_array(str(recording.path / "0"), mode="r+")
    image.append(pixels[2:])
    np.testing.assert_array_equal(zarr.open_array(str(recording.path / "0"), mode="r")[:], pixels)


def test_a_damaged_table_is_noticed_by_the_reader(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "run.ome.zarr", (4, 6), 0.65, 0.01, 2, {})
    recording.append([np.ones((4, 6), np.uint16)], FrameTimes.of([0], [0.0]))
    (shard,) = (path for path in (recording.path / "0" / "c").rglob("*") if path.is_file())
    raw = bytearray(shard.read_bytes())
    raw[-6] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(str(recording.path / "0"), mode="r")[:]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    (tmp_path / "zarr.json").write_text('{"shape": [0, 2, 2]}')
    frame = np.ones((2, 2), np.uint16)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path, 0, [frame], 1, frame_compressor())
    with pytest.raises(OSError, match="No space"):
        write_series(tmp_path, 0, np.arange(3), np.zeros(4, np.int64))
    with pytest.raises(OSError, match="No space"):
        GrowingShape(tmp_path).grow(1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["zarr.json"]
    assert (tmp_path / "zarr.json").read_text() == '{"shape": [0, 2, 2]}'
