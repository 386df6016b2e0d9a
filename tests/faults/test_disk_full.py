"""The disk of the recordings fills while a run is recorded: a small file system in memory, really filled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import mounted_disk
from tests.faults.running_service import running, settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is of Linux")

DISK_MB = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose folder of recordings is a disk of a few megabytes."""
    with mounted_disk(tmp_path / "recordings", DISK_MB * 1024**2):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("floor_gb", "said"),
    [
        pytest.param(0.006, "a recording leaves at least 0.006 GB", id="down to the floor"),
        pytest.param(0.0, "No space left on device", id="to the last byte"),
    ],
)
def test_recording_stops_with_an_event_and_the_analysis_goes_on(small_disk: Path, floor_gb: float, said: str) -> None:
    with running(settings_for(small_disk, free_space_floor_gb=floor_gb)) as service:
        run = service.wait_for_run(recorded=16)
        told = service.wait_for_event("recording_stopped")
        assert said in told
        assert "The analysis goes on" in told
        assert service.readiness()[0] == 200
        analysed = service.status()["ledger"]["analysed"]
        wait_for(lambda: service.status()["ledger"]["analysed"] > analysed + 50)
        service.client.request("run.stop", {}, 60.0)
        ended = service.store.runs.get(run)
        assert said in (ended.problem or "")
        assert ended.ledger["recorded"] + ended.ledger["unrecorded"] == ended.ledger["grabbed"]
        assert (ended.ledger["unrecorded"] or 0) > 0
        assert len(service.check_recording(run)) == ended.ledger["recorded"]
        assert service.supervisor.processes["engine"]["restarts"] == 0
