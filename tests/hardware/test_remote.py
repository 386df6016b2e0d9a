"""Movies read from an S3 server, and the URLs of places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hardware.microscope import MicroscopeError
from hardware.movies import open_movie
from hardware.remote import RemoteAway, RemoteFolder, place_of_url, url_of
from service.engine.recorder import Recording
from service.store.frames import FrameTimes
from tests.s3_server import BUCKET, S3Server

SHARD = 8
FRAMES = 2 * SHARD + 3


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server = S3Server(monkeypatch)
    yield server
    server.close()


def pixels() -> Any:
    return np.random.default_rng(1).poisson(200, (FRAMES, 16, 24)).astype(np.uint16)


@pytest.fixture
def url(server: S3Server, tmp_path: Path) -> str:
    """A recording on the server."""
    recording = Recording(tmp_path / "run.ome.zarr", (16, 24), 0.65, 0.01, SHARD, {})
    for first in range(0, FRAMES, SHARD):
        part = pixels()[first : first + SHARD]
        numbers = range(first, first + len(part))
        recording.append([*part], FrameTimes.of(numbers, [0.01 * number for number in numbers]))
    server.files.put(str(tmp_path / "run.ome.zarr"), f"{BUCKET}/scope/run.ome.zarr", recursive=True)
    return f"s3://{BUCKET}/scope/run.ome.zarr"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_movie_by_its_url(url: str, kind: Any) -> None:
    with open_movie(kind(url)) as movie:
        assert movie.shape == (FRAMES, 16, 24)
        assert movie.pixel_size_um == pytest.approx(0.65)
        assert movie.frame_period_s == pytest.approx(0.01)
        np.testing.assert_array_equal(movie.read(5, 11), pixels()[5:11])
        np.testing.assert_array_equal(movie[FRAMES - 1], pixels()[-1])


def test_a_bare_array_without_shards(server: S3Server) -> None:
    options = {"endpoint_url": f"http://127.0.0.1:{server.port}"}
    array = zarr.create_array(
        f"s3://{BUCKET}/bare.zarr", shape=(3, 8, 8), chunks=(1, 8, 8), dtype="uint16", storage_options=options
    )
    array[:] = 7
    with open_movie(f"s3://{BUCKET}/bare.zarr") as movie:
        assert movie.read_whole().tolist() == np.full((3, 8, 8), 7).tolist()
    server.files.rm(f"{BUCKET}/bare.zarr/c/1/0/0")
    with pytest.raises(MicroscopeError, match=r"1 of its chunks \(the first: s3://lab/bare.zarr/c/1/0/0\)"):
        open_movie(f"s3://{BUCKET}/bare.zarr")


def test_a_missing_or_damaged_shard_is_an_error(url: str, server: S3Server) -> None:
    server.files.rm(f"{BUCKET}/scope/run.ome.zarr/0/c/1/0/0")
    with pytest.raises(MicroscopeError, match=r"1 of its chunks \(the first: s3://lab/scope/run.ome.zarr/0/c/1/0/0\)"):
        open_movie(url)
    server.put("scope/run.ome.zarr/0/c/1/0/0", b"cut")
    with pytest.raises(MicroscopeError, match="8 of its chunks"):
        open_movie(url)


def test_a_server_that_is_away_is_told(url: str, server: S3Server) -> None:
    with open_movie(url) as movie:
        server.go_away()
        with pytest.raises(RemoteAway, match="Check the network"):
            movie.read(0, 1)
    with pytest.raises(RemoteAway, match="Check the network"):
        open_movie(url)
    server.come_back()
    with pytest.raises((MicroscopeError, RemoteAway), match=r"none.ome.zarr"):
        open_movie(f"s3://{BUCKET}/none.ome.zarr")
    with pytest.raises(RemoteAway, match="Make the bucket"):
        RemoteFolder("s3://no-such-bucket/x").sizes()


def test_without_its_library_a_url_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware.remote.importlib.util.find_spec", lambda _: None)
    with pytest.raises(RemoteAway, match=r"pip install 'bathyscope\[remote\]'"):
        open_movie("s3://lab/run.ome.zarr")


def test_urls_and_paths_are_told_apart() -> None:
    assert place_of_url("s3://lab/a/") == "s3://lab/a"
    assert place_of_url("/mnt/a b") == Path("/mnt/a b")
    assert place_of_url("file:///mnt/a%20b") == Path("/mnt/a b")
    assert url_of(Path("s3://lab/a")) == "s3://lab/a"
    assert url_of(Path("/s3:/lab/a")) is None
    with pytest.raises(ValueError, match="places are folders"):
        place_of_url("https://lab/a")
