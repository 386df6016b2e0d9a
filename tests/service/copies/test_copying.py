"""One recording copied to an S3 server and to a folder: complete, verified, continued, and never wrong unnoticed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.remote import RemoteAway, RemoteFolder
from models.errors import DataError
from service.copies.copying import CopyProgress, CopyStopped, copy_recording, unlike
from service.copies.journal import CopyJournal
from service.copies.places import CopyPlace, FolderPlace, open_place
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.api_peer import recorded_run


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of two shards, with what a killed recorder left beside it."""
    (tmp_path / "data").mkdir()
    store = Store.open(tmp_path / "data" / "bathyscope.db")
    store.migrate()
    folder = tmp_path / "data" / "recordings" / f"{recorded_run(tmp_path / 'data', store)}.ome.zarr"
    store.close()
    (folder / "0" / "c" / "7").mkdir()
    (folder / "0" / "c" / "7" / "0.partial").write_bytes(b"half a shard")
    return folder


@pytest.fixture(params=["s3", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> CopyPlace:
    if request.param == "s3":
        request.getfixturevalue("server")
        return open_place(f"s3://{BUCKET}/scope")
    (tmp_path / "share").mkdir()
    return open_place(str(tmp_path / "share"))


class Counted:
    """A place that counts what is sent, and may damage it on the way."""

    def __init__(self, place: CopyPlace, damaged: int = 0) -> None:
        self._place = place
        self._damaged = damaged
        self.sent: list[str] = []
        self.url = place.url
        self.check, self.sizes, self.size = place.check, place.sizes, place.size
        self.write, self.sha256 = place.write, place.sha256

    def send(self, source: Path, name: str) -> None:
        self.sent.append(name.partition("/")[2])
        if self._damaged:
            self._damaged -= 1
            self._place.write(name, b"\0" * source.stat().st_size)
        else:
            self._place.send(source, name)


def copy(recording: Path, place: CopyPlace, tmp_path: Path) -> CopyProgress:
    journal = CopyJournal(tmp_path / "copies" / "run.jsonl", f"{place.url}/{recording.name}")
    return copy_recording(recording, place, journal, lambda _: None)


def content_of(place: CopyPlace, name: str) -> bytes:
    return RemoteFolder(place.url).read(name) if place.url.startswith("s3:") else (Path(place.url) / name).read_bytes()


def names(recording: Path) -> set[str]:
    files = (path for path in recording.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {path.relative_to(recording).as_posix() for path in files}


def test_all_files_are_there_with_a_list_of_their_digests(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    done = copy(recording, place, tmp_path)
    here = {f"{recording.name}/{name}": (recording / name).read_bytes() for name in names(recording)}
    assert place.sizes(recording.name) == {name: len(content) for name, content in here.items()}
    content = content_of(place, f"{recording.name}.sha256").decode()
    listed = dict(reversed(line.split("  ")) for line in content.splitlines())
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in here.items()}
    assert listed == {name: place.sha256(name) for name in here}
    assert (done.files, done.done_files, done.bytes) == (len(here), len(here), sum(map(len, here.values())))
    assert done.sent_bytes == done.bytes
    assert unlike(recording, place) is None


def test_sha256sum_reads_the_list(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    copy(recording, FolderPlace(tmp_path / "share"), tmp_path)
    command = ["sha256sum", "--check", "--strict", f"{recording.name}.sha256"]
    assert subprocess.run(command, cwd=tmp_path / "share", capture_output=True, check=False).returncode == 0


def test_what_is_there_is_not_sent_again(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    copy(recording, place, tmp_path)
    again = Counted(place)
    assert copy(recording, again, tmp_path).sent_bytes == 0
    (tmp_path / "copies" / "run.jsonl").unlink()  # the record is lost: digests are read back instead
    assert copy(recording, again, tmp_path).sent_bytes == 0
    assert again.sent == []


def test_a_file_that_is_missing_or_differs_there_is_sent_again(
    recording: Path, place: CopyPlace, tmp_path: Path
) -> None:
    copy(recording, place, tmp_path)
    (tmp_path / "copies" / "run.jsonl").unlink()
    size = (recording / "0/c/0/0/0").stat().st_size
    place.write(f"{recording.name}/0/c/0/0/0", b"x" * size)  # the same size
    place.write(f"{recording.name}/0/zarr.json", b"short")
    assert (
        unlike(recording, place)
        == f"0/zarr.json has 5 bytes there, and {(recording / '0/zarr.json').stat().st_size} here"
    )
    again = Counted(place)
    copy(recording, again, tmp_path)
    assert again.sent == ["0/c/0/0/0", "0/zarr.json"]
    assert unlike(recording, place) is None


def test_a_copy_that_was_stopped_is_continued(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    journal = CopyJournal(tmp_path / "copies" / "run.jsonl", f"{place.url}/{recording.name}")
    seen: list[CopyProgress] = []
    with pytest.raises(CopyStopped):
        copy_recording(recording, place, journal, seen.append, lambda: len(seen) == 3)
    assert unlike(recording, place) == f"{recording.name}.sha256 is missing there"
    with (tmp_path / "copies" / "run.jsonl").open("a") as file:
        file.write('\n{"name": "cut by a ki')
    again = Counted(place)
    done = copy(recording, again, tmp_path)
    assert len(again.sent) == done.files - 3
    assert unlike(recording, place) is None


def test_what_was_damaged_on_the_way_is_sent_again(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    noisy = Counted(place, damaged=2)
    copy(recording, noisy, tmp_path)
    assert noisy.sent[:3] == [noisy.sent[0]] * 3
    assert unlike(recording, place) is None


def test_a_place_that_damages_all_is_an_error(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sent 3 times"):
        copy(recording, Counted(place, damaged=100), tmp_path)
    assert place.size(f"{recording.name}.sha256") is None


def test_a_recording_that_changes_or_cannot_be_read_is_an_error(
    recording: Path, place: CopyPlace, tmp_path: Path
) -> None:
    class Slow(Counted):
        def send(self, source: Path, name: str) -> None:
            super().send(source, name)
            os.utime(source, (1, 1))

    with pytest.raises(DataError, match="changed while it was copied"):
        copy(recording, Slow(place), tmp_path)
    with pytest.raises(DataError, match="There is no recording"):
        copy(recording.with_name("none.ome.zarr"), place, tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_error(recording: Path, place: CopyPlace, tmp_path: Path) -> None:
    (recording / "0/c/0/0/0").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        copy(recording, place, tmp_path)


def test_a_server_that_is_away_says_so(recording: Path, server: S3Server, tmp_path: Path) -> None:
    server.go_away()
    with pytest.raises(RemoteAway, match="Check the network"):
        copy(recording, open_place(f"s3://{BUCKET}/scope"), tmp_path)
    server.come_back()
    with pytest.raises(RemoteAway, match="Make the bucket"):
        copy(recording, open_place("s3://no-such-bucket/scope"), tmp_path)


def test_missing_keys_are_named(server: S3Server) -> None:
    """In a process of its own, because the clients of this one have keys."""
    code = f"from service.copies.places import open_place; open_place('s3://{BUCKET}/scope').check()"
    keyless = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    keyless |= {
        "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": "/none",
    }
    done = subprocess.run([sys.executable, "-c", code], env=keyless, capture_output=True, text=True, check=False)
    assert "Set AWS_ACCESS_KEY_ID" in done.stderr


def test_a_folder_is_not_made(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(RemoteAway, match="Mount its share"):
        copy(recording, open_place(str(tmp_path / "share")), tmp_path)
    assert not (tmp_path / "share").exists()


@pytest.mark.parametrize("url", ["ftp://host/folder", "s3://", "s3://Not A Bucket/x", "file://host/share"])
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(DataError, match="not understood"):
        open_place(url)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert open_place(tmp_path.as_uri()).url == str(tmp_path)
