"""Recordings of a data directory copied, verified, and freed; the place away, and wrong recordings."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np
import pytest

from hardware.remote import RemoteAway
from models.errors import DataError
from service.copies import copier as module
from service.copies.copier import COPIES, Copier
from service.copies.mark import MARK
from service.copies.status import CopiesStatus, read_status
from service.files.recording import RecordedImage, place_of_recording
from service.files.retention import RetentionPlan, apply_retention, plan_retention
from service.files.run_removal import RunRemover, nobody
from service.settings import RetentionPart
from service.store.errors import InUse
from service.store.recording_copy import RecordingCopy
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.api_peer import RECORDED, recorded_counts, recorded_run

URL = f"s3://{BUCKET}/scope"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    yield store
    store.close()


def copy_of(store: Store, run: str) -> RecordingCopy:
    found = store.runs.get(run).recording_copy
    assert found is not None
    return found


def kinds(store: Store) -> list[str]:
    return [event.kind for event in reversed(store.events.list().items)]


def free(store: Store, folder: Path) -> RetentionPlan:
    """Apply the rule that every ended run is too old."""
    remover = RunRemover(store, folder, nobody)
    plan = plan_retention(store, folder, RetentionPart(keep_days=1e-9), remover, copied=True)
    done = apply_retention(plan, remover, store, folder)
    for _ in remover.work():
        pass
    return done


def assert_all_frames(store: Store, folder: Path, run: str) -> None:
    image = RecordedImage(place_of_recording(folder, store.runs.get(run)))
    for plane, number in enumerate(RECORDED):
        np.testing.assert_array_equal(image.plane(plane), recorded_counts(number))
    assert image.recorded().frames.numbers.tolist() == list(RECORDED)


def test_a_recording_is_copied_freed_and_still_read(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    open_run = store.runs.create(model_id="m", record=True, recording="recordings/open.ome.zarr")
    copier = Copier(store, tmp_path, URL)
    copier.copy_due()
    found = copy_of(store, run)
    assert (found.state, found.url) == ("verified", f"{URL}/{run}.ome.zarr")
    assert found.files == found.done_files > 5
    assert found.freed_at is None
    assert store.runs.get(open_run.id).recording_copy is None
    assert copier.figures.verified_recordings == 1
    assert copier.figures.sent_bytes == found.bytes

    done = free(store, tmp_path)
    assert [(item.run_id, item.part) for item in done.delete] == [(run, "local")]
    assert not (tmp_path / "recordings" / f"{run}.ome.zarr").exists()
    assert copy_of(store, run).freed_at is not None
    assert store.runs.get(run).recording == f"recordings/{run}.ome.zarr"
    assert_all_frames(store, tmp_path, run)
    assert free(store, tmp_path).delete == []
    assert kinds(store) == ["recording_copied", "recording_freed"]
    copier.copy_due()
    assert copier.figures.verified_recordings == 1


def test_nothing_is_freed_before_it_is_verified(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    kept = free(store, tmp_path).keep
    assert [(item.run_id, item.reason) for item in kept] == [(run, "its recording has no verified copy yet")]
    with pytest.raises(InUse, match="no verified copy"):
        RunRemover(store, tmp_path, nobody).remove(run, "local", "by hand")
    whole = RetentionPart(keep_days=1e-9, what="run")
    assert plan_retention(store, tmp_path, whole, RunRemover(store, tmp_path, nobody), copied=True).delete == []

    Copier(store, tmp_path, URL).copy_due()
    server.files.rm(f"{BUCKET}/scope/{run}.ome.zarr/0/c/1/0/0")  # someone deletes an object after it was verified
    (item,) = free(store, tmp_path).keep
    assert "not complete any more: 0/c/1/0/0 has no copy there" in item.reason
    server.go_away()
    (item,) = free(store, tmp_path).keep
    assert "cannot be looked at" in item.reason
    server.come_back()
    assert (tmp_path / "recordings" / f"{run}.ome.zarr" / "0" / "c" / "1").exists()


def test_without_copies_the_rules_delete_recordings_as_before(store: Store, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    remover = RunRemover(store, tmp_path, nobody)
    (item,) = plan_retention(store, tmp_path, RetentionPart(keep_days=1e-9), remover).delete
    assert (item.run_id, item.part) == (run, "recording")


def test_a_server_that_is_away_is_waited_for(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    copier = Copier(store, tmp_path, URL)
    server.go_away()
    assert [copier.copy_due() for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    found = copy_of(store, run)
    assert found.state == "waiting"
    assert "cannot be used now" in str(found.problem)
    assert (copier.figures.place_up, copier.figures.failures) == (False, 8)
    assert kinds(store) == ["copy_place_away"]
    assert store.copies.counts().counts["waiting"] == 1
    server.come_back()
    copier.copy_due()
    found = copy_of(store, run)
    assert (found.state, found.problem) == ("verified", None)
    assert copier.figures.place_up is True
    assert kinds(store) == ["copy_place_away", "copy_place_back", "recording_copied"]
    assert store.copies.counts().oldest_waiting_s is None


def test_a_server_that_goes_away_between_two_files(
    store: Store, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded_run(tmp_path, store)
    copier = Copier(store, tmp_path, URL)
    seen = []

    def stopped() -> bool:
        seen.append(1)
        if len(seen) == 4:
            server.go_away()
        return False

    monkeypatch.setattr(copier, "_stopped", stopped)
    assert copier.copy_due() == 1.0
    assert copy_of(store, run).state == "waiting"
    server.come_back()
    sent = copier.figures.sent_bytes
    copier.copy_due()
    found = copy_of(store, run)
    assert found.state == "verified"
    assert copier.figures.sent_bytes == found.bytes > sent > 0


def test_one_wrong_recording_does_not_hold_up_the_others(
    store: Store, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, sound = recorded_run(tmp_path, store), recorded_run(tmp_path, store)
    shutil.rmtree(tmp_path / "recordings" / f"{lost}.ome.zarr")
    copier = Copier(store, tmp_path, URL)
    copier.copy_due()
    assert (copy_of(store, lost).state, copy_of(store, sound).state) == ("failed", "verified")
    assert "There is no recording" in str(copy_of(store, lost).problem)
    copier.copy_due()
    assert copier.figures.failures == 1  # tried again after a pause only
    monkeypatch.setattr(module, "_FAILED_PAUSE_S", 0.0)
    copier = Copier(store, tmp_path, URL)
    copier.copy_due()
    assert copier.figures.failures == 1
    assert kinds(store).count("copy_failed") == 1  # the same problem is told once


def test_a_share_that_is_not_mounted_gets_no_copies(store: Store, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    first = recorded_run(tmp_path, store)
    copier = Copier(store, tmp_path, str(share))
    copier.copy_due()
    assert copy_of(store, first).state == "verified"
    share.rename(tmp_path / "the share")
    share.mkdir()  # the empty folder on which it is mounted
    second = recorded_run(tmp_path, store)
    copier.copy_due()
    found = copy_of(store, second)
    assert found.state == "waiting"
    assert f"has no file {MARK}" in str(found.problem)
    assert list(share.iterdir()) == []
    (item,) = [item for item in free(store, tmp_path).keep if item.run_id == first]
    assert "is not complete any more" in item.reason
    share.rmdir()
    (tmp_path / "the share").rename(share)
    copier.copy_due()
    assert copy_of(store, second).state == "verified"
    free(store, tmp_path)
    assert_all_frames(store, tmp_path, first)  # from the folder


def test_a_recording_is_copied_by_one_process_at_a_time(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    (tmp_path / COPIES).mkdir()
    copier = Copier(store, tmp_path, URL)
    with filelock.FileLock(tmp_path / COPIES / f"{run}.lock"):
        copier.copy_due()
        with pytest.raises(InUse, match="is being copied"):
            copier.copy(store.copies.due()[0])
    assert store.runs.get(run).recording_copy is None
    copier.copy_due()
    assert copy_of(store, run).state == "verified"


def test_a_deleted_recording_keeps_its_copy(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    Copier(store, tmp_path, URL).copy_due()
    remover = RunRemover(store, tmp_path, nobody)
    remover.remove(run, "recording", "by request")
    for _ in remover.work():
        pass
    found = store.runs.get(run)
    assert (found.recording, found.recording_copy) == (None, None)
    assert f"The copy is {URL}/{run}.ome.zarr." in store.events.list().items[0].message
    assert f"scope/{run}.ome.zarr/zarr.json" in server.names()
    assert store.copies.due() == []


def test_freeing_goes_on_after_a_kill(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    Copier(store, tmp_path, URL).copy_due()
    store.removals.request(run, "local")  # and the process is killed here
    assert_all_frames(store, tmp_path, run)
    assert [each.id for each in store.runs.list().items if each.recording] == [run]
    for _ in RunRemover(store, tmp_path, nobody).work():
        pass
    assert not (tmp_path / "recordings" / f"{run}.ome.zarr").exists()
    assert store.removals.pending() == []


def test_a_missing_object_and_an_absent_server_are_told_apart(store: Store, server: S3Server, tmp_path: Path) -> None:
    run = recorded_run(tmp_path, store)
    Copier(store, tmp_path, URL).copy_due()
    free(store, tmp_path)
    image = RecordedImage(place_of_recording(tmp_path, store.runs.get(run)))
    server.files.rm(f"{BUCKET}/scope/{run}.ome.zarr/0/c/1/0/0")
    image.plane(0)
    with pytest.raises(DataError, match=r"missing: s3://lab/scope/.*/0/c/1/0/0"):
        image.plane(5)  # zarr would return zeros
    server.put(f"scope/{run}.ome.zarr/0/c/1/0/0", b"damaged" * 100)
    with pytest.raises(DataError, match="cannot be read: s3://"):
        image.plane(6)
    server.go_away()
    with pytest.raises(RemoteAway, match="Check the network"):
        image.plane(1)
    with pytest.raises(RemoteAway, match="Check the network"):
        RecordedImage(f"{URL}/{run}.ome.zarr")
    server.come_back()
    with pytest.raises(DataError, match="cannot be read"):
        RecordedImage(f"{URL}/none.ome.zarr")


def test_the_figures_are_left_in_a_file(store: Store, tmp_path: Path) -> None:
    recorded_run(tmp_path, store)
    assert read_status(tmp_path) == {}
    copier = Copier(store, tmp_path, str(tmp_path / "share"))
    copier.copy_due()
    CopiesStatus(tmp_path).write(copier.figures, store)
    found = read_status(tmp_path)
    assert (found["place_up"], found["failures"]) == (False, 1)
    assert found["recordings"] == {"waiting": 1, "copying": 0, "verified": 0, "failed": 0}
    assert time.time() - found["oldest_waiting_s"] < 60
    (tmp_path / COPIES / "status.json").write_text("[")
    assert read_status(tmp_path) == {}
